"""Makes the plan from all limits: which are left out of it and why, and which win over which others. Pure.

A limit that an edit has made invalid stays in the plan as it was when it was last accepted: its entry is in a slice.
One that touches an address of a node of the cluster, its pods, its services or its API server is never in the plan: it
would slow down the cluster itself. One with too many addresses gets into no plan, but stays if it is in force already.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api.compiler import compile as compiler
from bandwidth_api.compiler import protected_addresses, selector, width
from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.conditions import Problem
from bandwidth_api.crds import limit as limits
from bandwidth_api.crds import slices
from bandwidth_api.plan import Distribution, Plan, PlanEntry, Prefix
from bandwidth_operator.cache import objects
from bandwidth_operator.protection import guard_rails
from bandwidth_operator.protection.guard_rails import GuardRails
from bandwidth_operator.status import rollup
from bandwidth_operator.status.rollup import NodeView, Outcome

SIGNATURES_MAX = 16  # kinds of nodes for which overlaps are worked out
_WIDER = "the chart's value guardRails.widest"


class _Checks(NamedTuple):
    """What no limit of the plan may be."""

    widest: width.Widest
    protected: protected_addresses.Index  # what none may touch
    why: Mapping[Prefix, str]  # where it is more than the address of a node


@dataclasses.dataclass(slots=True)
class Memo:
    """What the last plan was made with. It saves time only: the plan is the same without it."""

    compiled: compiler.Memo = dataclasses.field(default_factory=compiler.Memo)
    overlaps: resolve.Memo = dataclasses.field(default_factory=resolve.Memo)


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """The plan of all limits at one time, and the reasons for those that are not in it."""

    plan: Plan
    left_out: Mapping[str, Problem]
    rejected: Mapping[str, tuple[Problem, ...]]
    until: float | None  # when something expires next, seconds since the epoch
    made_from: Mapping[str, object]  # by limit, its `parsed`
    agents: int  # nodes that run an agent
    checked: _Checks  # what every entry of the plan was held to

    def covers(self, limit: objects.Limit) -> bool:
        """Return whether the plan was made from this version of the limit."""
        return self.made_from.get(limit.name) is limit.parsed


def plan_of(
    snapshot: objects.Snapshot,
    written: Mapping[str, slices.Slice],
    now: float,
    rails: GuardRails = GuardRails(),  # noqa: B008
    *,
    settled: bool = True,
    before: Planned | None = None,
    memo: Memo | None = None,
    turned: Callable[[], object] = lambda: None,
) -> Planned:
    """Return the plan; `written`: the slices as last written. `turned` is called while many overlaps take long.

    `before`: the last plan, if there is one. An entry that was in it and is held to the same is not checked again.
    Not `settled`: nodes whose state is missing may exist all the same, so no limit is split among fewer than before.
    """
    memo = memo or Memo()
    accepted = [k.parsed for k in snapshot.limits.values() if isinstance(k.parsed, limits.Limit)]
    nodes = [snapshot.nodes[name].labels for name in snapshot.states if name in snapshot.nodes]
    least = rails.least_rate_bits_per_second
    plan = compiler.compile(accepted, now=now, nodes=nodes, least_rate_bits_per_second=least, memo=memo.compiled)
    entries = dict(plan.entries)
    if not settled:
        entries |= _split_as_before(accepted, entries, written)
    left_out = {
        parsed.name: why
        for parsed in accepted
        if parsed.name not in entries and (why := compiler.left_out(parsed, now)) is not None
    }
    rejected = {name: k.parsed for name, k in snapshot.limits.items() if not isinstance(k.parsed, limits.Limit)}
    checks = _checks(snapshot, rails, before)
    if before is not None and before.checked is checks:
        passed, kept = before.plan.entries, before.rejected
        unchecked = {name: e for name, e in entries.items() if passed.get(name) is not e or name in kept}
    else:
        unchecked = dict(entries)
    too_wide = {name: why for name, e in unchecked.items() if (why := width.refused(e, checks.widest, _WIDER))}
    for name, why in too_wide.items():
        # What was in force before the edit, or before there was such a rule, stays: `_kept`.
        del entries[name], unchecked[name]
        rejected[name] = (why,)
    if rejected:
        for entry in _kept(snapshot, rejected, written, now):
            entries[entry.limit] = unchecked[entry.limit] = entry
    touching = {
        name: why
        for name, e in unchecked.items()
        if (why := protected_addresses.protected(e, checks.protected, checks.why))
    }
    for name, why in touching.items():
        del entries[name]
        rejected.setdefault(name, (why,))
    beyond = _beyond_budget(entries, nodes, memo.overlaps, turned)
    for name, why in beyond.items():
        del entries[name]
        left_out.setdefault(name, why)
    whole = Plan(entries)
    made_from = {name: k.parsed for name, k in snapshot.limits.items()}
    return Planned(whole, left_out, rejected, compiler.next_expiry(whole, now), made_from, len(nodes), checks)


def _split_as_before(
    accepted: Iterable[limits.Limit], entries: Mapping[str, PlanEntry], written: Mapping[str, slices.Slice]
) -> dict[str, PlanEntry]:
    """Return the limits whose share per node would grow, with the share that they have."""
    split = {each.name for each in accepted if each.spec.egress.distribution is Distribution.SPLIT_EVENLY}
    before = {entry.limit: entry for item in written.values() for entry in item.entries if entry.limit in split}
    return {
        name: dataclasses.replace(entries[name], rate_bits_per_second=entry.rate_bits_per_second)
        for name, entry in before.items()
        if name in entries and entry.rate_bits_per_second < entries[name].rate_bits_per_second
    }


def _beyond_budget(
    entries: Mapping[str, PlanEntry],
    nodes: Sequence[selector.Labels],
    memo: resolve.Memo,
    turned: Callable[[], object],
) -> Mapping[str, Problem]:
    """Return the limits whose overlaps exceed the budget on any kind of node, beside those of the older ones."""
    if not resolve.left_out(entries.values(), memo):
        return {}
    found: dict[str, Problem] = {}
    for labels in rollup.signatures(entries.values(), nodes)[:SIGNATURES_MAX]:
        turned()
        here = [e for e in entries.values() if not labels or selector.selects(e.node_selector, labels)]
        for name, why in resolve.left_out(here, memo).items():
            found.setdefault(name, why)
    return found


def _checks(snapshot: objects.Snapshot, rails: GuardRails, before: Planned | None) -> _Checks:
    """Return what every entry is held to now; the same object as before while it is equal."""
    why: dict[Prefix, str] = dict.fromkeys(rails.service_networks, guard_rails.SERVICES)
    if rails.protect_cluster:
        for node in snapshot.nodes.values():
            why.update(dict.fromkeys(node.pod_networks, guard_rails.PODS))
        why |= snapshot.cluster_addresses
    protected = frozenset(itertools.chain(why, *(node.addresses for node in snapshot.nodes.values())))
    known = before.checked.protected if before is not None else None
    found = _Checks(
        rails.widest,
        known if known is not None and known.known == protected else protected_addresses.index(protected),
        why,
    )
    return before.checked if before is not None and before.checked == found else found


def _kept(
    snapshot: objects.Snapshot, rejected: Iterable[str], written: Mapping[str, slices.Slice], now: float
) -> Iterable[PlanEntry]:
    names = frozenset(rejected)
    for item in written.values():
        for entry in item.entries:
            if (
                entry.limit in names
                and _is_of(entry, snapshot.limits[entry.limit])
                and (entry.expires_at is None or entry.expires_at > now)
            ):
                yield entry


def _is_of(entry: PlanEntry, limit: objects.Limit) -> bool:
    """Return whether an entry was made from this limit, and not from an earlier one of the same name."""
    return limit.created_at is None or entry.created_at == math.floor(limit.created_at)


def winners(plan: Plan, nodes: Sequence[NodeView], memo: resolve.Memo | None = None) -> dict[str, tuple[str, ...]]:
    """Return by limit the limits that win over it somewhere, on any node."""
    entries = list(plan.entries.values())
    found: dict[str, set[str]] = {}
    for labels in rollup.signatures(entries, [node.labels for node in nodes])[:SIGNATURES_MAX]:
        here = entries if not labels else compiler.active(plan, labels, -math.inf)
        for name, others in resolve.resolve(here, memo).overridden.items():
            found.setdefault(name, set()).update(others)
    return {name: tuple(sorted(others)) for name, others in found.items()}


def outcome(
    name: str,
    planned: Planned,
    answers: rollup.Rollup,
    won_over: Mapping[str, tuple[str, ...]],
    held: rollup.Held = rollup.Held(),  # noqa: B008
) -> Outcome:
    """What became of one limit; `held`: where it was verified until now."""
    rejected = planned.rejected.get(name, ())
    entry = planned.plan.entries.get(name)
    if entry is None:
        return Outcome(rejected=rejected, left_out=planned.left_out.get(name))
    return answers.outcome(entry, won_over.get(name, ()), held)._replace(rejected=rejected)
