"""Stable class ids: which limit has which, kept while the limit lives and found again in the kernel.

Only the kernel remembers: the classifier reads from what it left there which limit owns an id, and the class of that
id shows whether it enforces or observes. Owns the numbering and the quarantine of freed ids; never touches the kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.planner import changed_entries
from bandwidth_agent.planner.classifier import ownership
from bandwidth_api import names
from bandwidth_api.plan import ClassKey, Mode, PlanEntry

QUARANTINE_SECONDS = 60.0  # a freed id is not given to another limit before


class Slot(NamedTuple):
    """A holder of a class id: one class key in one mode.

    A limit that is switched between Enforce and Observe gets another slot: its class cannot change parents in place,
    so the second class is made before the first is left."""

    key: ClassKey  # as `names.parse_comment` reads it back: a long limit name is cut
    observe: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    numbers: Mapping[Slot, int]
    unplaced: tuple[Slot, ...]  # in the order wanted; reason CapacityExceeded


@dataclasses.dataclass(slots=True)
class Memo:
    """What the last calls made. It saves time only: the results are the same without it."""

    classes: Mapping[ClassKey, PlanEntry] = dataclasses.field(default_factory=dict)
    slots: dict[ClassKey, Slot] = dataclasses.field(default_factory=dict)
    # An assignment that gave every slot the id it held, which therefore is the answer to the same question again.
    asked: tuple[list[Slot], int, frozenset[int]] | None = None
    numbers: Mapping[Slot, int] | None = None


def slot(key: ClassKey, entry: PlanEntry) -> Slot:
    """Return the slot of a class of the plan."""
    if len(key.limit) > names.LIMIT_NAME_MAX:
        key = ClassKey(names.short_limit(key.limit), key.client)
    return Slot(key, entry.mode is Mode.OBSERVE)


def slots(classes: Mapping[ClassKey, PlanEntry], memo: Memo) -> Mapping[ClassKey, Slot]:
    """Return the slot of each class, in their order."""
    known = memo.slots
    changed = changed_entries.keys(classes, memo.classes)
    if changed is None:
        before = memo.classes
        memo.slots = {
            key: known[key] if before.get(key) is entry else slot(key, entry) for key, entry in classes.items()
        }
    else:
        moved = {key: found for key in changed if (found := slot(key, classes[key])) != known[key]}
        memo.slots = {**known, **moved} if moved else known
    memo.classes = classes
    return memo.slots


def adopt(state: model.State, capacity: int) -> Mapping[Slot, int]:
    """Return the class ids that are in the kernel already, whichever classifier wrote them.

    Each slot gets one id and each id one slot; if the kernel is inconsistent, the lowest wins.
    Ids beyond the capacity are left out: their limits get others.
    """
    observing = {
        number
        for tree in state.trees.values()
        for number, htb_class in tree.classes.items()
        if htb_class.parent == names.OBSERVE_PARENT
    }
    found = {
        (match.number, Slot(names.parse_comment(match.label).key, match.number in observing))
        for match in ownership.matches(state)
        if match.number <= capacity and match.label
    }
    numbers: dict[Slot, int] = {}
    taken: set[int] = set()
    for number, owner in sorted(found):
        if owner not in numbers and number not in taken:
            numbers[owner] = number
            taken.add(number)
    return numbers


def assign(
    wanted: Iterable[Slot],
    held: Mapping[Slot, int],
    quarantined: Sequence[int] = (),
    capacity: int = names.CLASS_MAX,
    blocked_shards: frozenset[int] = frozenset(),
    memo: Memo | None = None,
) -> Assignment:
    """Give every wanted slot an id: the one that it holds, else the lowest free one.

    Quarantined ids (the longest freed first) and those of slots no longer wanted are used only when nothing else is
    free, so that a packet still queued with an old id finds no other limit's class. Slots without an id come out as
    unplaced; the caller should resolve again without their limits. `blocked_shards` are ifbs that cannot be made
    because another program's link has their name; an id that is held there is given up.
    """
    memo = memo or Memo()
    given = list(wanted)
    asked = (given, capacity, blocked_shards)
    if held is memo.numbers and asked == memo.asked:
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
        memo.asked, memo.numbers = asked, numbers
        return Assignment(numbers, ())
    last = dict.fromkeys([*quarantined, *held.values()])
    fresh = (n for n in range(1, capacity + 1) if n not in taken and n not in last)
    released = (n for n in last if n not in taken and 1 <= n <= capacity)
    free = (n for source in (fresh, released) for n in source if n // names.SHARD_SIZE not in blocked_shards)
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
    """Return the shards whose ifb name belongs to another program's link."""
    prefix = names.IFB_PREFIX
    return frozenset(
        int(name.removeprefix(prefix)) for name in facts.taken_ifb_names if name.removeprefix(prefix).isdecimal()
    )


class ClassIds:
    """The class ids of one node, kept from pass to pass. They can be lost: a new object adopts those in the kernel."""

    def __init__(self) -> None:
        self._numbers: Mapping[Slot, int] | None = None
        self._quarantined: dict[int, float] = {}  # class id → when it was freed

    def assign(
        self, wanted: Iterable[Slot], facts: model.Facts, state: model.State, capacity: int, memo: Memo
    ) -> Assignment:
        """As the function `assign`; `state` is what is observed, of which the first call adopts."""
        if self._numbers is None:
            self._numbers = adopt(state, capacity)
        return assign(wanted, self._numbers, tuple(self._quarantined), capacity, blocked_shards(facts), memo)

    def keep(self, numbers: Mapping[Slot, int], now: float) -> None:
        """Keep these for the next pass, and quarantine the ids that are free now."""
        if numbers is not self._numbers:
            in_use = set(numbers.values())
            freed = sorted(set((self._numbers or {}).values()) - in_use)
            quarantined = self._quarantined | dict.fromkeys(freed, now)
            self._quarantined = {number: since for number, since in quarantined.items() if number not in in_use}
            self._numbers = numbers
        self._quarantined = {
            number: since for number, since in self._quarantined.items() if now - since < QUARANTINE_SECONDS
        }
