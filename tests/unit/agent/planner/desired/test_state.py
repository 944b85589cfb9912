"""The state that limits make: what is there, what is not, and which class each client's packets end in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel, tracer
from bandwidth_agent.planner import diff, goal
from bandwidth_agent.planner.classifier import class_ids, guard_set, sets_and_chain
from bandwidth_agent.planner.desired import htb_parameters
from bandwidth_agent.settings import ClassifierSetting
from bandwidth_api import names, plan
from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.plan import ClassKey, Mode, PlanEntry, PortRange, Prefix
from unit.agent import worlds

MARK, PRIORITY = ClassifierSetting.MARK, ClassifierSetting.PRIORITY
HOST, NET = Prefix(4, worlds.BASES[4], 32), Prefix(4, worlds.BASES[4], 29)
ONE, TWO = ClassKey("limit-0", ""), ClassKey("limit-2", "")
WEB = PortRange("TCP", 443, 443)


def built(
    setup: worlds.Setup,
    *tables: plan.Table,
    facts: model.Facts | None = None,
    observed: model.State = model.EMPTY,
    mode: Mode = Mode.ENFORCE,
) -> model.State:
    keys = sorted({key for table in tables for key in table.entries.values() if key is not None})
    resolution = plan.Resolution(tables, {key: worlds.limit(int(key.limit[-1]), 5_000_000, mode) for key in keys}, {})
    return setup.build(resolution, worlds.HELD, facts or worlds.node(), observed)


@worlds.unhurried
@given(worlds.setups("ifb", "interface"), worlds.plan_entry_lists(), st.booleans())
def test_each_packet_ends_in_the_class_of_the_limit_that_wins(
    setup: worlds.Setup, limits: list[PlanEntry], fair: bool
) -> None:
    """From limits to a packet in a class, through everything: the same winner as the rules name, on every interface."""
    kernel = fake_kernel.FakeKernel(worlds.node(fair))
    resolution = resolve.resolve(limits)
    numbers = class_ids.assign(worlds.slots(resolution), {}, quarantined=range(1, 500, 2)).numbers
    for step in diff.compute(setup.build(resolution, numbers, kernel.facts()), kernel.observe()):
        assert kernel.apply_one(step) == objects.Outcome(step)
    by_limit = {entry.limit: entry for entry in limits}
    for family in (4, 6):
        for address in worlds.hosts(family):
            for protocol, port in worlds.PROBES:
                key = worlds.winner(limits, family, address, protocol, port)
                for interface in worlds.INTERFACES:
                    verdict = kernel.trace(family, address, protocol, port, interface)
                    if key is None:
                        assert verdict == "unshaped"
                    else:
                        assert isinstance(verdict, tracer.ClassAddress)
                        assert verdict.minor == numbers[class_ids.slot(key, by_limit[key.limit])]


EDITS = st.one_of(
    st.builds(lambda rate: {"rate_bits_per_second": rate}, st.sampled_from((1_000_000, 2_000_000, 3_000_000))),
    st.builds(lambda mode: {"mode": mode}, st.sampled_from((Mode.ENFORCE, Mode.OBSERVE))),
    st.builds(lambda end: {"expires_at": end}, st.sampled_from((None, 1e9, 2e9))),
    st.builds(lambda priority: {"priority": priority}, st.integers(0, 2)),
    st.just(None),  # taken away, or back again
)


def in_order(resolution: plan.Resolution) -> list[class_ids.Slot]:
    """Which of two new limits gets the lower number is told by nothing but the order in which they are asked for."""
    return sorted(worlds.slots(resolution))


@worlds.unhurried
@given(worlds.setups("ifb", "interface"), worlds.plan_entry_lists(), st.lists(st.tuples(st.integers(0, 4), EDITS)))
def test_edits_one_by_one_come_to_the_same_as_all_anew(
    setup: worlds.Setup, limits: list[PlanEntry], edits: list[tuple[int, dict[str, Any] | None]]
) -> None:
    """What is kept from one answer to the next changes none of them."""
    facts, away, known = worlds.node(), set[int](), dict(enumerate(limits))
    numbers: Mapping[class_ids.Slot, int] = {}
    memo = goal.Memo()
    steps = []
    for index, edit in [(0, {}), *edits]:
        if index not in known:
            continue
        if edit is None:
            away ^= {index}
        else:
            known[index] = dataclasses.replace(known[index], **edit)
        entries = [entry for number, entry in known.items() if number not in away]
        resolution, before = resolve.resolve(entries, memo.overlaps), numbers
        slots = class_ids.slots(resolution.classes, memo.class_ids)
        assert [*slots.items()] == [(key, class_ids.slot(key, entry)) for key, entry in resolution.classes.items()]
        numbers = class_ids.assign(in_order(resolution), before, memo=memo.class_ids).numbers
        steps.append((entries, before, numbers, setup.build(resolution, numbers, facts, memo=memo.desired)))
    for entries, before, numbers, state in steps:
        resolution = resolve.resolve([dataclasses.replace(entry) for entry in entries])
        assert class_ids.assign(in_order(resolution), dict(before)).numbers == numbers
        assert setup.build(resolution, dict(numbers), facts) == state


@pytest.mark.parametrize("classifier", [MARK, PRIORITY])
@pytest.mark.parametrize("kinds", [("ifb", "ifb"), ("interface", "ifb"), ("none", "none")])
def test_without_limits_nothing_is_desired(classifier: ClassifierSetting, kinds: tuple[str, ...]) -> None:
    """No limit, or holes only: a node as it was found."""
    setup = worlds.Setup(classifier, kinds)
    assert built(setup) == model.EMPTY
    assert built(setup, plan.Table(4, (), {HOST: None})) == model.EMPTY


def test_where_nothing_can_be_shaped_nothing_is_desired() -> None:
    """Without an interface to shape there are no rules that cost every packet something."""
    assert built(worlds.Setup(MARK, ("none", "none")), plan.Table(4, (), {HOST: ONE})) == model.EMPTY


def test_only_shards_in_use_have_an_ifb() -> None:
    """Numbers 1 and 700 need the ifbs 0 and 1; every hook leads to both and to no other."""
    state = built(worlds.Setup(MARK, ("ifb", "ifb")), plan.Table(4, (), {HOST: ONE, NET: TWO}))
    assert state.ifbs == {0: objects.Ifb(True), 1: objects.Ifb(True)}
    assert {device: set(tree.classes) for device, tree in state.trees.items()} == {"cbl0": {1}, "cbl1": {700}}
    assert state.hooks == dict.fromkeys(worlds.INTERFACES, objects.Hook(0xFFFF0000, 25, frozenset({0, 1})))


def test_with_priorities_one_ifb_has_all_classes_and_no_filter() -> None:
    """HTB takes the class from the priority; one mark bit leads to the ifb."""
    state = built(worlds.Setup(PRIORITY, ("ifb", "none")), plan.Table(4, (), {HOST: ONE, NET: TWO}))
    assert set(state.trees) == {"cbl0"}
    assert set(state.trees["cbl0"].classes) == {1, 700}
    assert state.trees["cbl0"].filter is None
    assert state.hooks == {"eth0": objects.Hook(0x1000, None, frozenset({0}))}
    assert state.chains[4].rules == (objects.Rule("cbl-v4", None, True, True),)


def test_at_the_root_of_an_interface_all_classes_are_in_one_tree() -> None:
    """No ifb, no hook; the interface has every class itself."""
    state = built(worlds.Setup(MARK, ("interface", "none")), plan.Table(4, (), {HOST: ONE, NET: TWO}))
    assert (state.ifbs, state.hooks) == ({}, {})
    assert set(state.trees["eth0"].classes) == {1, 700}
    assert state.trees["eth0"].filter == objects.MarkFilter(0xFFFF0000)


def test_where_the_root_was_fair_everybody_else_gets_a_fair_class() -> None:
    """A default class gives back what HTB took away, and an HTB that stands keeps the default that it has."""
    setup = worlds.Setup(MARK, ("interface", "none"))
    table = plan.Table(4, (), {HOST: ONE})
    fair = built(setup, table, facts=worlds.node(fair=True))
    assert fair.trees["eth0"].default_minor == names.DEFAULT_CLASS
    assert fair.trees["eth0"].classes[names.DEFAULT_CLASS] == htb_parameters.default_class(frozenset({"fq_codel"}))
    standing = fake_kernel.FakeKernel(worlds.node(fair=True), fair)
    assert built(setup, table, facts=standing.facts(), observed=fair) == fair
    plain = built(setup, table)
    assert plain.trees["eth0"].default_minor == 0
    standing = fake_kernel.FakeKernel(worlds.node(), plain)
    assert built(setup, table, facts=standing.facts(), observed=plain) == plain


def test_observed_limits_borrow_from_a_parent_of_their_device() -> None:
    """The parent stands where an Observe class does, and nowhere else."""
    table = plan.Table(4, (), {HOST: ONE})
    state = built(worlds.Setup(MARK, ("ifb", "none")), table, mode=Mode.OBSERVE)
    assert state.trees["cbl0"].classes == {
        11: htb_parameters.observe(5_000_000, None),
        names.OBSERVE_PARENT: htb_parameters.observe_parent(),
    }


def test_families_and_ports_have_a_set_each_and_a_rule_per_range() -> None:
    """Rules look up the table without ports first; families without limits have no chain."""
    ports = (PortRange("UDP", 53, 60), WEB)
    state = built(
        worlds.Setup(MARK, ("ifb", "none")),
        plan.Table(4, ports, {HOST: TWO}),
        plan.Table(4, (), {NET: ONE, HOST: None}),
    )
    with_ports = names.set_name(4, ports)
    assert set(state.chains) == {4}
    assert state.chains[4] == objects.Chain(
        (
            objects.Rule("cbl-v4", None, True, False),
            objects.Rule(with_ports, ports[1], True, False),
            objects.Rule(with_ports, ports[0], True, False),
        ),
        True,
        names.clients_set(4),
    )
    assert state.sets["cbl-v4"].entries[HOST] == sets_and_chain.HOLE
    assert state.sets[with_ports].entries == {HOST: objects.SetEntry(700 << 16, 0xFFFF0000, 0, "limit-2")}


def test_one_look_up_decides_who_is_asked_about() -> None:
    """Of one set the set itself; of several a set of all who have a class in one of them, and of no other."""
    setup, other = worlds.Setup(MARK, ("ifb", "none")), Prefix(4, 0x0B00_0000, 8)
    alone = built(setup, plan.Table(4, (), {HOST: ONE}))
    assert (alone.chains[4].guard, set(alone.sets)) == ("cbl-v4", {"cbl-v4"})
    with_ports = built(setup, plan.Table(4, (WEB,), {HOST: ONE}))
    assert (with_ports.chains[4].guard, set(with_ports.sets)) == (
        names.set_name(4, (WEB,)),
        {names.set_name(4, (WEB,))},
    )
    several = built(
        setup,
        plan.Table(4, (), {NET: ONE, HOST: None}),
        plan.Table(4, (WEB,), {other: TWO}),
        plan.Table(6, (), {Prefix(6, worlds.BASES[6], 64): ONE}),
    )
    assert several.chains[4].guard == names.clients_set(4)
    assert several.sets[names.clients_set(4)] == objects.IpSet(4, {NET: guard_set.CLIENT, other: guard_set.CLIENT})
    assert several.chains[6].guard == "cbl-v6"
    assert names.clients_set(6) not in several.sets


def test_everything_is_two_halves() -> None:
    """ipset knows no prefix of length 0; a half that is limited otherwise stays as it is."""
    upper = Prefix(4, 1 << 31, 1)
    entries = {Prefix(4, 0, 0): ONE, upper: TWO}
    state = built(worlds.Setup(MARK, ("ifb", "none")), plan.Table(4, (), entries))
    marks = {prefix: entry.mark >> 16 for prefix, entry in state.sets["cbl-v4"].entries.items()}
    assert marks == {Prefix(4, 0, 1): 1, upper: 700}


def test_a_class_without_a_number_is_nobodys() -> None:
    """Its clients are not put into the class of a shorter prefix."""
    table = plan.Table(4, (), {HOST: ONE, NET: TWO})
    limits = {key: worlds.limit(int(key.limit[-1]), 5_000_000) for key in (ONE, TWO)}
    setup = worlds.Setup(MARK, ("ifb", "none"))
    numbers = {class_ids.slot(TWO, limits[TWO]): 700}
    state = setup.build(plan.Resolution((table,), limits, {}), numbers, worlds.node())
    assert state.sets["cbl-v4"].entries[HOST] == sets_and_chain.HOLE
    assert set(state.trees) == {"cbl1"}


def test_the_largest_egress_mtu_shapes_the_leaves() -> None:
    """A frame of any uplink must fit into a TBF that cuts packets into frames."""
    facts = fake_kernel.facts(fake_kernel.interface("eth0"), fake_kernel.interface("eth1", mtu=9000))
    state = built(worlds.Setup(MARK, ("ifb", "interface")), plan.Table(4, (), {HOST: ONE}), facts=facts)
    leaves = {device: tree.classes[1].leaf for device, tree in state.trees.items()}
    assert leaves == dict.fromkeys(("cbl0", "eth1"), objects.Leaf("tbf", 9086, 72688, "bfifo"))
