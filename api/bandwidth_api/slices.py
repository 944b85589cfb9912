"""BandwidthPlanSlice: plan entries ↔ JSON, digests. The plan as Kubernetes objects:

    plan            the head: which slices there are, and whether to retire
    plan-00000      about 100 entries; a limit stays in its slice while it lives
    plan-00001      …

Slices are written before the head names them and deleted after it no longer does. So a reader that holds the head
knows what is missing, and a slice that somebody deleted lifts no limit.

Pure. What cannot be read is a value (`Unreadable`), never an exception: a reader may be older than the writer.
Entries carry no uid and no generation: an edit that changes nothing a node enforces must not reach every node.
Times are whole seconds: an end is rounded up, so that no limit ends early.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bandwidth_api import addresses
from bandwidth_api.plan import Mode, PlanEntry, PortRange, Prefix, SelectorTerm, Sharing

KIND = "BandwidthPlanSlice"
PLURAL = "bandwidthplanslices"
SCHEMA = 1
HEAD = "plan"
DIGEST_LENGTH = 32  # hexadecimal digits

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """Some entries of the plan, in the order of their names."""

    name: str
    entries: tuple[PlanEntry, ...]
    digest: str
    term: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """Which slices make up the plan. `retire`: take all limits away and everything of ours with them."""

    slices: tuple[str, ...]
    retire: bool = False
    term: int = 0
    nodes: int = 0  # about how many nodes run an agent, over which they spread their reports; 0: few


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that this version does not understand; `message` says why and what to do."""

    name: str
    message: str


Decoded = Slice | Head | Unreadable


# ── entries ────────────────────────────────────────────────────────────────────────────────────────────────────


def write_entry(entry: PlanEntry) -> Json:
    """One entry as JSON; what is at its default is left out."""
    wire: Json = {
        "name": entry.limit,
        "clients": [addresses.write(p) for p in entry.clients],
        "rate": entry.rate_bits_per_second,
        "created": math.floor(entry.created_at),
    }
    if entry.excepted:
        wire["except"] = [addresses.write_cidr(p) for p in entry.excepted]
    if entry.ports:
        wire["ports"] = [f"{p.protocol}:{p.first}-{p.last}" for p in entry.ports]
    if entry.burst_bytes is not None:
        wire["burst"] = entry.burst_bytes
    if entry.mode is not Mode.ENFORCE:
        wire["mode"] = entry.mode.value
    if entry.sharing is not Sharing.SHARED:
        wire["sharing"] = entry.sharing.value
    if entry.priority:
        wire["priority"] = entry.priority
    if entry.expires_at is not None:
        wire["expires"] = math.ceil(entry.expires_at)
    if entry.node_selector:
        wire["nodeSelector"] = [
            {"key": t.key, "operator": t.operator, "values": list(t.values)} for t in entry.node_selector
        ]
    return wire


def read_entry(wire: Json) -> PlanEntry:
    """One entry from JSON. Raises ValueError, TypeError or KeyError for what no writer of this schema writes."""
    get = wire.get
    expires = get("expires")
    burst = get("burst")
    excepted = get("except")
    ports = get("ports")
    selector = get("nodeSelector")
    return PlanEntry(
        limit=_text(wire["name"]),
        uid="",
        generation=0,
        clients=tuple([_prefix(text) for text in wire["clients"]]),
        excepted=tuple([_prefix(text) for text in excepted]) if excepted else (),
        ports=tuple([_ports(text) for text in ports]) if ports else (),
        rate_bits_per_second=_positive(wire["rate"]),
        burst_bytes=None if burst is None else _positive(burst),
        mode=_MODES[get("mode", "Enforce")],
        sharing=_SHARINGS[get("sharing", "Shared")],
        priority=_whole(get("priority", 0)),
        created_at=float(_whole(wire["created"])),
        expires_at=None if expires is None else float(_whole(expires)),
        node_selector=tuple([_term(each) for each in selector]) if selector else (),
    )


_MODES = {Mode.ENFORCE.value: Mode.ENFORCE, Mode.OBSERVE.value: Mode.OBSERVE}
_SHARINGS = {s.value: s for s in Sharing}
_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})
_PROTOCOLS = frozenset({"TCP", "UDP"})


def _text(value: object) -> str:
    if type(value) is not str or not value:
        raise ValueError(f"{value!r} is no text")
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value


def _nodes(value: object) -> int:
    """A number of nodes; 0 for anything else, since a head must not be lost for what only spreads reports."""
    return value if type(value) is int and value > 0 else 0


def _positive(value: object) -> int:
    if _whole(value) <= 0:
        raise ValueError(f"{value!r} is not positive")
    return value  # type: ignore[return-value]  # _whole looked


def _prefix(text: str) -> Prefix:
    """As `addresses.parse`, without its words for people and so ten times as fast."""
    address, slash, length_text = text.partition("/")
    family, bits = (6, 128) if ":" in address else (4, 32)
    try:
        packed = socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, address)
    except OSError as error:
        raise ValueError(f"{text!r} is no address") from error
    network = int.from_bytes(packed, "big")
    if not slash:
        return Prefix(family, network, bits)
    length = int(length_text)
    if not 0 <= length <= bits or network & ((1 << (bits - length)) - 1):
        raise ValueError(f"{text!r} is no CIDR without host bits")
    return Prefix(family, network, length)


def _ports(text: str) -> PortRange:
    protocol, _, numbers = text.partition(":")
    first, _, last = numbers.partition("-")
    ports = PortRange(protocol, int(first), int(last))
    if protocol not in _PROTOCOLS or not 1 <= ports.first <= ports.last <= 65535:
        raise ValueError(f"{text!r} is no range of ports")
    return ports


def _term(wire: Json) -> SelectorTerm:
    operator = wire["operator"]
    if operator not in _OPERATORS:
        raise ValueError(f"{operator!r} is no operator of a node selector")
    return SelectorTerm(_text(wire["key"]), operator, tuple([str(value) for value in wire.get("values") or ()]))


# ── objects ────────────────────────────────────────────────────────────────────────────────────────────────────


def slice_name(number: int) -> str:
    """The name of the slice with this number; their order is that of the numbers."""
    return f"{HEAD}-{number:05d}"


def slice_number(name: str) -> int | None:
    """The number of a slice of this name; None for a name that `slice_name` does not make."""
    digits = name.removeprefix(f"{HEAD}-")
    return int(digits) if digits.isdecimal() and slice_name(int(digits)) == name else None


def make(name: str, entries: Iterable[PlanEntry], term: int = 0) -> Slice:
    """A slice of these entries."""
    ordered = tuple(sorted(entries, key=lambda e: e.limit))
    return Slice(name, ordered, digest([write_entry(e) for e in ordered]), term)


def write(item: Slice | Head) -> Json:
    """The `spec` of the object."""
    spec: Json = {"schema": SCHEMA, "term": item.term}
    if isinstance(item, Head):
        # Also when it is false: what is left out of a server-side apply stays as somebody else wrote it.
        said = {"slices": list(item.slices), "retire": item.retire}
        return spec | said | ({"nodes": item.nodes} if item.nodes else {})
    return spec | {"entries": [write_entry(e) for e in item.entries]}


def read(item: Mapping[str, Any]) -> Decoded:
    """What a BandwidthPlanSlice object says."""
    name = str(item.get("metadata", {}).get("name", ""))
    spec = item.get("spec")
    if not isinstance(spec, dict):
        return Unreadable(name, "it has no spec")
    if spec.get("schema") != SCHEMA:
        message = f"its schema is {spec.get('schema')!r} and this program knows {SCHEMA}; bring this program up to date"
        return Unreadable(name, message)
    try:
        term = _whole(spec.get("term", 0))
        if "slices" in spec:
            named = tuple([_text(s) for s in spec["slices"]])
            return Head(named, spec.get("retire") is True, term, _nodes(spec.get("nodes")))
        wires = spec.get("entries") or []
        return Slice(name, tuple([read_entry(wire) for wire in wires]), digest(wires), term)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Unreadable(name, f"it is not of schema {SCHEMA}, though it says so ({error!r}); look who wrote it")


def digest(entries: Sequence[Json]) -> str:
    """The digest of a slice's `spec.entries`, from their canonical JSON."""
    return _hash(json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())


def plan_digest(slices: Mapping[str, str], *, retire: bool = False) -> str:
    """The digest of a plan from those of its slices by name, in the order of the names.

    Which slices the head names is no part of it, nor is what else it says: only what a node enforces is.
    """
    text = "retire" if retire else "".join(f"{name} {slices[name]}\n" for name in sorted(slices))
    return _hash(text.encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]
