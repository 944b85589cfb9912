"""All limits → the plan, who is left out of it and why, and who wins over whom. Pure.

A limit that somebody broke by an edit stays in the plan as it was when it was last accepted: its entry is in a slice.
One that touches an address of a node of the cluster is never in the plan: it would slow down the cluster itself.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from bandwidth_api import compile as compiler
from bandwidth_api import limit as limits
from bandwidth_api import overlap, slices
from bandwidth_api.conditions import Rejection
from bandwidth_api.plan import Plan, PlanEntry, Prefix
from bandwidth_operator import known, rollup
from bandwidth_operator.rollup import NodeView, Verdict

SIGNATURES_MAX = 16  # kinds of nodes for which overlaps are worked out


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """What follows from all limits at one time."""

    plan: Plan
    left_out: Mapping[str, Rejection]
    rejected: Mapping[str, tuple[Rejection, ...]]
    until: float | None  # when something expires next, seconds since the epoch
    made_from: Mapping[str, object]  # by limit, its `parsed`
    agents: int  # nodes that run an agent

    def covers(self, limit: known.Limit) -> bool:
        """Whether the plan was made from this version of the limit."""
        return self.made_from.get(limit.name) is limit.parsed


def plan_of(snapshot: known.Snapshot, written: Mapping[str, slices.Slice], now: float) -> Planned:
    """The plan; `written`: the slices as written last."""
    accepted = [k.parsed for k in snapshot.limits.values() if isinstance(k.parsed, limits.Limit)]
    nodes = [snapshot.nodes[name].labels for name in snapshot.states if name in snapshot.nodes]
    plan = compiler.compile(accepted, now=now, nodes=nodes)
    entries = dict(plan.entries)
    left_out = {
        parsed.name: why
        for parsed in accepted
        if parsed.name not in entries and (why := compiler.left_out(parsed, now)) is not None
    }
    rejected = {name: k.parsed for name, k in snapshot.limits.items() if not isinstance(k.parsed, limits.Limit)}
    if rejected:
        for entry in _kept(snapshot, rejected, written, now):
            entries[entry.limit] = entry
    protected = _node_addresses(snapshot)
    touching = {name: why for name, e in entries.items() if (why := compiler.protected(e, protected)) is not None}
    for name, why in touching.items():
        del entries[name]
        rejected.setdefault(name, (why,))
    whole = Plan(entries)
    made_from = {name: k.parsed for name, k in snapshot.limits.items()}
    return Planned(whole, left_out, rejected, compiler.next_expiry(whole, now), made_from, len(nodes))


def _node_addresses(snapshot: known.Snapshot) -> frozenset[Prefix]:
    """The addresses of all nodes; the same object as long as they are the same, whose index is known then."""
    global _last_node_addresses
    found = frozenset(itertools.chain.from_iterable(node.addresses for node in snapshot.nodes.values()))
    if found != _last_node_addresses:
        _last_node_addresses = found
    return _last_node_addresses


# As of the last call; saves making an index of it anew, and nothing else.
_last_node_addresses: frozenset[Prefix] = frozenset()


def _kept(
    snapshot: known.Snapshot, rejected: Iterable[str], written: Mapping[str, slices.Slice], now: float
) -> Iterable[PlanEntry]:
    names = frozenset(rejected)
    for item in written.values():
        for entry in item.entries:
            if (
                entry.limit in names
                and entry.created_at == math.floor(snapshot.limits[entry.limit].created_at)
                and (entry.expires_at is None or entry.expires_at > now)
            ):
                yield entry


def winners(plan: Plan, nodes: Sequence[NodeView]) -> dict[str, tuple[str, ...]]:
    """By limit, the limits that win over it somewhere, on any node."""
    entries = list(plan.entries.values())
    found: dict[str, set[str]] = {}
    for labels in rollup.signatures(entries, nodes)[:SIGNATURES_MAX]:
        here = entries if not labels else compiler.active(plan, labels, -math.inf)
        for name, others in overlap.resolve(here).overridden.items():
            found.setdefault(name, set()).update(others)
    return {name: tuple(sorted(others)) for name, others in found.items()}


def verdict(name: str, planned: Planned, answers: rollup.Rollup, won_over: Mapping[str, tuple[str, ...]]) -> Verdict:
    """What became of one limit."""
    rejected = planned.rejected.get(name, ())
    entry = planned.plan.entries.get(name)
    if entry is None:
        return Verdict(rejected=rejected, left_out=planned.left_out.get(name))
    return answers.judge(entry, won_over.get(name, ()))._replace(rejected=rejected)
