"""Stable class numbers: which limit has which number, kept while the limit lives and found again in the kernel.

Nothing but the kernel remembers: a set entry's comment names the limit, its mark or priority the number, and the
class of that number says whether it enforces or observes. Owns the numbering; never touches the kernel, no clock.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent import classify
from bandwidth_agent.kernel import model
from bandwidth_api import names
from bandwidth_api.plan import ClassKey, Mode, PlanEntry


class Slot(NamedTuple):
    """What has a class number of its own. A limit switched between Enforce and Observe moves to another slot:
    its class cannot change parents in place, so the second one is made before the first is left."""

    key: ClassKey  # as `names.parse_comment` reads it back: a long limit name is cut
    observe: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    numbers: Mapping[Slot, int]
    unplaced: tuple[Slot, ...]  # in the order wanted; reason CapacityExceeded


def slot(key: ClassKey, entry: PlanEntry) -> Slot:
    """The slot of a class of the plan."""
    return _slot(key, entry.mode is Mode.OBSERVE)


@functools.lru_cache(maxsize=65_536)
def _slot(key: ClassKey, observe: bool) -> Slot:
    if len(key.limit) > names.LIMIT_NAME_MAX:
        key = ClassKey(names.short_limit(key.limit), key.client)
    return Slot(key, observe)


def adopt(state: model.State, classifier: classify.Classifier) -> Mapping[Slot, int]:
    """The numbers that the kernel's sets already give, whichever classifier wrote them.

    Each slot gets one number and each number one slot; where a kernel in disorder says otherwise, the lowest wins.
    Numbers beyond the classifier's capacity are left out: their limits get others.
    """
    observing = {
        number
        for tree in state.trees.values()
        for number, htb_class in tree.classes.items()
        if htb_class.parent == names.OBSERVE_PARENT
    }
    found: set[tuple[int, Slot]] = set()
    for ipset in state.sets.values():
        for entry in ipset.entries.values():
            number = classify.number(entry)
            if number is not None and number <= classifier.capacity and entry.comment:
                found.add((number, Slot(names.parse_comment(entry.comment).key, number in observing)))
    numbers: dict[Slot, int] = {}
    taken: set[int] = set()
    for number, owner in sorted(found):
        if owner not in numbers and number not in taken:
            numbers[owner] = number
            taken.add(number)
    return numbers


class _Last(NamedTuple):
    """An answer that gave every slot the number it held, which therefore is the answer to the same question again."""

    wanted: list[Slot]
    numbers: Mapping[Slot, int]
    blocked: tuple[int, frozenset[int]]


_last: _Last | None = None  # nobody can tell but by the clock


def assign(
    wanted: Iterable[Slot],
    held: Mapping[Slot, int],
    resting: Sequence[int] = (),
    capacity: int = names.CLASS_MAX,
    blocked_shards: frozenset[int] = frozenset(),
) -> Assignment:
    """Number every wanted slot: the number it holds, else the lowest free one.

    Numbers that rest (freed lately, the longest rested first) and those of slots no longer wanted are used only when
    nothing else is free, so that a packet still queued with an old number finds no stranger's class. Slots without
    a number come out as unplaced; the caller should resolve again without their limits. `blocked_shards` are ifbs
    that cannot be made because somebody else's link has their name; a number that is held there is given up.
    """
    global _last
    given = list(wanted)
    blocked = (capacity, blocked_shards)
    if _last is not None and held is _last.numbers and given == _last.wanted and blocked == _last.blocked:
        return Assignment(held, ())
    wanted = list(dict.fromkeys(given))
    numbers: dict[Slot, int] = {}
    taken: set[int] = set()
    for owner in wanted:
        number = held.get(owner)
        if number is None or not 1 <= number <= capacity or number in taken:
            continue
        if number // names.SHARD_SIZE in blocked_shards:
            continue
        numbers[owner] = number
        taken.add(number)
    left = [owner for owner in wanted if owner not in numbers]
    if not left:
        _last = _Last(given, numbers, blocked)
        return Assignment(numbers, ())
    last = dict.fromkeys([*resting, *held.values()])
    fresh = (n for n in range(1, capacity + 1) if n not in taken and n not in last)
    rested = (n for n in last if n not in taken and 1 <= n <= capacity)
    free = (n for source in (fresh, rested) for n in source if n // names.SHARD_SIZE not in blocked_shards)
    unplaced: list[Slot] = []
    for owner in left:
        number = next(free, None)
        if number is None:
            unplaced.append(owner)
        else:
            numbers[owner] = number
            taken.add(number)
    return Assignment(numbers, tuple(unplaced))


def blocked_shards(facts: model.Facts) -> frozenset[int]:
    """The shards whose ifb name belongs to somebody else's link."""
    prefix = names.IFB_PREFIX
    return frozenset(
        int(name.removeprefix(prefix)) for name in facts.taken_ifb_names if name.removeprefix(prefix).isdecimal()
    )
