"""Compiles limits into the plan, and selects from the plan what is in force on one node at one time.

    limits ── compile ──▶ plan ── active ──▶ entries ── protected_addresses ──▶ overlap.resolve ──▶ who wins where

Pure: the time and the nodes are parameters. Never checks a single limit (`limit` does), nor decides about limits that
overlap (`overlap` does).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api.compiler import selector
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds.limit import Limit
from bandwidth_api.plan import Distribution, Mode, Plan, PlanEntry

# What a node enforces at least when a rate is split: below this, one full frame takes longer than 1.5 seconds.
NODE_RATE_MIN = 8_000  # bits per second


def compile(  # noqa: A001
    limits: Iterable[Limit],
    *,
    now: float,
    nodes: int | Sequence[selector.Labels] = 1,
    least_rate_bits_per_second: int = NODE_RATE_MIN,
    memo: Memo | None = None,
) -> Plan:
    """Return the plan of all limits that are neither disabled nor expired at `now` (seconds since the epoch).

    `nodes`: the labels of every node that runs an agent, or only how many there are; SplitEvenly divides by those
    that the limit selects, and never to less on one node than the least rate. Names must be unique; of two limits with
    one name the first counts. A limit without a time of creation counts as created at `now`, so that its `ttlSeconds`
    starts again with each call: date it first (`limit.dated`). With the memo of the last call the same Limit object
    gives the same PlanEntry object as long as nothing about it changes.
    """
    memo = memo or Memo()
    last = memo.compiled
    seen: dict[int, _Compiled] = {}
    entries: dict[str, PlanEntry] = {}
    for limit in limits:
        known = last.get(id(limit))
        if (
            known is None
            or known.limit is not limit
            or (known.split and (known.share, known.least) != (_share(limit, nodes), least_rate_bits_per_second))
        ):
            share = _share(limit, nodes)
            split = limit.spec.egress.distribution is Distribution.SPLIT_EVENLY
            made = entry(limit, now=now, share=share, least=least_rate_bits_per_second)
            known = _Compiled(limit, split, share, least_rate_bits_per_second, made)
        if limit.metadata.creation_timestamp is not None:
            seen[id(limit)] = known
        made = known.entry
        is_over = made.expires_at is not None and made.expires_at <= now
        if made.mode is not Mode.DISABLED and not is_over:
            entries.setdefault(made.limit, made)
    memo.compiled = seen
    return Plan(entries)


class _Compiled(NamedTuple):
    limit: Limit
    split: bool
    share: int
    least: int
    entry: PlanEntry


@dataclasses.dataclass(slots=True)
class Memo:
    """What the last call compiled, by id of the limit: of 10,000 usually one has changed. It saves time only."""

    compiled: Mapping[int, _Compiled] = dataclasses.field(default_factory=dict)


def left_out(limit: Limit, now: float) -> Problem | None:
    """Return why an accepted limit is not in the plan; None if it is."""
    if limit.spec.mode is Mode.DISABLED:
        return Problem(Reason.DISABLED, "the limit is switched off; set Enforce or Observe to use it", "spec.mode")
    expires_at = limit.expires_at(now if limit.created_at is None else limit.created_at)
    if expires_at is not None and expires_at <= now:
        field = "spec.ttlSeconds" if limit.spec.expires_at is None else "spec.expiresAt"
        return Problem(Reason.EXPIRED, "the limit's time is over; delete it or give it more time", field)
    return None


def entry(limit: Limit, *, now: float, share: int = 1, least: int = NODE_RATE_MIN) -> PlanEntry:
    """Return one limit in the units of the plan, whether or not it is in force.

    `now`: when a limit without a time of creation counts as created, seconds since the epoch. `share`: by how many
    nodes the rate is divided, but never to less than `least`, bits per second.
    """
    spec, rate = limit.spec, limit.spec.egress.rate
    created_at = now if limit.created_at is None else limit.created_at
    return PlanEntry(
        limit=limit.name,
        uid=limit.metadata.uid,
        generation=limit.metadata.generation,
        clients=spec.clients,
        excepted=spec.excepted,
        ports=spec.egress.ports,
        rate_bits_per_second=rate if share == 1 else max(NODE_RATE_MIN, min(rate, least), rate // share),
        burst_bytes=spec.egress.burst,
        mode=spec.mode,
        sharing=spec.egress.sharing,
        priority=spec.priority,
        created_at=created_at,
        expires_at=limit.expires_at(created_at),
        node_selector=spec.node_selector,
    )


def _share(limit: Limit, nodes: int | Sequence[selector.Labels]) -> int:
    """Return the number of nodes by which the rate is divided."""
    if limit.spec.egress.distribution is Distribution.PER_NODE:
        return 1
    return max(1, selector.count(limit.spec.node_selector, nodes))


def active(plan: Plan, labels: selector.Labels, now: float) -> tuple[PlanEntry, ...]:
    """Return the entries that a node with these labels enforces at `now`, in the order of the plan."""
    return tuple(
        e
        for e in plan.entries.values()
        if (e.expires_at is None or e.expires_at > now)
        and (not e.node_selector or selector.selects(e.node_selector, labels))
    )


def next_expiry(plan: Plan, now: float) -> float | None:
    """Return when the next entry that is in force at `now` expires; None if none ever does."""
    ends = (e.expires_at for e in plan.entries.values() if e.expires_at is not None and e.expires_at > now)
    return min(ends, default=None)
