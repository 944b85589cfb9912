"""Nodes as the plugin shows them: their addresses and labels, and what their agents report. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bandwidth_api import addresses
from bandwidth_api.crds import node_state
from bandwidth_api.plan import Prefix
from bandwidth_cli.objects.limits import Limit

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A Node of the cluster."""

    name: str
    labels: Mapping[str, str]
    addresses: tuple[tuple[Prefix, str], ...]  # and what each is
    ready: bool


def read(item: Json) -> Node:
    """Read one Node."""
    metadata, status, spec = _object(item.get("metadata")), _object(item.get("status")), _object(item.get("spec"))
    found: list[tuple[Prefix, str]] = []
    for each in _objects(status.get("addresses")):
        _add(found, each.get("address"), str(each.get("type", "address")))
    for text in spec.get("podCIDRs") or ():
        _add(found, text, "pod network")
    conditions = {str(c.get("type")): str(c.get("status")) for c in _objects(status.get("conditions"))}
    return Node(
        name=str(metadata.get("name", "")),
        labels={str(k): str(v) for k, v in _object(metadata.get("labels")).items()},
        addresses=tuple(found),
        ready=conditions.get("Ready", "True") == "True",
    )


def belonging(nodes: Iterable[Node], clients: Sequence[Prefix]) -> list[str]:
    """Return in words which nodes' addresses are among the clients."""
    return [
        f"{addresses.write(prefix)} is the {what} of node {node.name}"
        for node in nodes
        for prefix, what in node.addresses
        for client in clients
        if addresses.covers(client, prefix) or addresses.covers(prefix, client)
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class Holding:
    """Whether one node has a limit in force."""

    state: str  # InForce, NotInForce, Unknown or NotSelected
    why: str


def holding(limit: Limit, state: node_state.NodeState | node_state.UnreadableState) -> Holding:
    """Return what a node and the limit's own status say about this node."""
    for each in limit.failing:
        if each.name == state.node:
            return Holding("NotInForce", f"{each.reason}: {each.message}")
    if isinstance(state, node_state.UnreadableState):
        return Holding("Unknown", state.message)
    for problem in state.failing:
        if problem.name == limit.name:
            return Holding("NotInForce", f"{problem.reason}: {problem.message}")
    if state.retired:
        return Holding("NotInForce", "Retired: everything of ours is removed from this node")
    if limit.ready.status == "True" or (limit.desired and limit.programmed >= limit.desired):
        return Holding("InForce", "")
    return Holding("Unknown", limit.ready.text)


def _add(found: list[tuple[Prefix, str]], text: object, what: str) -> None:
    try:
        found.append((addresses.network(str(text)), what))
    except ValueError:
        return  # a name


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
