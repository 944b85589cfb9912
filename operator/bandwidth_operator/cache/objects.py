"""Reads the objects of the cluster into frozen values, without the fields that do not matter to us. Pure.

Nothing in an object is trusted: a field of the wrong type is ignored, and an object without a name or a version is a
value (`Unreadable`), never an exception.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bandwidth_api import addresses
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import limit as limits
from bandwidth_api.crds import node_state, slices
from bandwidth_api.kinds import Kind
from bandwidth_api.plan import Prefix

Object = Mapping[str, Any]

SILENT_INTERVALS = 2.5  # a node that missed so many of its reports, and the grace, has stopped reporting
SILENT_GRACE_SECONDS = 30.0
INTERVAL_MAX_SECONDS = 3600  # a longer one is not believed: such a node would count as reporting for ever
NAME_MAX = 253


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """A limit as last seen. `parsed` is the same object as long as the spec stays the same and is accepted."""

    name: str
    uid: str
    version: int
    generation: int
    created_at: float | None  # seconds since the epoch; None: not given
    parsed: limits.Limit | tuple[Problem, ...]
    status: Object


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    name: str
    uid: str
    version: int
    labels: Mapping[str, str]
    ready: bool  # False only by its conditions
    addresses: frozenset[Prefix] = frozenset()  # that it has, inside of the cluster and outside
    pod_networks: frozenset[Prefix] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    name: str
    uid: str
    version: int
    content: slices.Decoded


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What a node reports. `heard_at`: by our own clock, since the node's may be wrong."""

    name: str
    uid: str
    version: int
    content: node_state.NodeState | node_state.UnreadableState
    heard_at: float = 0.0  # monotonic: when we saw the report change
    written_at: float | None = None  # seconds since the epoch, by the API server's clock
    gone: bool = False  # the object was deleted; the node is still there and does what it did


class Moment(NamedTuple):
    """The time at which something was read, by two clocks."""

    monotonic: float = 0.0
    server: float | None = None  # seconds since the epoch, by the API server's clock; None: not known yet


class Unreadable(NamedTuple):
    """An object without the fields that every object has; `name` is "" if it has none."""

    name: str
    message: str


class Identity(NamedTuple):
    name: str
    uid: str
    version: int


Known = Limit | Node | Slice | State


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """All objects at one moment, by name."""

    limits: Mapping[str, Limit]
    nodes: Mapping[str, Node]
    slices: Mapping[str, Slice]
    states: Mapping[str, State]
    cluster_addresses: Mapping[Prefix, str] = dataclasses.field(
        default_factory=dict
    )  # what the cluster needs beside nodes


def identify(item: object) -> Identity | Unreadable:
    """Return name, uid and version of an object, or that it is unreadable."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        metadata = {}
    name = metadata.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
        return Unreadable("", "an object without a name")
    version = metadata.get("resourceVersion")
    if not isinstance(version, str) or not (version.isascii() and version.isdigit()) or len(version) > 20:
        return Unreadable(name, f"its resource version is {str(version)[:40]!r}, which is no number")
    return Identity(name, str(metadata.get("uid") or ""), int(version))


def read(kind: Kind, item: Object, before: Known | None, moment: Moment = Moment()) -> Known | Unreadable:  # noqa: B008
    """Read an object. `before`: the version known until now, whose parts are reused where they are equal."""
    identity = identify(item)
    if isinstance(identity, Unreadable):
        return identity
    name, uid, version = identity
    match kind:
        case Kind.LIMIT:
            return _limit(item, name, uid, version, before)
        case Kind.NODE:
            conditions = _mappings(_mapping(item.get("status")).get("conditions"))
            unready = any(c.get("type") == "Ready" and c.get("status") != "True" for c in conditions)
            given = _mapping(_mapping(item["metadata"]).get("labels"))
            labels = {str(key): str(value) for key, value in given.items()}
            return Node(name, uid, version, labels, not unready, _addresses(item), _pod_networks(item))
        case Kind.SLICE:
            return Slice(name, uid, version, slices.read(item))
        case Kind.STATE:
            return _state(item, name, uid, version, before, moment)


def in_doubt(item: Known) -> bool:
    """Return whether an object may have been damaged between the API server and us.

    A limit that is invalid counts as such, because the API server refuses nearly all invalid limits itself.
    """
    return isinstance(item, Limit) and not isinstance(item.parsed, limits.Limit)


def differs(before: Known | None, after: Known, own_status: Object | None = None) -> bool:
    """Whether anything that means something to us changed; `own_status`: of a limit, as we write it just now.

    Neither that a node reports the same again does, nor a status of our own.
    """
    if before is None:
        return True
    if isinstance(before, State) and isinstance(after, State):
        was, now = before.content, after.content
        if isinstance(was, node_state.NodeState) and isinstance(now, node_state.NodeState):
            return (
                before.uid != after.uid
                or before.gone != after.gone
                or after.heard_at - before.heard_at > silent_after_seconds(was)
                or dataclasses.replace(was, reported_at=now.reported_at) != now
            )
        return was != now or before.gone != after.gone
    if isinstance(before, Limit) and isinstance(after, Limit) and after.status == own_status:
        before = dataclasses.replace(before, status=after.status)
    if isinstance(before, Slice) and isinstance(after, Slice):
        # What is asked of traffic, by questions and by policies, is no part of the plan.
        before, after = _without_traffic(before), _without_traffic(after)
    return dataclasses.replace(before, version=after.version) != after


def _without_traffic(each: Slice) -> Slice:
    if not isinstance(each.content, slices.Head):
        return each
    return dataclasses.replace(each, content=dataclasses.replace(each.content, traffic=None, watching=None))


def is_gone(each: Known | None) -> bool:
    """Return whether this stands for a deleted state."""
    return isinstance(each, State) and each.gone


def outlives(state: State, now: float) -> bool:
    """Whether a node is counted although its state was deleted: until it would have been silent anyway; monotonic."""
    retired = isinstance(state.content, node_state.NodeState) and state.content.retired
    return not retired and silent_at(state) > now


def silent_after_seconds(state: node_state.NodeState) -> float:
    """Return for how long a node may report nothing before it counts as silent."""
    return SILENT_INTERVALS * min(state.report_interval_seconds, INTERVAL_MAX_SECONDS) + SILENT_GRACE_SECONDS


def silent_at(state: State) -> float:
    """Return when a node counts as silent if it reports no more, monotonic; one that never reported does at once."""
    content = state.content
    return state.heard_at + silent_after_seconds(content) if isinstance(content, node_state.NodeState) else -math.inf


def _state(item: Object, name: str, uid: str, version: int, before: Known | None, moment: Moment) -> State:
    content, written_at = node_state.read(item), _written_at(item)
    if isinstance(before, State) and before.gone and not item.get("status"):
        # Made again a moment ago: the report follows. Until then the last report of the node counts.
        return State(name, uid, version, before.content, before.heard_at, before.written_at)
    if isinstance(before, State):
        heard_at = before.heard_at if (before.uid, before.content) == (uid, content) else moment.monotonic
    else:
        # Not seen until now, it may be old. The API server dates each write, and its clock is one for all nodes.
        age = 0.0 if moment.server is None or written_at is None else max(0.0, moment.server - written_at)
        heard_at = moment.monotonic - age
    return State(name, uid, version, content, heard_at, written_at)


def _written_at(item: Object) -> float | None:
    """Return when the status was last written, by the API server's clock; None if unknown."""
    fields = _mappings(_mapping(item["metadata"]).get("managedFields"))
    written = (seconds(entry.get("time")) for entry in fields if entry.get("subresource"))
    return max((at for at in written if at is not None), default=None)


def seconds(text: object) -> float | None:
    """Parse a time of the API server into seconds since the epoch; None for any other text."""
    try:
        return datetime.datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None


def _mapping(value: object) -> Object:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> Iterator[Object]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())


def _addresses(node: Object) -> frozenset[Prefix]:
    found: set[Prefix] = set()
    for given in _mappings(_mapping(node.get("status")).get("addresses")):
        if given.get("type") in ("InternalIP", "ExternalIP"):
            with contextlib.suppress(ValueError):  # whoever wrote it meant something else
                found.add(addresses.network(str(given.get("address"))))
    return frozenset(found)


def _pod_networks(node: Object) -> frozenset[Prefix]:
    found: set[Prefix] = set()
    spec = _mapping(node.get("spec"))
    several = spec.get("podCIDRs")
    for text in (spec.get("podCIDR"), *(several if isinstance(several, list) else ())):
        with contextlib.suppress(ValueError):
            found.add(addresses.network(str(text)))
    return frozenset(found)


def _limit(item: Object, name: str, uid: str, version: int, before: Known | None) -> Limit:
    metadata = item["metadata"]
    given = metadata.get("generation", 0)
    generation = given if type(given) is int else 0
    same = isinstance(before, Limit) and (before.uid, before.generation) == (uid, generation)
    if (
        isinstance(before, Limit)
        and same
        and isinstance(before.parsed, limits.Limit)
        and _is_marked(before.parsed, metadata)
    ):
        parsed: limits.Limit | tuple[Problem, ...] = before.parsed
    else:
        parsed = limits.parse({key: item[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in item})
    created_at = before.created_at if isinstance(before, Limit) and before.uid == uid else None
    if created_at is None:
        created_at = seconds(metadata.get("creationTimestamp"))
    if created_at is None:
        message = "it has no time of creation, which the API server gives every object; look what is between it and us"
        parsed = (Problem(Reason.INVALID, message, "metadata.creationTimestamp"),)
    return Limit(name, uid, version, generation, created_at, parsed, _status(item))


def _is_marked(parsed: limits.Limit, metadata: Object) -> bool:
    """Return whether the label of a limit that a policy made is as it was: labels change without a generation."""
    return parsed.metadata.policy == limits.policy_of(metadata.get("labels"))


def _status(item: Object) -> Object:
    """Return the status as written, without conditions that are invalid."""
    status = _mapping(item.get("status"))
    conditions = status.get("conditions")
    if conditions is None or (isinstance(conditions, list) and all(isinstance(c, dict) for c in conditions)):
        return status
    return {**status, "conditions": list(_mappings(conditions))}
