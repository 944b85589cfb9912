"""Which limit lives in which slice: stable, and one edit rewrites one object."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api.crds import slices
from bandwidth_api.plan import Plan, PlanEntry, SelectorTerm
from bandwidth_operator.publish import slicing
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


def test_a_slice_stays_far_below_what_the_api_server_takes() -> None:
    """Limits with the longest selectors share a slice with fewer others; those of usual size fill what is left."""
    key, values = "k" * 317, tuple("v" * 59 + f"{n:04}" for n in range(32))
    selector = tuple(SelectorTerm(key, "NotIn", values) for _ in range(16))
    heavy = Plan({n: examples.entry(n, node_selector=selector) for n in (f"heavy-{m:02}" for m in range(30))})
    existing = carried_out(slicing.steps(heavy, {}, term=1), {})
    usual = {n: examples.entry(n) for n in (f"usual-{m:03}" for m in range(150))}
    existing = carried_out(slicing.steps(Plan({**heavy.entries, **usual}), existing, term=1), existing)
    assert entries(existing) == {**heavy.entries, **usual}
    for item in existing.values():
        assert len(json.dumps(slices.write(item))) < slicing.SLICE_BYTES + 10_000  # of what is beside the limits
    lonely = examples.entry("lonely", node_selector=selector * 20)
    assert entries(carried_out(slicing.steps(Plan({"lonely": lonely}), {}, term=1), {})) == {"lonely": lonely}


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


# ── how many nodes the head says there are ─────────────────────────────────────────────────────────────────────


def said(nodes: int, existing: dict[str, slices.Decoded]) -> tuple[dict[str, slices.Decoded], bool]:
    """The slices of an empty plan afterwards, and whether the head was written."""
    steps = slicing.steps(Plan({}), existing, term=1, nodes=nodes)
    return carried_out(steps, existing), steps.head is not None


def head_of(existing: dict[str, slices.Decoded]) -> slices.Head:
    head = existing[slices.HEAD]
    assert isinstance(head, slices.Head)
    return head


@pytest.mark.parametrize(
    ("nodes", "rounded"),
    [(0, 0), (1, 0), (256, 0), (257, 512), (512, 512), (513, 1024), (5000, 8192), (8192, 8192), (8193, 16384)],
)
def test_the_head_says_how_many_nodes_run_an_agent(nodes: int, rounded: int) -> None:
    """Rounded up to a power of two; of few nodes it says nothing."""
    assert head_of(said(nodes, {})[0]).nodes == rounded


@pytest.mark.parametrize(
    ("written", "nodes", "after"),
    [
        *((1024, nodes, 1024) for nodes in (1024, 513, 512, 257)),
        (1024, 1025, 2048),
        (1024, 256, 0),
        (4096, 1025, 4096),
        (4096, 1024, 1024),
        (512, 129, 512),
        (512, 128, 0),
        (512, 0, 0),
        (0, 256, 0),
        (700, 600, 1024),
        (1 << 40, 600, 1024),
    ],
)
def test_the_number_grows_at_once_and_shrinks_late(written: int, nodes: int, after: int) -> None:
    """One node too many is enough to grow; three quarters of what is written have to be gone to shrink."""
    existing: dict[str, slices.Decoded] = {slices.HEAD: slices.Head((), nodes=written)}
    assert head_of(said(nodes, existing)[0]).nodes == after


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=20))
def test_the_number_is_never_far_from_the_truth(counts: list[int]) -> None:
    """However nodes come and go; and a new leader that counts as many of them writes nothing."""
    existing: dict[str, slices.Decoded] = {}
    for nodes in counts:
        existing, _ = said(nodes, existing)
        told = head_of(existing).nodes
        assert nodes <= told < 4 * nodes if told else nodes <= slicing.FEW_NODES
        assert slicing.steps(Plan({}), existing, term=2, nodes=nodes).writes == 0


@given(st.integers(slicing.FEW_NODES + 1, 5_000), st.lists(st.floats(0.5, 1.0), max_size=20))
def test_nodes_that_come_and_go_rewrite_no_head(most: int, shares: list[float]) -> None:
    """A cluster that loses up to half of its nodes and gets them back has one number."""
    existing, _ = said(most, {})
    for share in shares:
        existing, was_written = said(math.ceil(most * share), existing)
        assert not was_written


def test_another_number_of_nodes_rewrites_the_head_and_no_slice() -> None:
    """So that no node has anything else to do."""
    plan = Plan({f"l{n}": examples.entry(f"l{n}", n * 256) for n in range(10)})
    existing = carried_out(slicing.steps(plan, {}, term=1, size=SIZE), {})
    steps = slicing.steps(plan, existing, term=1, nodes=300, size=SIZE)
    named = head_of(existing).slices
    assert steps == slicing.Steps((), slices.Head(named, term=1, nodes=512), ())
    assert slicing.steps(plan, carried_out(steps, existing), term=2, nodes=300, size=SIZE).writes == 0
