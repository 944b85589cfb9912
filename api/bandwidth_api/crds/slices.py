"""BandwidthPlanSlice: the plan as Kubernetes objects, and its digests:

    plan            the head: which slices there are, and whether to retire
    plan-00000      about 100 entries; a limit stays in its slice while it lives
    plan-00001      …

Slices are written before the head names them and deleted after it no longer does. So a reader that holds the head
knows what is missing, and a slice that was deleted by hand lifts no limit.

Pure. What cannot be read is a value (`Unreadable`), never an exception: a reader may be older than the writer.
What an entry is in JSON is decided in `plan`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bandwidth_api import json_values, plan
from bandwidth_api.crds import asked, watching
from bandwidth_api.plan import Json, PlanEntry

KIND = "BandwidthPlanSlice"
PLURAL = "bandwidthplanslices"
SCHEMA = 1
HEAD = "plan"
DIGEST_LENGTH = 32  # hexadecimal digits
# A term below this counts leaders. Another one was written by something else, since no leader can reach it: the
# Lease that counts them holds 31 bits.
TERM_MAX = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """Some entries of the plan, in the order of their names."""

    name: str
    entries: tuple[PlanEntry, ...]
    digest: str
    term: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """The names of the slices that make up the plan. `retire`: remove everything of ours from the nodes."""

    slices: tuple[str, ...]
    retire: bool = False
    term: int = 0
    nodes: int = 0  # about how many nodes run an agent, over which they spread their reports; 0: few
    traffic: asked.Asked | None = None  # what is asked of traffic; written beside the plan, never with it
    watching: watching.Watching | None = None  # what policies ask all the time; written beside the plan as well


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that this version does not understand; `message`: why, and what to do."""

    name: str
    message: str
    term: int = 0  # as far as it can be read: no lower one can be written over it


Decoded = Slice | Head | Unreadable


# ── objects ────────────────────────────────────────────────────────────────────────────────────────────────────


def slice_name(number: int) -> str:
    """Return the name of the slice with this number; the names sort like the numbers."""
    return f"{HEAD}-{number:05d}"


def slice_number(name: str) -> int | None:
    """Return the number of the slice with this name; None for a name that `slice_name` does not make."""
    digits = name.removeprefix(f"{HEAD}-")
    return int(digits) if digits.isdecimal() and slice_name(int(digits)) == name else None


def make(name: str, entries: Iterable[PlanEntry], term: int = 0) -> Slice:
    """Make a slice of these entries, with its digest."""
    ordered = tuple(sorted(entries, key=lambda e: e.limit))
    return Slice(name, ordered, digest([plan.write_entry(e) for e in ordered]), term)


def latest_term(read: Iterable[Decoded]) -> int:
    """Return the highest term among these objects, 0 if there is none; numbers from TERM_MAX on are ignored."""
    return max((item.term for item in read if 0 <= item.term < TERM_MAX), default=0)


def write(item: Slice | Head) -> Json:
    """Return the `spec` of the object, without what is asked of traffic, which has writers of its own."""
    spec: Json = {"schema": SCHEMA, "term": item.term}
    if isinstance(item, Head):
        # Also when it is false: a field that a server-side apply leaves out keeps the value of another writer.
        own = {"slices": list(item.slices), "retire": item.retire}
        return spec | own | ({"nodes": item.nodes} if item.nodes else {})
    return spec | {"entries": [plan.write_entry(e) for e in item.entries]}


def read(item: Mapping[str, Any]) -> Decoded:
    """Read a BandwidthPlanSlice object as a slice, the head, or an `Unreadable`."""
    metadata = item.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    spec = item.get("spec")
    if not isinstance(spec, dict):
        return Unreadable(name, "it has no spec")
    term = spec.get("term")
    written = term if type(term) is int else 0
    if spec.get("schema") != SCHEMA:
        found = json_values.shown(spec.get("schema"))
        message = f"its schema is {found} and this program knows {SCHEMA}; bring this program up to date"
        return Unreadable(name, message, written)
    try:
        term = json_values.whole(spec.get("term", 0))
        if "slices" in spec:
            named = tuple([json_values.text(s, least=1) for s in json_values.items(spec["slices"])])
            traffic, watch = asked.read(spec.get("traffic")), watching.read(spec.get("watching"))
            return Head(named, spec.get("retire") is True, term, _nodes(spec.get("nodes")), traffic, watch)
        wires = json_values.items(spec.get("entries") or [])
        return Slice(name, tuple([plan.read_entry(wire) for wire in wires]), digest(wires), term)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"[:200]
        message = f"it is not of schema {SCHEMA}, though it says so ({why}); look who wrote it"
        return Unreadable(name, message, written)


def _nodes(value: object) -> int:
    """A number of nodes; 0 for anything else, since a head must not be lost for what only spreads reports."""
    return value if type(value) is int and value > 0 else 0


def digest(entries: Sequence[Json]) -> str:
    """Return the digest of a slice's `spec.entries`, from their canonical JSON."""
    return _hash(json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())


def plan_digest(slices: Mapping[str, str], *, retire: bool = False) -> str:
    """Return the digest of a plan from those of its slices by name, in the order of the names.

    The head has no part in it, except for `retire`: only what a node enforces counts.
    """
    text = "retire" if retire else "".join(f"{name} {slices[name]}\n" for name in sorted(slices))
    return _hash(text.encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]
