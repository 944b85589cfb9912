"""Decides which objects of ours are repaired after another program changed them, and which are left alone for a while.

    repair ──holds for seconds──▶ a reload, a person: repaired each time, however often
       └────undone at once──────▶ eight times in a row: a conflict; left alone, tried again after 2, 4, 8 … 30 s
                                  until one repair holds

Remembers the repairs; the time is always a parameter (monotonic seconds). Never touches the kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.planner import diff
from bandwidth_api import names

_K = TypeVar("_K")
_V = TypeVar("_V")

# A repair that held so long was undone by a person or by a reload, not by a program that waits for it. Well above the
# second after which a change of a set's size is noticed.
HOLDS_SECONDS = 2.0
UNDONE_BEFORE_ABANDONED = 8  # repairs in a row that did not hold
PAUSE_SECONDS = 2.0  # after which an object that was given up is tried again; doubled each time that does not hold,
PAUSE_MAX_SECONDS = 30.0  # up to this
ROOM_SECONDS = 1.0


def found(believed: model.State, observed: model.State, desired: model.State) -> frozenset[objects.Object]:
    """Return the desired objects that differ from what our last pass left in the kernel.

    Objects of an interface or a limit that is gone are not among them: nothing of them is desired any more.
    """
    if believed == observed:
        return frozenset()
    moved = {step.touches for step in diff.compute(believed, observed)}
    missing = {step.touches for step in diff.compute(desired, observed)}
    return frozenset(moved & missing)


@dataclasses.dataclass(slots=True)
class _Record:
    """The repairs of one object."""

    repaired_at: float
    undone: int = 0  # repairs in a row that did not hold
    pause_seconds: float = 0.0
    paused_until: float = 0.0


class RepairRecords:
    """Remembers repairs and how long they held, and finds the objects that another program changes back."""

    def __init__(self) -> None:
        self._records: dict[objects.Object, _Record] = {}

    def changed(self, items: Iterable[objects.Object], now: float) -> None:
        """Record that another program changed these; ignored for objects that are left alone now."""
        for item in items:
            record = self._records.get(item)
            if record is None or now < record.paused_until:
                continue
            if now - record.repaired_at >= HOLDS_SECONDS:
                del self._records[item]
                continue
            record.undone += 1
            if record.undone >= UNDONE_BEFORE_ABANDONED:
                record.pause_seconds = min(max(PAUSE_SECONDS, 2 * record.pause_seconds), PAUSE_MAX_SECONDS)
                record.paused_until = now + record.pause_seconds

    def repaired(self, items: Iterable[objects.Object], now: float) -> None:
        """Record that these were repaired."""
        for item in items:
            self._records.setdefault(item, _Record(now)).repaired_at = now

    def abandoned(self, now: float) -> frozenset[objects.Object]:
        """Return the objects that are left alone now: each repair was undone at once, and the next is not yet due."""
        return frozenset(item for item, record in self._records.items() if now < record.paused_until)

    def next_trial(self, items: Collection[objects.Object]) -> float | None:
        """Return when the first of these is due to be tried again; None if there are none."""
        return min((self._records[item].paused_until for item in items if item in self._records), default=None)


class Room:
    """Places that another program cleared and may want for itself, and until when they are left free.

    A program that deletes a whole clsact qdisc often adds an ingress qdisc next, in the same place. If ours were put
    back at once, that would fail.
    """

    def __init__(self) -> None:
        self._until: dict[objects.Object, float] = {}

    def cleared(self, items: Iterable[objects.Object], now: float) -> None:
        """Record that these were deleted together with the place that they were in."""
        for item in items:
            self._until.setdefault(item, now + ROOM_SECONDS)

    def left(self, now: float) -> frozenset[objects.Object]:
        """Return what is not to be put back yet."""
        self._until = {item: until for item, until in self._until.items() if now < until}
        return frozenset(self._until)

    @property
    def next_end(self) -> float | None:
        """Return when the first of these may be put back; None if there are none."""
        return min(self._until.values(), default=None)


class Repairs:
    """What a pass repairs and what it leaves alone, from the objects that another program changed."""

    def __init__(self) -> None:
        self._records = RepairRecords()
        self._room = Room()
        self._repairing: frozenset[objects.Object] = frozenset()  # by the pass that is prepared
        self._left_room: frozenset[objects.Object] = frozenset()
        self.abandoned: frozenset[objects.Object] = frozenset()
        self.counts: dict[str, int] = {}  # of repairs by layer, since the start

    def settle(
        self, drifted: frozenset[objects.Object], cleared: frozenset[objects.Object], now: float
    ) -> frozenset[objects.Object]:
        """Take note of what drifted, and of that what lost its place too; returns what this pass leaves alone."""
        self._room.cleared(cleared, now)
        room = self._room.left(now)
        self._records.changed(drifted, now)
        abandoned = self._records.abandoned(now)
        for item in drifted - abandoned:
            self.counts[item.layer] = self.counts.get(item.layer, 0) + 1
        self._repairing = (drifted | self.abandoned | self._left_room) - abandoned - room
        self.abandoned, self._left_room = abandoned, room
        return abandoned | room

    def made(self, now: float) -> None:
        """Take note that the pass is over."""
        self._records.repaired(self._repairing, now)

    @property
    def next_trial(self) -> float | None:
        """When to repair the first abandoned object again, monotonic seconds; None if none is abandoned."""
        ends = (self._room.next_end, self._records.next_trial(self.abandoned))
        return min((at for at in ends if at is not None), default=None)


def without(desired: model.State, observed: model.State, abandoned: frozenset[objects.Object]) -> model.State:
    """Return the desired state in which objects that are left alone are as observed, so that they are not written.

    What would do harm is still removed: nothing may be redirected to an ifb or a pair in conflict (a packet redirected
    to a device that is down or gone is dropped), and no rule may name a set that is missing.
    """
    if not abandoned:
        return desired
    gone_shards = {s for s in desired.ifbs if objects.Object("ifb", names.ifb(s)) in abandoned}
    ifbs = {s: v for s, v in desired.ifbs.items() if s not in gone_shards}
    trees = _as_observed(desired.trees, observed.trees, {o.name for o in abandoned if o.layer == "tree"})
    trees = {d: t for d, t in trees.items() if d not in {names.ifb(s) for s in gone_shards}}
    hooks = _as_observed(desired.hooks, observed.hooks, {o.name for o in abandoned if o.layer == "hook"})
    hooks = {i: hook._replace(shards=hook.shards - gone_shards) for i, hook in hooks.items()}
    sets = _as_observed(desired.sets, observed.sets, {o.name for o in abandoned if o.layer == "set"})
    families = {f for f in (4, 6) if objects.chain_object(f) in abandoned}
    chains = _as_observed(desired.chains, observed.chains, families)
    chains = {
        family: value
        if family in families
        else value._replace(
            rules=tuple(rule for rule in value.rules if rule.set_name in sets),
            guard=value.guard if value.guard in sets else "",
        )
        for family, value in chains.items()
    }
    tables = _as_observed(desired.tables, observed.tables, {o.name for o in abandoned if o.layer == "table"})
    programs = _as_observed(desired.programs, observed.programs, {o.name for o in abandoned if o.layer == "program"})
    whole = dataclasses.replace(
        desired, ifbs=ifbs, trees=trees, hooks=hooks, sets=sets, chains=chains, tables=tables, programs=programs
    )
    return _without_pairs(whole, {s for s in desired.pairs if objects.Object("pair", names.pair(s)) in abandoned})


def _without_pairs(desired: model.State, gone: Collection[int]) -> model.State:
    """The desired state without these pairs, what stands on them and the programs that lead to them."""
    if not gone:
        return desired
    devices = set(map(names.pair, gone))
    return dataclasses.replace(
        desired,
        pairs={s: pair for s, pair in desired.pairs.items() if s not in gone},
        trees={d: tree for d, tree in desired.trees.items() if d not in devices},
        programs={n: program for n, program in desired.programs.items() if program.shard not in gone},
    )


def _as_observed(desired: Mapping[_K, _V], observed: Mapping[_K, _V], keys: Collection[_K]) -> dict[_K, _V]:
    kept = {key: value for key, value in desired.items() if key not in keys}
    kept.update((key, observed[key]) for key in keys if key in observed)
    return kept
