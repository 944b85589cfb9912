"""Class numbers: kept while a limit lives, found again after a restart, never shared."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent import settings
from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.planner.classifier import class_ids
from bandwidth_api import names, plan
from bandwidth_api.plan import ClassKey, Mode
from unit.agent import worlds


def slot(name: str, observe: bool = False) -> class_ids.Slot:
    return class_ids.Slot(ClassKey(name, ""), observe)


A, B, C, D = (slot(name) for name in "abcd")
SLOTS = st.builds(class_ids.Slot, st.builds(ClassKey, st.sampled_from("abcdefgh"), st.just("")), st.booleans())
NUMBERS = st.integers(-1, 12)


def test_new_slots_get_the_lowest_free_numbers_in_the_order_wanted() -> None:
    """From 1 upward, past what is held."""
    assert class_ids.assign([A, B, C], {B: 1}).numbers == {B: 1, A: 2, C: 3}


def test_a_held_number_is_kept() -> None:
    """Whatever else is wanted, and however high it is."""
    assert class_ids.assign([A, B], {A: 700, C: 1}).numbers == {A: 700, B: 2}


def test_resting_numbers_come_last_and_the_longest_rested_first() -> None:
    """A number just freed may still be on packets in a queue."""
    assert class_ids.assign([A, B], {}, quarantined=[2, 1], capacity=3).numbers == {A: 3, B: 2}


def test_the_number_of_a_slot_that_goes_is_used_only_when_nothing_else_is_free() -> None:
    """It comes after those that rest already."""
    assert class_ids.assign([A], {B: 1}, capacity=2).numbers == {A: 2}
    assert class_ids.assign([A, C], {B: 1}, capacity=2).numbers == {A: 2, C: 1}
    assert class_ids.assign([A], {B: 1}, quarantined=[2], capacity=2).numbers == {A: 2}


def test_when_all_numbers_are_taken_the_last_wanted_are_unplaced() -> None:
    """The first in order are served, the rest are named."""
    assigned = class_ids.assign([A, B, C, D], {C: 2}, capacity=3)
    assert assigned.numbers == {C: 2, A: 1, B: 3}
    assert assigned.unplaced == (D,)


def test_a_number_beyond_the_capacity_is_given_up() -> None:
    """A narrower mask cannot carry it."""
    assert class_ids.assign([A], {A: 700}, capacity=255).numbers == {A: 1}


def test_shards_whose_name_is_taken_are_passed_over() -> None:
    """Nothing new is put on an ifb that cannot be made."""
    facts = dataclasses.replace(fake_kernel.facts(), taken_ifb_names=frozenset({"cbl0", "cblx"}))
    assert class_ids.blocked_shards(facts) == {0}
    assert class_ids.assign([A], {}, blocked_shards=frozenset({0})).numbers == {A: 512}


@given(st.lists(SLOTS), st.dictionaries(SLOTS, NUMBERS), st.lists(NUMBERS), st.integers(0, 10))
def test_numbers_are_never_shared_and_each_slot_is_numbered_or_named(
    wanted: list[class_ids.Slot], held: dict[class_ids.Slot, int], resting: list[int], capacity: int
) -> None:
    """Whatever a kernel in disorder says is held."""
    assigned = class_ids.assign(wanted, held, resting, capacity)
    numbers = list(assigned.numbers.values())
    assert len(set(numbers)) == len(numbers)
    assert all(1 <= number <= capacity for number in numbers)
    assert set(assigned.numbers) | set(assigned.unplaced) == set(wanted)
    assert not set(assigned.numbers) & set(assigned.unplaced)
    assert not assigned.unplaced or len(numbers) == capacity
    again = class_ids.assign(wanted, assigned.numbers, resting, capacity)
    assert again == assigned


@worlds.unhurried
@given(worlds.setups("ifb", "interface"), worlds.setups("ifb", "interface"), worlds.resolutions())
def test_what_was_assigned_is_adopted_from_the_kernel(
    before: worlds.Setup, after: worlds.Setup, resolution: plan.Resolution
) -> None:
    """An agent without memory, and with any settings, finds every number that a set entry carries."""
    facts = worlds.node()
    numbers = class_ids.assign(worlds.slots(resolution), worlds.HELD).numbers
    state = before.build(resolution, numbers, facts)
    adopted = class_ids.adopt(state, after.choose(facts).capacity)
    named = {key for table in resolution.tables for key in table.entries.values()}
    assert adopted == {s: n for s, n in numbers.items() if s.key in named}


def test_a_limit_with_a_long_name_is_adopted_under_its_short_one() -> None:
    """The comment has no room for all of it, so the slot is cut alike from the start."""
    name = "x" * 253
    entry = dataclasses.replace(worlds.limit(0, 1_000_000), limit=name)
    key = class_ids.slot(ClassKey(name, "192.0.2.1"), entry).key
    assert names.parse_comment(names.comment(ClassKey(name, "192.0.2.1"), 5.0)).key == key


def test_one_number_on_two_limits_goes_to_one_of_them() -> None:
    """A kernel in disorder: the first by name keeps it, the other gets a new one."""
    entries = {
        worlds.Prefix(4, i, 32): objects.SetEntry(7 << 16, 0xFFFF0000, 0, name) for i, name in enumerate(("b", "a"))
    }
    state = dataclasses.replace(model.EMPTY, sets={"cbl-v4": objects.IpSet(4, entries)})
    classifier = worlds.Setup(settings.ClassifierSetting.MARK, ("ifb", "none")).choose(worlds.node())
    assert class_ids.adopt(state, classifier.capacity) == {A: 7}


def test_enforce_and_observe_are_two_slots() -> None:
    """A class cannot change its parent, so a limit that changes its mode changes its number."""
    enforced = worlds.limit(0, 1_000_000)
    observed = dataclasses.replace(enforced, mode=Mode.OBSERVE)
    key = ClassKey("limit-0", "")
    assert class_ids.slot(key, enforced) != class_ids.slot(key, observed)
