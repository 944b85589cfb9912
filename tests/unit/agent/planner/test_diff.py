"""The changes from one state to another: they arrive, they stop, and no moment between is worse than both ends."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent import settings
from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel, tracer
from bandwidth_agent.kernel.linux.netfilter import iptables_text
from bandwidth_agent.kernel.objects import chain_layout
from bandwidth_agent.planner import diff
from bandwidth_agent.planner.classifier import class_ids
from bandwidth_api import names, plan
from bandwidth_api.plan import ClassKey, Mode, Prefix
from unit.agent import worlds

HELD = worlds.HELD


def apply_all(kernel: fake_kernel.FakeKernel, desired: model.State) -> list[objects.Change]:
    """Apply the changes to the fake kernel; none of them may fail."""
    changes = diff.compute(desired, kernel.observe())
    for step in changes:
        outcome = kernel.apply_one(step)
        assert outcome == objects.Outcome(step)
    return changes


def numbered(resolution: plan.Resolution, held: dict[class_ids.Slot, int] | None = None) -> dict[class_ids.Slot, int]:
    return dict(class_ids.assign(worlds.slots(resolution), HELD if held is None else held).numbers)


@worlds.unhurried
@given(worlds.setups(), worlds.resolutions(), worlds.states(), st.booleans())
def test_from_any_state_the_changes_arrive_and_then_there_are_none(
    setup: worlds.Setup, resolution: plan.Resolution, found: model.State, fair: bool
) -> None:
    """Whatever of ours is found, and in whatever disorder, one pass puts it right and a second has nothing to do."""
    kernel = fake_kernel.FakeKernel(worlds.node(fair), found)
    desired = setup.build(resolution, numbered(resolution), kernel.facts(), kernel.observe())
    apply_all(kernel, desired)
    assert kernel.observe() == desired
    assert diff.compute(desired, kernel.observe()) == []


@worlds.unhurried
@given(worlds.states())
def test_from_any_state_nothing_of_ours_is_left_when_nothing_is_desired(found: model.State) -> None:
    """With the last limit everything goes, whatever it was."""
    kernel = fake_kernel.FakeKernel(worlds.node(), found)
    apply_all(kernel, model.EMPTY)
    assert kernel.observe() == model.EMPTY


class Journey:
    """The way from one desired state to another, with every packet traced at every elementary step.

    A client that is limited at both ends must be limited, and not faster than at the faster end, at every step;
    no packet may be dropped.
    """

    def __init__(self, resolutions: tuple[plan.Resolution, plan.Resolution], start: model.State, goal: model.State):
        self._packets = worlds.paths(*resolutions)
        self._bounds = {}
        first, last = tracer.Tracer(start), tracer.Tracer(goal)
        for packet in self._packets:
            ends = worlds.speed(start, first.trace(*packet)), worlds.speed(goal, last.trace(*packet))
            assert min(ends) > 0
            self._bounds[packet] = max(ends)

    def travel(self, kernel: fake_kernel.FakeKernel, goal: model.State, steps: int | None = None) -> None:
        """Apply so many elementary steps towards the goal, or all of them."""
        changes = diff.compute(goal, kernel.observe())
        for single in itertools.islice((s for step in changes for s in worlds.elementary(step)), steps):
            assert kernel.apply_one(single) == objects.Outcome(single)
            now = tracer.Tracer(kernel.state)
            for packet, bound in self._bounds.items():
                speed = worlds.speed(kernel.state, now.trace(*packet))
                assert speed > 0, f"{packet} dropped after {single}"
                assert speed <= bound, f"{packet} too fast after {single}"


def check_every_moment(
    before: tuple[worlds.Setup, plan.Resolution],
    after: tuple[worlds.Setup, plan.Resolution],
    fair: bool = False,
    killed_after: int | None = None,
) -> None:
    """Go from one desired state to another; if killed on the way, a new agent adopts what is there and finishes."""
    kernel = fake_kernel.FakeKernel(worlds.node(fair))
    numbers = numbered(before[1])
    apply_all(kernel, before[0].build(before[1], numbers, kernel.facts()))
    start = kernel.observe()
    goal = after[0].build(after[1], numbered(after[1], {**HELD, **numbers}), kernel.facts(), start)
    journey = Journey((before[1], after[1]), start, goal)
    if killed_after is not None:
        journey.travel(kernel, goal, killed_after)
        adopted = dict(class_ids.adopt(kernel.observe(), after[0].choose(kernel.facts()).capacity))
        goal = after[0].build(after[1], numbered(after[1], adopted), kernel.facts(), kernel.observe())
    journey.travel(kernel, goal)
    assert kernel.observe() == goal


@worlds.unhurried
@given(worlds.setups("ifb", "interface"), worlds.resolutions(), worlds.resolutions(), st.booleans())
def test_at_no_moment_is_a_client_faster_than_before_and_after(
    setup: worlds.Setup, before: plan.Resolution, after: plan.Resolution, fair: bool
) -> None:
    """Limits change in any way: who is limited before and after is limited at every step, and nothing is dropped."""
    check_every_moment((setup, before), (setup, after), fair)


@worlds.unhurried
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
    check_every_moment((before, resolution), (after, dataclasses.replace(resolution, classes=faster)))


@worlds.unhurried
@given(worlds.setups("ifb", "interface"), worlds.resolutions(), worlds.resolutions(), st.integers(0, 40))
def test_an_agent_killed_anywhere_leaves_no_client_faster_and_its_successor_makes_none_so(
    setup: worlds.Setup, before: plan.Resolution, after: plan.Resolution, killed_after: int
) -> None:
    """Killed between any two elementary steps; the successor has no memory but the kernel."""
    check_every_moment((setup, before), (setup, after), killed_after=killed_after)


@worlds.unhurried
@given(worlds.setups("ifb", "interface"), worlds.resolutions(), worlds.resolutions(), st.integers(0, 40))
def test_what_an_older_agent_left_in_one_chain_is_taken_over_without_a_gap(
    setup: worlds.Setup, before: plan.Resolution, after: plan.Resolution, killed_after: int
) -> None:
    """All ranges in one chain and nothing asked before it: other limits are put in its place, killed on the way or
    not, and with the same limits not one packet is faster at any step."""
    for limits in (before, after):
        kernel = fake_kernel.FakeKernel(worlds.node())
        apply_all(kernel, setup.build(before, numbered(before), kernel.facts()))
        kernel.state = left_by_an_older_agent(kernel.state)
        start = kernel.observe()
        goal = setup.build(limits, numbered(limits, numbered(before)), kernel.facts(), start)
        journey = Journey((before, limits), start, goal)
        journey.travel(kernel, goal, killed_after)
        journey.travel(kernel, goal)
        assert kernel.observe() == goal


def left_by_an_older_agent(state: model.State) -> model.State:
    """The same limits as an agent programs them that knows one chain and asks every packet where there are ports."""
    chains = {}
    for family, chain in state.chains.items():
        with_ports = any(rule.ports for rule in chain.rules)
        unknown = (iptables_text.UNKNOWN_RULE,) if len(chain_layout.laid_out(chain.rules)) > 1 else ()
        chains[family] = objects.Chain((*chain.rules, *unknown), True, "" if with_ports else chain.guard)
    clients_sets = {names.clients_set(family) for family in (4, 6)}
    sets = {name: ipset for name, ipset in state.sets.items() if name not in clients_sets}
    return dataclasses.replace(state, sets=sets, chains=chains)


def test_without_ports_an_older_agents_work_stays_as_it_is() -> None:
    """A newer agent has nothing to change where no limit has ports."""
    left = left_by_an_older_agent(BOTH)
    assert left == BOTH
    assert diff.compute(BOTH, left) == []


def enforced(resolution: plan.Resolution) -> plan.Resolution:
    classes = {key: dataclasses.replace(entry, mode=Mode.ENFORCE) for key, entry in resolution.classes.items()}
    return dataclasses.replace(resolution, classes=classes)


@worlds.unhurried
@given(worlds.setups("ifb", "interface"), worlds.resolutions(), worlds.resolutions(), st.permutations(worlds.NUMBERS))
def test_a_number_that_changes_hands_lends_nobody_its_new_rate(
    setup: worlds.Setup, before: plan.Resolution, after: plan.Resolution, dealt: list[int]
) -> None:
    """Even where numbers are reused at once: a class is slowed down before its clients change and sped up after."""
    before, after = enforced(before), enforced(after)
    kernel = fake_kernel.FakeKernel(worlds.node())
    apply_all(kernel, setup.build(before, numbered(before), kernel.facts()))
    start = kernel.observe()
    goal = setup.build(
        after, dict(zip(sorted(slot for slot in HELD if not slot.observe), dealt, strict=True)), kernel.facts(), start
    )
    Journey((before, after), start, goal).travel(kernel, goal)
    assert kernel.observe() == goal


# ── the order, by example ──────────────────────────────────────────────────────────────────────────────────────

WAY = worlds.Setup(settings.ClassifierSetting.MARK, ("ifb", "none"))
ONE, TWO = ClassKey("limit-0", ""), ClassKey("limit-2", "")


def plain(entries: dict[Prefix, ClassKey | None], rate: int = 1_000_000) -> plan.Resolution:
    named = {key for key in entries.values() if key is not None}
    classes = {key: worlds.limit(int(key.limit[-1]), rate) for key in sorted(named)}
    return plan.Resolution((plan.Table(4, (), entries),), classes, {})


def built(resolution: plan.Resolution) -> model.State:
    return WAY.build(resolution, numbered(resolution), worlds.node())


def phases(changes: list[objects.Change]) -> list[int]:
    order = [*objects.ORDER]
    return [order.index(type(step)) for step in changes]


HOST_1, HOST_2 = Prefix(4, worlds.BASES[4], 32), Prefix(4, worlds.BASES[4] + 1, 32)
BOTH = built(plain({HOST_1: ONE, HOST_2: TWO}))


def test_installing_and_removing_go_through_the_phases_in_order() -> None:
    """Device, class, filter, hook, set, rule; and back."""
    for desired, observed in ((BOTH, model.EMPTY), (model.EMPTY, BOTH)):
        changes = diff.compute(desired, observed)
        assert phases(changes) == sorted(phases(changes))
    assert [type(step) for step in diff.compute(model.EMPTY, BOTH)] == [
        objects.DeleteChain,
        objects.DeleteSet,
        objects.DeleteHook,
        objects.DeleteIfb,
        objects.DeleteIfb,
    ]


def test_one_limit_less_takes_its_entry_its_class_and_its_empty_device() -> None:
    """The last limit of a shard takes the ifb along, after the hook has stopped leading there."""
    assert diff.compute(built(plain({HOST_1: ONE})), BOTH) == [
        objects.DeleteEntries("cbl-v4", 4, frozenset({HOST_2})),
        objects.TrimHook("eth0", frozenset({1})),
        objects.DeleteIfb(1),
    ]


def test_a_changed_rate_is_one_class() -> None:
    """Only the class whose rate changed is put, with what is there now."""
    faster = built(plain({HOST_1: ONE}, 5_000_000))
    slower = built(plain({HOST_1: ONE}))
    for desired, observed in ((faster, slower), (slower, faster)):
        there, wanted = observed.trees["cbl0"].classes[1], desired.trees["cbl0"].classes[1]
        assert diff.compute(desired, observed) == [objects.PutClasses("cbl0", {1: wanted}, {1: there})]


def test_an_unhealthy_set_is_swapped() -> None:
    """A set of another type or without our extensions cannot be repaired entry by entry."""
    sets = {name: dataclasses.replace(ipset, healthy=False) for name, ipset in BOTH.sets.items()}
    changes = diff.compute(BOTH, dataclasses.replace(BOTH, sets=sets))
    assert changes == [objects.PutSet("cbl-v4", BOTH.sets["cbl-v4"], True)]


def test_a_root_with_another_default_is_made_anew_with_all_its_classes() -> None:
    """HTB cannot be changed in place: the root goes and comes back, then every class and the filter."""
    tree = BOTH.trees["cbl0"]
    strange = {**BOTH.trees, "cbl0": dataclasses.replace(tree, default_minor=1)}
    assert diff.compute(BOTH, dataclasses.replace(BOTH, trees=strange)) == [
        objects.DeleteRoot("cbl0"),
        objects.PutRoot("cbl0", 0),
        objects.PutClasses("cbl0", tree.classes, {}),
        objects.PutFilter("cbl0", objects.MarkFilter(0xFFFF0000)),
    ]


def test_a_lost_ifb_is_made_anew_and_led_to_again() -> None:
    """Everything that stood on the device is put again, and the redirects whose target went with it."""
    kernel = fake_kernel.FakeKernel(worlds.node(), BOTH)
    kernel.delete_ifb(1)
    changes = apply_all(kernel, BOTH)
    assert [type(step) for step in changes] == [
        objects.PutIfb,
        objects.PutRoot,
        objects.PutClasses,
        objects.PutFilter,
        objects.PutHook,
    ]
    assert changes[0] == objects.PutIfb(1)


def test_foreign_roots_of_other_interfaces_are_not_mentioned() -> None:
    """The changes name our devices and the interfaces that are shaped, and nothing else."""
    for step in (*diff.compute(BOTH, model.EMPTY), *diff.compute(model.EMPTY, BOTH)):
        touched = getattr(step, "device", getattr(step, "interface", "cbl0"))
        assert touched in {"cbl0", "cbl1", "eth0"}
