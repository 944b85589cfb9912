"""How packets carry class numbers: the choice, the arithmetic, and reading it back whoever wrote it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.planner import classifier, placement
from bandwidth_agent.planner.classifier import ownership
from bandwidth_agent.settings import ClassifierSetting, Settings
from bandwidth_api import names
from bandwidth_api.conditions import Reason

THROUGH_IFB = {"eth0": placement.Placement("ifb", Reason.PREFERRED, "")}
AT_ROOT = {"eth0": placement.Placement("interface", Reason.CONFIGURED, "")}
IN_BOTH = {"eth0": THROUGH_IFB["eth0"], "eth1": AT_ROOT["eth0"]}
FREE = fake_kernel.facts()
CALICO = dataclasses.replace(FREE, mark_uses=(model.MarkUse(0xFFFF0000, "-A cali-POSTROUTING -j MARK"),))
PROXY = dataclasses.replace(FREE, mark_uses=(model.MarkUse(0x4000, "-A KUBE-MARK-MASQ"),))
ON_REDIRECT = dataclasses.replace(FREE, mark_uses=(model.MarkUse(0xFFFFFFFF, "-A OTHERS"),))


def choose(
    setting: ClassifierSetting = ClassifierSetting.AUTO,
    facts: model.Facts = FREE,
    placements: dict[str, placement.Placement] = THROUGH_IFB,
    mask: int = 0xFFFF0000,
) -> classifier.Classifier:
    return classifier.choose(Settings(classifier=setting, mark_mask=mask), facts, placements)


def test_auto_takes_the_mark_where_its_bits_are_free() -> None:
    """Rules that use other bits do not matter."""
    for facts in (FREE, PROXY):
        chosen = choose(facts=facts)
        assert (chosen.kind, chosen.reason, chosen.warning) == ("mark", "MarkBitsFree", "")


def test_auto_takes_the_priority_where_somebody_uses_the_bits() -> None:
    """The message names the rule."""
    chosen = choose(facts=CALICO)
    assert (chosen.kind, chosen.reason, chosen.warning) == ("priority", "MarkBitsInUse", "")
    assert "cali-POSTROUTING" in chosen.message


def test_an_explicit_classifier_is_obeyed_and_warns_of_a_collision() -> None:
    """The administrator decides, and is told."""
    mark = choose(ClassifierSetting.MARK, CALICO)
    assert (mark.kind, mark.reason) == ("mark", "Configured")
    assert "cali-POSTROUTING" in mark.warning
    priority = choose(ClassifierSetting.PRIORITY, ON_REDIRECT)
    assert (priority.kind, priority.reason) == ("priority", "Configured")
    assert "0x1000" in priority.warning
    assert choose(ClassifierSetting.PRIORITY, CALICO).warning == ""


def test_the_warning_says_what_comes_of_marks_that_are_rewritten() -> None:
    """A rule that only uses the bits, or writes them before ours, is named; one that undoes ours is named before it."""
    late = model.MarkUse(0xFFFFFFFF, "-A LATE", 0xFFFFFFFF)
    facts = dataclasses.replace(ON_REDIRECT, mark_uses=(*ON_REDIRECT.mark_uses, late))
    for setting in (ClassifierSetting.MARK, ClassifierSetting.PRIORITY):
        assert "not slowed" not in choose(setting, ON_REDIRECT).warning
        assert "-A LATE, so what it matches is not slowed" in choose(setting, facts).warning


def test_the_redirect_bit_is_used_only_beside_an_ifb() -> None:
    """At the root of an interface HTB takes the priority alone, and no mark is written."""
    beside = choose(ClassifierSetting.PRIORITY)
    assert beside.entry(5, "x") == objects.SetEntry(0x1000, 0x1000, 0x7CB10005, "x")
    assert (beside.map_mark, beside.map_priority) == (True, True)
    alone = choose(ClassifierSetting.PRIORITY, placements=AT_ROOT)
    assert alone.entry(5, "x") == objects.SetEntry(0, 0, 0x7CB10005, "x")
    assert (alone.map_mark, alone.map_priority) == (False, True)
    assert choose(ClassifierSetting.PRIORITY, ON_REDIRECT, AT_ROOT).warning == ""
    assert choose(ClassifierSetting.PRIORITY, placements=IN_BOTH) == beside


def test_marks_carry_shard_and_number() -> None:
    """The number lies in the lowest bits of the mask, the shard in what is above 512 of them."""
    chosen = choose()
    assert chosen.entry(1025, "x") == objects.SetEntry(1025 << 16, 0xFFFF0000, 0, "x")
    assert (chosen.shard(511), chosen.shard(512), chosen.shard(names.CLASS_MAX)) == (0, 1, 61)
    assert chosen.hook({0, 2}) == objects.Hook(0xFFFF0000, 25, frozenset({0, 2}))
    assert chosen.filter == objects.MarkFilter(0xFFFF0000)
    assert chosen.capacity == names.CLASS_MAX


def test_priorities_have_one_shard() -> None:
    """There is one bit to redirect by, so there is one ifb."""
    chosen = choose(ClassifierSetting.PRIORITY)
    assert chosen.shard(names.CLASS_MAX) == 0
    assert chosen.hook({0}) == objects.Hook(0x1000, None, frozenset({0}))
    assert (chosen.filter, chosen.capacity) == (None, names.CLASS_MAX)


@pytest.mark.parametrize(
    ("mask", "capacity", "shift"),
    [
        (0xFFFF0000, names.CLASS_MAX, 25),
        (0x0FFF0000, 4095, 25),
        (0xFF000000, 255, None),
        (0x1, 1, None),
        (0x3FF, 1023, 9),
    ],
)
def test_a_narrow_mask_has_room_for_fewer_limits(mask: int, capacity: int, shift: int | None) -> None:
    """With no more numbers than one ifb holds there is one ifb, and no shift that a filter could not make."""
    chosen = choose(ClassifierSetting.MARK, mask=mask)
    assert (chosen.capacity, chosen.shift) == (capacity, shift)
    assert chosen.shard(capacity) == (capacity // 512 if shift is not None else 0)


MASKS = st.builds(lambda low, width: ((1 << width) - 1) << low & 0xFFFFFFFF, st.integers(0, 31), st.integers(1, 32))
CLASSIFIERS = st.builds(
    lambda setting, placements, mask: choose(setting, FREE, placements, mask),
    st.sampled_from(list(ClassifierSetting)),
    st.sampled_from([THROUGH_IFB, AT_ROOT, IN_BOTH]),
    MASKS,
)


@given(CLASSIFIERS, st.integers(1, names.CLASS_MAX))
def test_a_number_is_read_back_whatever_classifier_wrote_it(writer: classifier.Classifier, number: int) -> None:
    """An agent that restarts with other settings finds the numbers of the one before."""
    if number <= writer.capacity:
        entry = writer.entry(number, "x")
        assert ownership.number(entry) == number
        assert entry.mark & ~entry.mask == 0


@pytest.mark.parametrize(
    "entry",
    [
        objects.SetEntry(0, 0, 0, "", True),
        objects.SetEntry(0, 0xFFFF0000, 0, "zero"),
        objects.SetEntry(0, 0, 0, "nothing"),
        objects.SetEntry(5, 0xF0F, 0, "scattered"),
        objects.SetEntry(0, 0, 0x00010005, "another major"),
        objects.SetEntry(0x7FFF0000, 0xFFFF0000, 0, "no class number"),
    ],
    ids=lambda entry: entry.comment or "hole",
)
def test_an_entry_of_nobody_has_no_number(entry: objects.SetEntry) -> None:
    """A hole or an entry in disorder carries no class."""
    assert ownership.number(entry) is None
