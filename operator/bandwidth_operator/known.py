"""The objects of the cluster as the operator knows them: frozen, read, without what means nothing to us. Pure."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
from collections.abc import Mapping
from typing import Any

from bandwidth_api import addresses, node_state, slices
from bandwidth_api import limit as limits
from bandwidth_api.conditions import Rejection
from bandwidth_api.plan import Prefix

Object = Mapping[str, Any]

SILENT_INTERVALS = 2.5  # a node that missed so many of its reports, and the grace, has stopped reporting
SILENT_GRACE_SECONDS = 30.0


class Kind(enum.Enum):
    LIMIT = "limit"
    NODE = "node"
    SLICE = "slice"
    STATE = "state"


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """A limit as last seen. `parsed` is the same object as long as the spec stays the same."""

    name: str
    uid: str
    version: int
    generation: int
    created_at: float  # seconds since the epoch
    parsed: limits.Limit | tuple[Rejection, ...]
    status: Object


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    name: str
    uid: str
    version: int
    labels: Mapping[str, str]
    ready: bool  # False only when its conditions say so
    addresses: frozenset[Prefix] = frozenset()  # that it has, inside of the cluster and outside


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    name: str
    uid: str
    version: int
    content: slices.Decoded


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    name: str
    uid: str
    version: int
    content: node_state.NodeState | node_state.UnreadableState


Known = Limit | Node | Slice | State


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything known at one moment, by name."""

    limits: Mapping[str, Limit]
    nodes: Mapping[str, Node]
    slices: Mapping[str, Slice]
    states: Mapping[str, State]


def read(kind: Kind, item: Object, before: Known | None) -> Known:
    """What an object says. `before`: the version known until now, whose parts are kept where they are the same."""
    metadata = item["metadata"]
    name, uid, version = str(metadata["name"]), str(metadata.get("uid", "")), int(metadata["resourceVersion"])
    match kind:
        case Kind.LIMIT:
            return _limit(item, name, uid, version, before)
        case Kind.NODE:
            conditions = item.get("status", {}).get("conditions") or ()
            unready = any(c.get("type") == "Ready" and c.get("status") != "True" for c in conditions)
            return Node(name, uid, version, dict(metadata.get("labels") or {}), not unready, _addresses(item))
        case Kind.SLICE:
            return Slice(name, uid, version, slices.read(item))
        case Kind.STATE:
            return State(name, uid, version, node_state.read(item))


def differs(before: Known | None, after: Known) -> bool:
    """Whether anything that means something to us changed. That a node reports again what it said last does not."""
    if before is None:
        return True
    if isinstance(before, State) and isinstance(after, State):
        was, now = before.content, after.content
        if isinstance(was, node_state.NodeState) and isinstance(now, node_state.NodeState):
            return (
                before.uid != after.uid
                or silent_from(was) < now.reported_at
                or dataclasses.replace(was, reported_at=now.reported_at) != now
            )
    return dataclasses.replace(before, version=after.version) != after


def silent_from(state: node_state.NodeState) -> float:
    """From when on a node that reports no more counts as silent, in seconds since the epoch."""
    return state.reported_at + SILENT_INTERVALS * state.report_interval_seconds + SILENT_GRACE_SECONDS


def _addresses(node: Object) -> frozenset[Prefix]:
    found: set[Prefix] = set()
    for given in node.get("status", {}).get("addresses") or ():
        if given.get("type") in ("InternalIP", "ExternalIP"):
            with contextlib.suppress(ValueError):  # whoever wrote it meant something else
                found.add(addresses.parse(str(given.get("address"))))
    return frozenset(found)


def _limit(item: Object, name: str, uid: str, version: int, before: Known | None) -> Limit:
    metadata = item["metadata"]
    generation = int(metadata.get("generation", 0))
    if isinstance(before, Limit) and (before.uid, before.generation) == (uid, generation):
        parsed = before.parsed
    else:
        parsed = limits.parse({key: item[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in item})
    created = datetime.datetime.fromisoformat(metadata["creationTimestamp"])
    return Limit(name, uid, version, generation, created.timestamp(), parsed, item.get("status") or {})
