"""The changes from one state to another: they arrive, they stop, and no moment between is worse than both ends."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent import allocate, diff, settings
from bandwidth_agent.kernel import change, fake, model, tracer
from bandwidth_api import plan
from unit.agent import worlds

MARK, PRIORITY = settings.ClassifierSetting.MARK, settings.ClassifierSetting.PRIORITY
HELD = worlds.preferred(observe=False)


def apply_all(kernel: fake.FakeKernel, desired: model.State) -> list[change.Change]:
    """Apply the changes to the fake kernel; none of them may fail."""
    changes = diff.compute(desired, kernel.observe())
    for step in changes:
        outcome = kernel.apply_one(step)
        assert outcome == change.Outcome(step)
    return changes


def numbered(resolution: plan.Resolution, held: dict[allocate.Slot, int] | None = None) -> dict[allocate.Slot, int]:
    return dict(allocate.assign(worlds.slots(resolution), HELD if held is None else held).numbers)


@given(worlds.setups(), worlds.resolutions(), worlds.states(), st.booleans())
def test_from_any_state_the_changes_arrive_and_then_there_are_none(
    setup: worlds.Setup, resolution: plan.Resolution, found: model.State, fair: bool
) -> None:
    """Whatever of ours is found, and in whatever disorder, one pass puts it right and a second has nothing to do."""
    kernel = fake.FakeKernel(worlds.node(fair), found)
    desired = setup.build(resolution, numbered(resolution), kernel.facts(), kernel.observe())
    apply_all(kernel, desired)
    assert kernel.observe() == desired
    assert diff.compute(desired, kernel.observe()) == []


@given(worlds.states())
def test_from_any_state_nothing_of_ours_is_left_when_nothing_is_desired(found: model.State) -> None:
    """With the last limit everything goes, whatever it was."""
    kernel = fake.FakeKernel(worlds.node(), found)
    apply_all(kernel, model.EMPTY)
    assert kernel.observe() == model.EMPTY


def check_every_moment(
    before: tuple[worlds.Setup, plan.Resolution], after: tuple[worlds.Setup, plan.Resolution], fair: bool
) -> None:
    """Go from one desired state to another step by step, tracing every packet at every step."""
    kernel = fake.FakeKernel(worlds.node(fair))
    numbers = numbered(before[1])
    apply_all(kernel, before[0].build(before[1], numbers, kernel.facts()))
    start = kernel.observe()
    numbers_after = numbered(after[1], {**HELD, **numbers})
    goal = after[0].build(after[1], numbers_after, kernel.facts(), start)
    packets = worlds.paths(before[1], after[1])
    first, last = tracer.Tracer(start), tracer.Tracer(goal)
    bounds = {}
    for packet in packets:
        from_here, to_there = worlds.speed(start, first.trace(*packet)), worlds.speed(goal, last.trace(*packet))
        assert from_here
        assert to_there
        bounds[packet] = max(from_here, to_there)
    for step in diff.compute(goal, start):
        for single in worlds.elementary(step):
            assert kernel.apply_one(single) == change.Outcome(single)
            state = kernel.state
            now = tracer.Tracer(state)
            for packet in packets:
                speed = worlds.speed(state, now.trace(*packet))
                assert speed > 0, f"{packet} dropped after {single}"
                assert speed <= bounds[packet], f"{packet} too fast after {single}"
    assert kernel.observe() == goal


@given(worlds.setups("ifb", "interface"), worlds.resolutions(), worlds.resolutions(), st.booleans())
def test_at_no_moment_is_a_client_faster_than_before_and_after(
    setup: worlds.Setup, before: plan.Resolution, after: plan.Resolution, fair: bool
) -> None:
    """Limits change in any way: who is limited before and after is limited at every step, and nothing is dropped."""
    check_every_moment((setup, before), (setup, after), fair)


@given(worlds.setups("ifb", "interface"), worlds.setups("ifb", "interface"), worlds.resolutions(), worlds.resolutions())
def test_placement_and_classifier_change_without_a_gap(
    before: worlds.Setup, after: worlds.Setup, resolution: plan.Resolution, limits: plan.Resolution
) -> None:
    """A restart with another placement, another classifier, or both, and with other rates: no client gets away."""
    rates = {k: e.rate_bits_per_second for k, e in limits.classes.items()}
    faster = {
        k: dataclasses.replace(e, rate_bits_per_second=rates.get(k, e.rate_bits_per_second))
        for k, e in resolution.classes.items()
    }
    check_every_moment((before, resolution), (after, dataclasses.replace(resolution, classes=faster)), False)
