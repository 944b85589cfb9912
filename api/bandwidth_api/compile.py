"""From limits to the plan, and from the plan to what is in force on one node at one time.

    limits ── compile ──▶ plan ── active ──▶ entries ── protection.protected ──▶ overlap.resolve ──▶ who wins where

Pure: the time and the nodes are parameters. Judges nothing that a single limit's own rules decide (`limit`), and
nothing about limits that overlap (`overlap`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api import addresses, selector, units
from bandwidth_api.conditions import Reason, Rejection
from bandwidth_api.limit import Limit
from bandwidth_api.plan import Distribution, Mode, Plan, PlanEntry, PortRange
from bandwidth_api.protection import prefixes, protected

__all__ = ["NODE_RATE_MIN", "active", "compile", "entry", "left_out", "next_expiry", "prefixes", "protected"]

# What a node enforces at least when a rate is split: below this, one full frame takes longer than 1.5 seconds.
NODE_RATE_MIN = 8_000  # bits per second


def compile(limits: Iterable[Limit], *, now: float, nodes: int | Sequence[selector.Labels] = 1) -> Plan:  # noqa: A001
    """The plan of all limits that are neither disabled nor expired at `now` (seconds since the epoch).

    `nodes`: the labels of every node that runs an agent, or only how many there are; SplitEvenly divides by those
    that the limit selects. Names must be unique; of two limits with one name the first counts. A limit without a
    time of creation counts as created at `now`, so that its `ttlSeconds` begins anew with each call: date it first
    (`limit.dated`). The same Limit object gives the same PlanEntry object as long as nothing about it changes.
    """
    global _last
    last = _last
    seen: dict[int, _Compiled] = {}
    entries: dict[str, PlanEntry] = {}
    for limit in limits:
        known = last.get(id(limit))
        if known is None or known.limit is not limit or (known.split and known.share != _share(limit, nodes)):
            share = _share(limit, nodes)
            split = limit.spec.egress.distribution is Distribution.SPLIT_EVENLY
            known = _Compiled(limit, split, share, _entry(limit, now, share))
        if limit.metadata.creation_timestamp is not None:
            seen[id(limit)] = known
        made = known.entry
        is_over = made.expires_at is not None and made.expires_at <= now
        if made.mode is not Mode.DISABLED and not is_over:
            entries.setdefault(made.limit, made)
    _last = seen
    return Plan(entries)


class _Compiled(NamedTuple):
    limit: Limit
    split: bool
    share: int
    entry: PlanEntry


# What the last call compiled, by id of the limit. Saves compiling 10,000 limits again when one changed; nothing else.
_last: Mapping[int, _Compiled] = {}


def left_out(limit: Limit, now: float) -> Rejection | None:
    """Why an accepted limit is not in the plan; None if it is."""
    if limit.spec.mode is Mode.DISABLED:
        return Rejection(Reason.DISABLED, "spec.mode", "the limit is switched off; set Enforce or Observe to use it")
    expires_at = limit.expires_at(now if limit.created_at is None else limit.created_at)
    if expires_at is not None and expires_at <= now:
        field = "spec.ttlSeconds" if limit.spec.expires_at is None else "spec.expiresAt"
        return Rejection(Reason.EXPIRED, field, "the limit's time is over; delete it or give it more time")
    return None


def entry(limit: Limit, *, now: float, nodes: int | Sequence[selector.Labels] = 1) -> PlanEntry:
    """One limit in the units of the plan, whether or not it is in force."""
    return _entry(limit, now, _share(limit, nodes))


def _share(limit: Limit, nodes: int | Sequence[selector.Labels]) -> int:
    """By how many nodes the rate is divided."""
    if limit.spec.egress.distribution is Distribution.PER_NODE:
        return 1
    return max(1, selector.count(selector.terms(limit.spec.node_selector), nodes))


def _entry(limit: Limit, now: float, share: int) -> PlanEntry:
    created_at = now if limit.created_at is None else limit.created_at
    egress = limit.spec.egress
    rate = units.parse_rate(egress.rate)
    return PlanEntry(
        limit=limit.name,
        uid=limit.metadata.uid,
        generation=limit.metadata.generation,
        clients=tuple(addresses.parse(text) for text in limit.spec.clients),
        excepted=tuple(addresses.parse(text) for text in limit.spec.excepted),
        ports=tuple(PortRange(p.protocol or "TCP", p.port, p.end_port or p.port) for p in egress.ports),
        rate_bits_per_second=rate if share == 1 else max(NODE_RATE_MIN, rate // share),
        burst_bytes=None if egress.burst is None else units.parse_burst(egress.burst),
        mode=limit.spec.mode,
        sharing=egress.sharing,
        priority=limit.spec.priority,
        created_at=created_at,
        expires_at=limit.expires_at(created_at),
        node_selector=selector.terms(limit.spec.node_selector),
    )


def active(plan: Plan, labels: selector.Labels, now: float) -> tuple[PlanEntry, ...]:
    """The entries that a node with these labels enforces at `now`, in the order of the plan."""
    return tuple(
        e
        for e in plan.entries.values()
        if (e.expires_at is None or e.expires_at > now)
        and (not e.node_selector or selector.selects(e.node_selector, labels))
    )


def next_expiry(plan: Plan, now: float) -> float | None:
    """When the next entry that is in force at `now` ends; None if none ever does."""
    ends = (e.expires_at for e in plan.entries.values() if e.expires_at is not None and e.expires_at > now)
    return min(ends, default=None)
