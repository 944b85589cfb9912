"""Works out the outcome of each limit from all node states. Pure.

    node state: digest ─ history ─▶ step n ─▶ everything that changed at n or before is programmed,
                                              but what is listed as failing

On a node that shows a sign of a datapath which skips netfilter, programmed is not enough: some selected node must have
verified the limit. Once one has, it counts until it reports the limit as failing, more than words change, or it goes:
not every report has room for every name, and an agent that starts again knows of no packet (`Held`).

Costs one pass over the nodes and, per limit, a bisection: never limits × nodes.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import datetime
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api.compiler import selector
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import node_state
from bandwidth_api.plan import PlanEntry, SelectorTerm
from bandwidth_operator.cache import history, objects

FAILING_MAX = 10
VERIFIED_MAX = 3  # nodes that are named where a limit was verified; one is enough, and some may go
_NAME = operator.attrgetter("name")


class Held(NamedTuple):
    """Where a limit was verified in its present form, as its status says."""

    number: int = 0
    nodes: tuple[str, ...] = ()  # the first ones


class Outcome(NamedTuple):
    """The outcome of one limit. `desired` = `programmed` + `failed` + the nodes that have not reported yet."""

    rejected: tuple[Problem, ...] = ()  # what is written now cannot be used
    left_out: Problem | None = None  # disabled or expired
    published: bool = False  # in a slice as it is now
    desired: int = 0
    programmed: int = 0
    failed: int = 0
    failing: tuple[Problem, ...] = ()  # the first FAILING_MAX by the name of the node
    winners: tuple[str, ...] = ()  # limits that win over it somewhere
    entry: PlanEntry | None = None  # what is enforced; of an earlier version where the present one is rejected
    agents: int = 0  # nodes that run an agent, selected or not
    bypassed: int = 0  # of `failed`: nodes that saw its packets leave past its class
    verified: Held | None = None  # nodes that saw its class hold them; None: no selected node shows a reason to ask
    doubt: Problem | None = None  # on a node where it may be bypassed unseen

    @property
    def programmed_everywhere(self) -> bool:
        return self.published and self.desired == self.programmed > 0


@dataclasses.dataclass(frozen=True, slots=True)
class NodeView:
    """One node that runs an agent. `step`: the step of the plan that it has programmed; None if unknown."""

    name: str
    labels: Mapping[str, str]
    step: int | None
    problem: Problem | None  # it cannot be relied upon at all
    failing: Mapping[str, Problem]  # by limit
    listed_up_to: str | None
    all_fail: bool
    sign: str = ""  # what shows that packets may skip netfilter there
    verified: frozenset[str] = frozenset()  # limits that it names as verified
    bypassed: int = 0  # limits
    all_bypassed: bool = False  # whatever fails there is bypassed


def views(snapshot: objects.Snapshot, plans: history.History, now: float) -> list[NodeView]:
    """Return the nodes that run an agent, in the order of their names; `now`: monotonic, like `State.heard_at`."""
    found = []
    for name in sorted(snapshot.states):
        node = snapshot.nodes.get(name)
        if node is None:
            continue  # the state of a node that is gone, not yet collected
        content = snapshot.states[name].content
        if isinstance(content, node_state.UnreadableState):
            problem = Problem(Reason.NODE_NOT_REPORTING, content.message, name=name)
            found.append(NodeView(name, node.labels, None, problem, {}, None, False))
            continue
        found.append(
            NodeView(
                name=name,
                labels=node.labels,
                step=plans.step_of(content.plan_digest) if content.plan_complete else None,
                problem=_problem(node, snapshot.states[name], content, now),
                failing={f.name: f for f in content.failing},
                listed_up_to=content.listed_up_to,
                all_fail=0 < content.desired == content.failed,
                sign=content.datapath_sign,
                verified=content.verified,
                bypassed=content.bypassed,
                all_bypassed=0 < content.failed == content.bypassed,
            )
        )
    return found


def _problem(node: objects.Node, seen: objects.State, state: node_state.NodeState, now: float) -> Problem | None:
    if state.retired:
        message = "its agent was told to retire and has removed everything"
    elif not node.ready:
        message = "the node is not Ready, so nobody knows what it does; look at the node"
    elif objects.silent_at(seen) < now:
        at = state.reported_at if seen.written_at is None else seen.written_at
        since = datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        message = (
            f"its agent has not reported since {since}, so what it set up before stays as it is; look at the agent's"
            f" pod there, or, if none is meant to run there any more: bandwidth-operator clean {node.name}"
        )
    else:
        return None
    return Problem(Reason.NODE_NOT_REPORTING, message, name=node.name)


class _Group:
    """The nodes that one selector selects, sorted for fast counts."""

    def __init__(self, nodes: Sequence[NodeView]) -> None:
        self.size = len(nodes)
        self.problems = [n.problem for n in nodes if n.problem is not None]
        # Nodes whose list of failing limits does not hold all: they have to be looked at for each limit.
        self.partial = [n for n in nodes if n.problem is None and n.step is not None and n.listed_up_to is not None]
        self.steps = sorted(n.step for n in nodes if n.problem is None and n.step is not None)
        self.signs = [n for n in nodes if n.problem is None and n.sign]
        self.by_name = {n.name: n for n in nodes}

    def reached(self, step: int) -> int:
        """Return how many healthy nodes have reached a step."""
        return len(self.steps) - bisect.bisect_left(self.steps, step)


class Rollup:
    """The reports of all nodes, indexed so that the outcome of each limit is found fast."""

    def __init__(self, nodes: Sequence[NodeView], plans: history.History) -> None:
        self._nodes = nodes
        self._plans = plans
        self._groups: dict[tuple[SelectorTerm, ...], _Group] = {}
        self._failing: dict[str, list[NodeView]] = collections.defaultdict(list)
        self._verified: dict[str, list[NodeView]] = collections.defaultdict(list)
        for node in nodes:
            if node.problem is None and node.step is not None:
                for name in node.failing:
                    self._failing[name].append(node)
                for name in node.verified:
                    self._verified[name].append(node)

    def outcome(self, entry: PlanEntry, winners: tuple[str, ...] = (), held: Held = Held()) -> Outcome:  # noqa: B008
        """Return the outcome of one limit that is in the plan; `held`: where it was verified until now."""
        group = self._group(entry.node_selector)
        changed_at = self._plans.changed_at(entry.limit)
        agents = len(self._nodes)
        found = self._failing_nodes(entry.limit, group, changed_at)
        failing = [problem for problem in found if problem.reason is not Reason.UNVERIFIED]
        failed, bypassed = len(failing), sum(problem.reason is Reason.BYPASSED for problem in failing)
        verified = self._verified_on(entry.limit, group, changed_at, held) if group.signs else None
        doubt = next((problem for problem in found if problem.reason is Reason.UNVERIFIED), None)
        if doubt is None and verified is not None and not verified.number:
            doubt = _doubt(group.signs[0])
        reached = 0 if changed_at is None else group.reached(changed_at)
        programmed = max(0, reached - (failed - len(group.problems)))
        failing.sort(key=lambda problem: (problem.reason is Reason.BYPASSED, problem.name))
        return Outcome(
            published=changed_at is not None,
            desired=group.size,
            programmed=programmed,
            failed=failed,
            failing=tuple(sorted(failing[:FAILING_MAX], key=_NAME)),
            winners=winners,
            entry=entry,
            agents=agents,
            bypassed=bypassed,
            verified=verified,
            doubt=doubt,
        )

    def _group(self, terms: tuple[SelectorTerm, ...]) -> _Group:
        group = self._groups.get(terms)
        if group is None:
            group = _Group([n for n in self._nodes if selector.selects(terms, n.labels)])
            self._groups[terms] = group
        return group

    def _failing_nodes(self, limit: str, group: _Group, changed_at: int | None) -> list[Problem]:
        found = list(group.problems)
        if changed_at is None:
            return found
        found += [
            node.failing[limit]._replace(name=node.name)
            for node in self._failing.get(limit, ())
            if node.name in group.by_name and node.step is not None and node.step >= changed_at
        ]
        for node in group.partial:
            if node.step is not None and node.step >= changed_at and limit not in node.failing:
                unlisted = None if limit in node.verified else _unlisted(node, limit)
                if unlisted is not None:
                    found.append(unlisted._replace(name=node.name))
        return found

    def _verified_on(self, limit: str, group: _Group, changed_at: int | None, held: Held) -> Held:
        """Return the selected nodes that have verified a limit in its present form."""
        if changed_at is None:
            return Held()
        named = {
            node.name
            for node in self._verified.get(limit, ())
            if node.name in group.by_name and node.step is not None and node.step >= changed_at
        }
        kept = {n for n in held.nodes if n in group.by_name and limit not in group.by_name[n].failing}
        nodes = sorted(kept) + sorted(named - kept)
        number = max(len(nodes), min(held.number, group.size)) if kept else len(nodes)
        return Held(number, tuple(sorted(nodes[:VERIFIED_MAX])))


def _doubt(node: NodeView) -> Problem:
    return Problem(
        Reason.UNVERIFIED,
        f"packets may leave {node.name} past its class ({node.sign})",
        name=node.name,
    )


_EVERY_LIMIT_FAILS = Problem(Reason.KERNEL_REFUSED, "every limit fails")
_PERHAPS_THIS_ONE = Problem(
    Reason.KERNEL_REFUSED,
    "more limits fail on this node than its report can name, perhaps this one too; mend the named ones first",
)


def _unlisted(node: NodeView, limit: str) -> Problem | None:
    """Return what a node reports of a limit that is not in its list, if the list has not all failing limits."""
    if node.all_fail:
        first = next(iter(node.failing.values()), _EVERY_LIMIT_FAILS)
        if node.all_bypassed and first.name:
            return first._replace(message=f"so is every limit of this node; {first.name}: {first.message}")
        return first
    if node.listed_up_to is None or limit <= node.listed_up_to:
        return None
    if not node.all_bypassed:
        return _PERHAPS_THIS_ONE
    message = f"{node.bypassed} limits are bypassed on {node.name}, more than its report can name, perhaps this one too"
    return Problem(Reason.UNVERIFIED, message)


def signatures(entries: Iterable[PlanEntry], nodes: Iterable[selector.Labels]) -> list[selector.Labels]:
    """Return the labels of one node for each different set of limits that nodes enforce; no labels without nodes."""
    selectors = {e.node_selector for e in entries if e.node_selector}
    found: dict[tuple[bool, ...], selector.Labels] = {}
    for labels in nodes:
        key = tuple(selector.selects(terms, labels) for terms in selectors)
        found.setdefault(key, labels)
    return list(found.values()) or [{}]


def census(nodes: Iterable[NodeView], current: int | None) -> dict[str, int]:
    """Return how many nodes are at the current step, behind it, or failing."""
    counts = {"current": 0, "behind": 0, "troubled": 0}
    for node in nodes:
        word = "troubled" if node.problem is not None else "current" if node.step == current else "behind"
        counts[word] += 1
    return counts
