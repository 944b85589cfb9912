"""Whose comparison or copy our marks and priorities would spoil, and what is done instead."""

from __future__ import annotations

import dataclasses

import pytest

from bandwidth_agent import reconcile
from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.limits import Wanted
from bandwidth_agent.planner import classifier, placement
from bandwidth_agent.settings import ClassifierSetting, PlacementSetting, Settings
from bandwidth_api import addresses
from bandwidth_api.plan import Mode, PlanEntry, Sharing

ALL = 0xFFFFFFFF
REDIRECT = 0x1000

MASQUERADE = model.MarkUse(ALL, "-t nat -A POSTROUTING -m mark --mark 1 -j MASQUERADE", read=ALL)
SAVE = model.MarkUse(ALL, "-t mangle -A POSTROUTING -j CONNMARK --save-mark", read=ALL)
BEFORE_US = model.MarkUse(ALL, "-t mangle -A OUTPUT -j MARK --set-mark 1")
MASKED = model.MarkUse(0xFFFF4000, "-t nat -A POSTROUTING -m mark --mark 0x4000/0xffff4000", read=0xFFFF4000)

PLAIN = model.RootQdisc("noqueue", 0, False)
BANDS_OF_THE_KERNEL = model.RootQdisc("pfifo_fast", 0, False, sorts="pfifo_fast")
QUEUES = model.RootQdisc("mq", 0, False, frozenset({"pfifo_fast"}), sorts="pfifo_fast")
OURS = model.RootQdisc("htb", 0x7CB1, True)
CAKE = model.RootQdisc("cake", 0x8001, False)
BANDS = model.RootQdisc("prio", 1, False, sorts="prio")
BY_MARK = model.RootQdisc("htb", 1, False, filters=("fw pref 1",), marks=ALL)


def node(root: model.RootQdisc, *uses: model.MarkUse, skbedit: bool = True) -> model.Facts:
    facts = fake_kernel.facts(fake_kernel.interface(root=root))
    return dataclasses.replace(facts, mark_uses=uses, features=facts.features._replace(skbedit=skbedit))


AUTOMATIC = Settings()


def decided(facts: model.Facts, settings: Settings = AUTOMATIC) -> tuple[placement.Placement, classifier.Classifier]:
    placements = placement.decide_all(settings, facts)
    return placements["eth0"], classifier.choose(settings, facts, placements)


@pytest.mark.parametrize("use", [MASQUERADE, SAVE])
@pytest.mark.parametrize("root", [PLAIN, BANDS_OF_THE_KERNEL, QUEUES, OURS])
def test_no_mark_is_written_where_another_rule_would_see_it(root: model.RootQdisc, use: model.MarkUse) -> None:
    """A rule after ours that compares or saves the whole mark: limits are at the root, and the mark stays as it is."""
    place, classifier = decided(node(root, use))
    assert (place.kind, place.reason) == ("interface", "MarkConflict")
    assert use.where in place.message
    assert not classifier.map_mark
    assert classifier.entry(7, "x").mask == 0
    assert classifier.warning == ""


@pytest.mark.parametrize("use", [MASQUERADE, SAVE])
@pytest.mark.parametrize("root", [CAKE, BANDS])
def test_where_no_way_is_harmless_none_is_taken(root: model.RootQdisc, use: model.MarkUse) -> None:
    """With another program's root on the interface the limit fails, and the message names rule, root and remedy."""
    place, classifier = decided(node(root, use))
    assert (place.kind, place.reason) == ("none", "ForeignQdisc")
    for word in (use.where, root.kind, "mask without 0x1000"):
        assert word in place.message
    assert not classifier.map_mark


@pytest.mark.parametrize("root", [PLAIN, CAKE])
def test_a_rule_before_ours_sees_nothing_of_ours(root: model.RootQdisc) -> None:
    """It costs the bits of the mask, and packets go through an ifb by one bit and their priority."""
    place, classifier = decided(node(root, BEFORE_US))
    assert (place.kind, classifier.kind, classifier.mask) == ("ifb", "priority", REDIRECT)


def test_a_masked_comparison_elsewhere_is_none_of_ours() -> None:
    """What compares other bits than the redirect bit does not stand against it."""
    place, classifier = decided(node(CAKE, MASKED))
    assert (place.kind, classifier.kind, classifier.mask) == ("ifb", "priority", REDIRECT)


@pytest.mark.parametrize(
    ("root", "kind", "reason"),
    [
        (BANDS_OF_THE_KERNEL, "interface", "MarkConflict"),
        (QUEUES, "interface", "MarkConflict"),
        (BANDS, "none", "ForeignQdisc"),
    ],
)
def test_bands_by_priority_are_not_handed_our_priorities(root: model.RootQdisc, kind: str, reason: str) -> None:
    """Where the class would have to travel as a priority, a root that sorts by it is no way back from an ifb."""
    place, _ = decided(node(root, BEFORE_US))
    assert (place.kind, place.reason) == (kind, reason)
    assert root.sorts in place.message
    assert decided(node(root))[0].kind == "ifb", "a mark leaves the priority alone"


def test_placement_at_the_root_is_no_seesaw() -> None:
    """Once our HTB has taken the place of bands by priority, the next pass leaves it there."""
    assert (
        decided(node(BANDS_OF_THE_KERNEL, BEFORE_US))[0].kind == decided(node(OURS, BEFORE_US))[0].kind == "interface"
    )


def test_filters_by_mark_at_the_root_find_no_mark_of_ours() -> None:
    """Where the kernel can clear our bits, the class travels in the mark and is cleared in the ifb's tree."""
    place, classifier = decided(node(BY_MARK))
    assert (place.kind, classifier.kind) == ("ifb", "mark")
    assert classifier.filter == objects.MarkFilter(0xFFFF0000, clears=True)
    assert not classifier.hook({0}).clears, "the tree needs the mark"


def test_filters_by_mark_where_bits_cannot_be_cleared() -> None:
    """Without the action that clears them no mark is written; the message says which module helps."""
    place, classifier = decided(node(BY_MARK, skbedit=False))
    assert (place.kind, place.reason) == ("none", "ForeignQdisc")
    assert "act_skbedit" in place.message
    assert not classifier.map_mark


def test_the_redirect_bit_is_cleared_on_its_way() -> None:
    """A packet that carries its class as a priority comes back from the ifb without our bit."""
    _, classifier = decided(node(CAKE, BEFORE_US))
    assert classifier.hook({0}) == objects.Hook(REDIRECT, None, frozenset({0}), clears=True)
    _, classifier = decided(node(CAKE, BEFORE_US, skbedit=False))
    assert classifier.hook({0}) == objects.Hook(REDIRECT, None, frozenset({0}))


def test_a_filter_on_the_egress_hook_reads_marks_too() -> None:
    """At the root of an interface HTB takes the priority, where the hook before it compares marks."""
    facts = fake_kernel.facts(fake_kernel.interface(foreign_egress_filters=("fw pref 1",), hook_marks=ALL))
    place, classifier = decided(facts)
    assert (place.kind, classifier.kind, classifier.map_mark) == ("interface", "priority", False)
    assert "fw pref 1" in classifier.message


def test_devices_below_count_and_others_do_not() -> None:
    """The port of a bridge sorts what the bridge was given; an interface that we do not shape sorts something else."""
    bridge = fake_kernel.interface("br0", index=5)
    port = fake_kernel.interface("eth0", index=2, master=5, default_route=False, root=BY_MARK)
    elsewhere = fake_kernel.interface("eth9", index=9, default_route=False, root=BY_MARK, hook_marks=ALL)
    for devices, kind in (((bridge, port), "interface"), ((bridge, elsewhere), "ifb")):
        placements = placement.decide_all(Settings(), fake_kernel.facts(*devices))
        assert placements["br0"].kind == kind


@pytest.mark.parametrize("classifier", [ClassifierSetting.MARK, ClassifierSetting.PRIORITY])
def test_explicit_settings_are_obeyed_with_a_warning(classifier: ClassifierSetting) -> None:
    """Who asks for an ifb gets it, and is told whose packets it spoils."""
    settings = Settings(placement=PlacementSetting.IFB, classifier=classifier)
    place, chosen = decided(node(PLAIN, MASQUERADE), settings)
    assert place.kind == "ifb"
    assert MASQUERADE.where in chosen.warning
    assert "takes packets to limited clients for others" in chosen.warning


def test_a_reverse_path_filter_is_no_reason_to_warn() -> None:
    """The bits of the mask are its own, but the redirect bit is written when it has looked long ago."""
    filtering = model.MarkUse(ALL, "nft inet table firewalld chain mangle_PREROUTING: fib mark", arriving=True)
    place, chosen = decided(node(PLAIN, filtering))
    assert (place.kind, chosen.kind, chosen.warning) == ("ifb", "priority", "")


def test_a_priority_that_is_written_after_ours() -> None:
    """It matters only where the priority carries the class; then a warning names the rule and what helps."""
    classify_rule = model.MarkUse(0, "-A POSTROUTING -j CLASSIFY --set-class 1:10", priority=True)
    _, chosen = decided(node(CAKE, classify_rule))
    assert (chosen.kind, chosen.warning) == ("mark", "")
    _, chosen = decided(node(CAKE, classify_rule, MASKED))
    assert chosen.kind == "priority"
    assert f"written after ours by {classify_rule.where}, so what it matches is not slowed" in chosen.warning


@pytest.mark.parametrize("uses", [(), (BEFORE_US,)])
def test_an_action_that_the_kernel_learns_costs_one_filter(uses: tuple[model.MarkUse, ...]) -> None:
    """Where our bits can be cleared from now on, a filter is replaced, and neither rules nor entries are touched."""
    clients = (addresses.parse("203.0.113.7"), addresses.parse("2001:db8::7"))
    limit = PlanEntry("a", "", 1, clients, (), (), 8000, None, Mode.ENFORCE, Sharing.SHARED, 0, 0.0, None, ())
    kernel = fake_kernel.FakeKernel(node(CAKE, *uses, skbedit=False))
    reconciler = reconcile.Reconciler(kernel, AUTOMATIC)
    wanted = Wanted((limit,))
    reconciler.run(wanted, read=True)
    kernel.node = node(CAKE, *uses)
    kernel.applied.clear()
    assert reconciler.run(wanted, read=True).ok
    (step,) = kernel.applied
    assert isinstance(step, objects.PutHook if uses else objects.PutFilter)
    assert reconciler.run(wanted, read=True).changes == 0
    kernel.node = node(CAKE, *uses, skbedit=False)
    assert reconciler.run(wanted, read=True).changes == 0, "what stands is possible, whatever a probe says"
