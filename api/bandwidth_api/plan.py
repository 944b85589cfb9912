"""The plan: what was compiled from all limits, as pure data.

A `PlanEntry` is one limit with its rates in bits per second, its addresses as integers and its rank among
overlapping limits. `write_entry` and `read_entry` are its one form in JSON, in the cluster and on disk.

Which entries are in force on one node at one time, and which of them wins where they overlap, is decided on the node
(`compiler.overlap`): node selectors and expiry differ from node to node and from second to second, so the winner does.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bandwidth_api import address_text, json_values, units
from bandwidth_api.conditions import Problem


class Prefix(NamedTuple):
    """An IPv4 or IPv6 network; `network` has no host bits. A single address has length 32 or 128."""

    family: int  # 4 or 6
    network: int
    length: int


class PortRange(NamedTuple):
    """Service ports as the client dialled them, before any DNAT. `last` is included."""

    protocol: str  # "TCP" or "UDP"
    first: int
    last: int


class Mode(enum.StrEnum):
    ENFORCE = "Enforce"
    OBSERVE = "Observe"
    DISABLED = "Disabled"


class Sharing(enum.StrEnum):
    SHARED = "Shared"
    PER_ENTRY = "PerEntry"


class Distribution(enum.StrEnum):
    PER_NODE = "PerNode"
    SPLIT_EVENLY = "SplitEvenly"


class SelectorTerm(NamedTuple):
    """One requirement on a node's labels; all of them must hold. `operator` as in Kubernetes label selectors."""

    key: str
    operator: str  # In, NotIn, Exists, DoesNotExist
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class PlanEntry:
    """One accepted limit, in the units of the plan."""

    limit: str
    uid: str
    generation: int
    clients: tuple[Prefix, ...]
    excepted: tuple[Prefix, ...]
    ports: tuple[PortRange, ...]  # empty: every port and protocol
    rate_bits_per_second: int  # what one node enforces
    burst_bytes: int | None  # None: the agent computes it from the rate
    mode: Mode  # never DISABLED in a plan
    sharing: Sharing
    priority: int
    created_at: float  # seconds since the epoch; older wins a tie
    expires_at: float | None  # seconds since the epoch
    node_selector: tuple[SelectorTerm, ...]  # empty: every node


# ── the entry as JSON ──────────────────────────────────────────────────────────────────────────────────────────────

Json = dict[str, Any]

PRIORITY_MAX = 1 << 31
_MODES = {mode.value: mode for mode in Mode}
_MODES_IN_A_PLAN = {mode.value: mode for mode in Mode if mode is not Mode.DISABLED}
_SHARINGS = {sharing.value: sharing for sharing in Sharing}
_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})
_PROTOCOLS = frozenset({"TCP", "UDP"})
_NAME = re.compile(r"[!-~]{1,253}")
_PREFIX = functools.partial(tuple.__new__, Prefix)  # a tenth of a microsecond faster: there are tens of thousands
_HOST_BITS = {f: [(1 << (bits - length)) - 1 for length in range(bits + 1)] for f, bits in address_text.BITS.items()}


def write_entry(entry: PlanEntry, *, exact: bool = False) -> Json:
    """Return one entry as JSON, without fields that have their default.

    In a plan, times are whole seconds, an end rounded up so that no limit ends early, and uid and generation are left
    out: an edit that changes nothing a node enforces must not reach every node. `exact` keeps all that.
    """
    wire: Json = {
        "name": entry.limit,
        "clients": [address_text.write(*p) for p in entry.clients],
        "rate": entry.rate_bits_per_second,
        "created": entry.created_at if exact else math.floor(entry.created_at),
    }
    if entry.excepted:
        wire["except"] = [address_text.write_cidr(*p) for p in entry.excepted]
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
        wire["expires"] = entry.expires_at if exact else math.ceil(entry.expires_at)
    if entry.node_selector:
        wire["nodeSelector"] = write_selector(entry.node_selector)
    if exact:
        wire |= {"uid": entry.uid, "generation": entry.generation}
    return wire


def read_entry(wire: Json, *, exact: bool = False) -> PlanEntry:
    """Read one entry that `write_entry` has made; raises ValueError, TypeError or KeyError for anything else."""
    get = wire.get
    seconds = json_values.seconds if exact else json_values.whole_seconds
    modes = _MODES if exact else _MODES_IN_A_PLAN
    expires, burst = get("expires"), get("burst")
    excepted, ports, selector = get("except"), get("ports"), get("nodeSelector")
    return PlanEntry(
        limit=_name(wire["name"]),
        uid=json_values.text(get("uid", "")) if exact else "",
        generation=json_values.within(get("generation", 0), 0, 1 << 63) if exact else 0,
        clients=tuple([_prefix(text) for text in json_values.items(wire["clients"])]),
        excepted=tuple([_prefix(text) for text in json_values.items(excepted)]) if excepted else (),
        ports=tuple([_ports(text) for text in json_values.items(ports)]) if ports else (),
        rate_bits_per_second=json_values.within(wire["rate"], 1, units.RATE_MAX),
        burst_bytes=None if burst is None else json_values.within(burst, 1, units.BURST_MAX),
        mode=modes[get("mode", "Enforce")],
        sharing=_SHARINGS[get("sharing", "Shared")],
        priority=json_values.within(get("priority", 0), -PRIORITY_MAX, PRIORITY_MAX),
        created_at=seconds(wire["created"]),
        expires_at=None if expires is None else seconds(expires),
        node_selector=read_selector(selector) if selector else (),
    )


def _name(value: object) -> str:
    if type(value) is not str or _NAME.fullmatch(value) is None:
        raise ValueError(f"{json_values.shown(value)} is no name of a limit")
    return value


def _prefix(text: str) -> Prefix:
    """As `addresses.parse`, without its words for people and so in a fraction of the time."""
    found = address_text.read(text)
    if found is None:
        raise ValueError(f"{text!r} is no address or CIDR")
    family, network, length = found
    if network & _HOST_BITS[family][length]:
        raise ValueError(f"{text!r} has host bits")
    return _PREFIX(found)


def _ports(text: str) -> PortRange:
    protocol, _, numbers = text.partition(":")
    first, _, last = numbers.partition("-")
    ports = PortRange(protocol, int(first), int(last))
    if protocol not in _PROTOCOLS or not 1 <= ports.first <= ports.last <= 65535:
        raise ValueError(f"{text!r} is no range of ports")
    return ports


def write_selector(selector: Iterable[SelectorTerm]) -> list[Json]:
    """Return a node selector as JSON."""
    return [{"key": term.key, "operator": term.operator, "values": list(term.values)} for term in selector]


def read_selector(wire: object) -> tuple[SelectorTerm, ...]:
    """Read a node selector. Raises ValueError, KeyError or TypeError."""
    return tuple([_term(each) for each in json_values.items(wire)])


def _term(wire: Json) -> SelectorTerm:
    operator = wire["operator"]
    if operator not in _OPERATORS:
        raise ValueError(f"{operator!r} is no operator of a node selector")
    values = tuple(json_values.items(wire.get("values") or []))
    if not all(type(value) is str for value in values):
        raise ValueError("a value of a node selector is no text")
    return SelectorTerm(json_values.text(wire["key"], least=1), operator, values)


# ── plans ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """All accepted limits, by name."""

    entries: Mapping[str, PlanEntry]


class ClassKey(NamedTuple):
    """What has one rate of its own: a limit, or one `clients` entry of a PerEntry limit (canonical text)."""

    limit: str
    client: str  # "" when all clients of the limit share one rate


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A longest-prefix-match table for one family and one set of ports.

    `entries[prefix]` is the class that an address in this prefix (and in no longer one of the table) belongs to;
    None means: no limit in this table, an explicit hole in a shorter prefix.
    """

    family: int
    ports: tuple[PortRange, ...]  # empty: every port and protocol
    entries: Mapping[Prefix, ClassKey | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Resolution:
    """Which limit wins at which address and port, on one node at one time.

    A packet is looked up in the table without ports of its family first, then in the tables with ports; their port
    sets are pairwise disjoint, so at most one applies; where that one finds a class it replaces the first answer,
    where it finds nothing or a hole the first answer stays.
    """

    tables: tuple[Table, ...]
    classes: Mapping[ClassKey, PlanEntry]  # only classes that at least one table entry names
    overridden: Mapping[str, tuple[str, ...]]  # limit → limits that win over it somewhere, sorted; not more than a few
    left_out: Mapping[str, Problem] = dataclasses.field(default_factory=dict)  # limits in no table: `overlap_budget`
