"""Which limit lives in which slice: stable, and one edit rewrites one object."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api import slices
from bandwidth_api.plan import Plan, PlanEntry
from bandwidth_operator import slicing
from unit.operator import examples

NAMES = st.sampled_from([f"limit-{n:02d}" for n in range(40)])
PLANS = st.dictionaries(NAMES, st.integers(1, 5)).map(
    lambda rates: Plan({n: examples.entry(n, rate_bits_per_second=r) for n, r in rates.items()})
)
SIZE = 4


def carried_out(steps: slicing.Steps, existing: dict[str, slices.Decoded]) -> dict[str, slices.Decoded]:
    """The slices afterwards."""
    after = dict(existing) | {item.name: item for item in steps.puts}
    if steps.head is not None:
        after[slices.HEAD] = steps.head
    return {name: item for name, item in after.items() if name not in steps.deletes}


def entries(existing: dict[str, slices.Decoded]) -> dict[str, PlanEntry]:
    found = [e for item in existing.values() if isinstance(item, slices.Slice) for e in item.entries]
    assert len({e.limit for e in found}) == len(found)
    return {e.limit: e for e in found}


def members(existing: dict[str, slices.Decoded]) -> dict[str, str]:
    return {e.limit: item.name for item in existing.values() if isinstance(item, slices.Slice) for e in item.entries}


@given(st.lists(PLANS, min_size=1, max_size=5))
def test_after_the_steps_the_slices_hold_the_plan(plans: list[Plan]) -> None:
    """From any state to any plan; a second time there is nothing to do; no slice is too large, none is empty."""
    existing: dict[str, slices.Decoded] = {}
    for plan in plans:
        existing = carried_out(slicing.steps(plan, existing, term=1, size=SIZE), existing)
        assert entries(existing) == dict(plan.entries)
        assert slicing.steps(plan, existing, term=2, size=SIZE).writes == 0
        sizes = [len(item.entries) for item in existing.values() if isinstance(item, slices.Slice)]
        assert all(0 < n <= SIZE for n in sizes)
        head = existing[slices.HEAD]
        assert isinstance(head, slices.Head)
        assert set(head.slices) == set(existing) - {slices.HEAD}


@given(st.lists(PLANS, min_size=1, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_what_was_made_before_changes_no_answer(plans: list[Plan], carried: list[bool]) -> None:
    """With the slices of the plan before at hand the steps are the same, whether that plan was written or not."""
    existing: dict[str, slices.Decoded] = {}
    made: dict[str, slices.Slice] = {}
    plan = Plan({})
    for after, is_carried_out in zip(plans, carried, strict=False):
        kept = {n: e for n, e in plan.entries.items() if after.entries.get(n) == e}
        plan = Plan({**after.entries, **kept})  # entries that stay the same are the same objects, as in the compiler
        steps = slicing.steps(plan, existing, term=1, size=SIZE, made=made)
        assert steps == slicing.steps(plan, existing, term=1, size=SIZE)
        if is_carried_out:
            existing = carried_out(steps, existing)


@given(PLANS, PLANS)
def test_a_limit_stays_in_its_slice_while_it_lives(before: Plan, after: Plan) -> None:
    """Whatever else comes and goes."""
    existing = carried_out(slicing.steps(before, {}, term=1, size=SIZE), {})
    later = carried_out(slicing.steps(after, existing, term=1, size=SIZE), existing)
    for name in before.entries.keys() & after.entries.keys():
        assert members(existing)[name] == members(later)[name]


@given(PLANS.filter(lambda p: len(p.entries) > 0), st.data())
def test_one_edit_rewrites_one_slice(plan: Plan, data: st.DataObject) -> None:
    """And not the head."""
    existing = carried_out(slicing.steps(plan, {}, term=1, size=SIZE), {})
    name = data.draw(st.sampled_from(sorted(plan.entries)))
    edited = dataclasses.replace(plan.entries[name], rate_bits_per_second=9)
    steps = slicing.steps(Plan({**plan.entries, name: edited}), existing, term=1, size=SIZE)
    assert (len(steps.puts), steps.head, steps.deletes) == (1, None, ())


def test_ten_thousand_limits_take_a_hundred_slices_and_a_head() -> None:
    """101 writes, and none the next time."""
    plan = Plan({f"l{n:05d}": examples.entry(f"l{n:05d}", n * 256) for n in range(10_000)})
    steps = slicing.steps(plan, {}, term=1)
    assert steps.writes == 101
    assert slicing.steps(plan, carried_out(steps, {}), term=2).writes == 0


def test_an_empty_plan_has_a_head() -> None:
    """So that agents know that it is all there is."""
    steps = slicing.steps(Plan({}), {}, term=3)
    assert steps == slicing.Steps((), slices.Head((), term=3), ())


def test_what_cannot_be_read_or_is_not_ours_is_replaced() -> None:
    """An unreadable slice is written over; one with a name that we never give goes, after its limits moved."""
    plan = Plan({"a": examples.entry("a"), "b": examples.entry("b", 1 << 8)})
    existing: dict[str, slices.Decoded] = {
        "plan-00000": slices.Unreadable("plan-00000", "?"),
        "mine": slices.make("mine", [examples.entry("b", 1 << 8)]),
    }
    steps = slicing.steps(plan, existing, term=1)
    assert [item.name for item in steps.puts] == ["plan-00000"]
    assert steps.deletes == ("mine",)
    assert entries(carried_out(steps, existing)) == dict(plan.entries)


def test_a_limit_in_two_slices_is_left_in_one() -> None:
    """The first by name; the other is rewritten."""
    one, two = slices.make("plan-00000", [examples.entry("a")]), slices.make("plan-00001", [examples.entry("a")])
    steps = slicing.steps(Plan({"a": examples.entry("a")}), {one.name: one, two.name: two}, term=1)
    assert (steps.puts, steps.deletes) == ((), ("plan-00001",))
