"""All node states → what became of each limit. Pure.

    node state: digest ─ history ─▶ step n ─▶ everything that changed at n or before is programmed,
                                              but what is listed as failing

Costs one pass over the nodes and, per limit, a bisection: never limits × nodes.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api import node_state, selector
from bandwidth_api.conditions import Reason, Rejection
from bandwidth_api.plan import PlanEntry, SelectorTerm
from bandwidth_operator import history, known

FAILING_MAX = 10


class FailingNode(NamedTuple):
    name: str
    reason: str
    message: str


class Verdict(NamedTuple):
    """What became of one limit. `desired` = `programmed` + `failed` + those that have not answered yet."""

    rejected: tuple[Rejection, ...] = ()  # what is written now cannot be used
    left_out: Rejection | None = None  # disabled or expired
    published: bool = False  # in a slice as it is now
    desired: int = 0
    programmed: int = 0
    failed: int = 0
    failing: tuple[FailingNode, ...] = ()  # the first FAILING_MAX by name
    winners: tuple[str, ...] = ()  # limits that win over it somewhere
    entry: PlanEntry | None = None  # what is enforced; of an earlier version where the present one is rejected
    agents: int = 0  # nodes that run an agent, selected or not

    @property
    def programmed_everywhere(self) -> bool:
        return self.published and self.desired == self.programmed > 0


@dataclasses.dataclass(frozen=True, slots=True)
class NodeView:
    """One node that runs an agent. `step`: how far it is; None if it cannot be said."""

    name: str
    labels: Mapping[str, str]
    step: int | None
    trouble: tuple[Reason, str] | None  # it cannot be relied upon at all
    failing: Mapping[str, node_state.FailingLimit]
    listed_up_to: str | None
    all_fail: bool


def views(snapshot: known.Snapshot, plans: history.History, now: float) -> list[NodeView]:
    """The nodes that run an agent, in the order of their names; `now` in seconds since the epoch."""
    found = []
    for name in sorted(snapshot.states):
        node = snapshot.nodes.get(name)
        if node is None:
            continue  # the state of a node that is gone, not yet collected
        content = snapshot.states[name].content
        if isinstance(content, node_state.UnreadableState):
            trouble = (Reason.NODE_NOT_REPORTING, content.message)
            found.append(NodeView(name, node.labels, None, trouble, {}, None, False))
            continue
        found.append(
            NodeView(
                name=name,
                labels=node.labels,
                step=plans.step_of(content.plan_digest) if content.plan_complete else None,
                trouble=_trouble(node, content, now),
                failing={f.name: f for f in content.failing},
                listed_up_to=content.listed_up_to,
                all_fail=0 < content.desired == content.failed,
            )
        )
    return found


def _trouble(node: known.Node, state: node_state.NodeState, now: float) -> tuple[Reason, str] | None:
    if state.retired:
        return Reason.NODE_NOT_REPORTING, "its agent was told to retire and has removed everything; start it anew"
    if not node.ready:
        return Reason.NODE_NOT_REPORTING, "the node is not Ready, so nobody knows what it does; look at the node"
    if known.silent_from(state) < now:
        since = datetime.datetime.fromtimestamp(state.reported_at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Reason.NODE_NOT_REPORTING, f"its agent has not reported since {since}; look at the agent's pod there"
    return None


class _Group:
    """The nodes that one selector selects, arranged for quick answers."""

    def __init__(self, nodes: Sequence[NodeView]) -> None:
        self.size = len(nodes)
        self.names = frozenset(n.name for n in nodes)
        self.troubled = [n for n in nodes if n.trouble is not None]
        # Nodes whose list of failing limits does not say all: they have to be looked at for each limit.
        self.partial = [n for n in nodes if n.trouble is None and n.step is not None and n.listed_up_to is not None]
        self.steps = sorted(n.step for n in nodes if n.trouble is None and n.step is not None)

    def reached(self, step: int) -> int:
        """How many healthy nodes are at least so far."""
        return len(self.steps) - bisect.bisect_left(self.steps, step)


class Rollup:
    """The nodes' answers, ready to be asked about one limit after another."""

    def __init__(self, nodes: Sequence[NodeView], plans: history.History) -> None:
        self._nodes = nodes
        self._plans = plans
        self._groups: dict[tuple[SelectorTerm, ...], _Group] = {}
        self._failing: dict[str, list[NodeView]] = collections.defaultdict(list)
        for node in nodes:
            if node.trouble is None and node.step is not None:
                for name in node.failing:
                    self._failing[name].append(node)

    def judge(self, entry: PlanEntry, winners: tuple[str, ...] = ()) -> Verdict:
        """What became of one limit that is in the plan."""
        group = self._group(entry.node_selector)
        changed_at = self._plans.changed_at(entry.limit)
        agents = len(self._nodes)
        failing = self._failing_nodes(entry.limit, group, changed_at)
        failed = len(failing)
        reached = 0 if changed_at is None else group.reached(changed_at)
        programmed = max(0, reached - (failed - len(group.troubled)))
        first = tuple(sorted(failing)[:FAILING_MAX])
        published = changed_at is not None
        return Verdict((), None, published, group.size, programmed, failed, first, winners, entry, agents)

    def _group(self, terms: tuple[SelectorTerm, ...]) -> _Group:
        group = self._groups.get(terms)
        if group is None:
            group = _Group([n for n in self._nodes if selector.selects(terms, n.labels)])
            self._groups[terms] = group
        return group

    def _failing_nodes(self, limit: str, group: _Group, changed_at: int | None) -> list[FailingNode]:
        found = [FailingNode(n.name, n.trouble[0].value, n.trouble[1]) for n in group.troubled if n.trouble is not None]
        if changed_at is None:
            return found
        for node in self._failing.get(limit, ()):
            if node.name in group.names and node.step is not None and node.step >= changed_at:
                listed = node.failing[limit]
                found.append(FailingNode(node.name, listed.reason, listed.message))
        for node in group.partial:
            if node.step is not None and node.step >= changed_at and limit not in node.failing:
                found.extend(_unlisted(node, limit))
        return found


def _unlisted(node: NodeView, limit: str) -> Iterator[FailingNode]:
    """What a node says of a limit that is not in its list, when the list does not hold all that fail."""
    if node.all_fail:
        first = next(iter(node.failing.values()), None)
        reason, message = (first.reason, first.message) if first else (Reason.KERNEL_REFUSED.value, "every limit fails")
        yield FailingNode(node.name, reason, message)
    elif node.listed_up_to is not None and limit > node.listed_up_to:
        message = (
            "more limits fail on this node than its report can name, perhaps this one too; mend the named ones first"
        )
        yield FailingNode(node.name, Reason.KERNEL_REFUSED.value, message)


def signatures(entries: Iterable[PlanEntry], nodes: Sequence[NodeView]) -> list[Mapping[str, str]]:
    """Labels of one node for each different set of limits that nodes enforce; one without labels if there is none."""
    selectors = {e.node_selector for e in entries if e.node_selector}
    found: dict[tuple[bool, ...], Mapping[str, str]] = {}
    for node in nodes:
        key = tuple(selector.selects(terms, node.labels) for terms in selectors)
        found.setdefault(key, node.labels)
    return list(found.values()) or [{}]


def census(nodes: Iterable[NodeView], current: int | None) -> dict[str, int]:
    """How many nodes are at the current step, behind it, or in trouble."""
    counts = {"current": 0, "behind": 0, "troubled": 0}
    for node in nodes:
        word = "troubled" if node.trouble is not None else "current" if node.step == current else "behind"
        counts[word] += 1
    return counts
