"""The plan as a person reads it."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.planner import describe, diff
from bandwidth_agent.planner.desired import htb_parameters
from bandwidth_agent.settings import ClassifierSetting
from bandwidth_api import names, plan
from bandwidth_api.plan import ClassKey, Mode, PortRange, Prefix
from unit.agent import worlds

LABELS = {1: "mail-loop", 2: "scraper", 710: "watched"}
HOST, NET, HOST6 = Prefix(4, 0xC0000207, 32), Prefix(4, 0xC0000200, 24), Prefix(6, 0x20010DB8 << 96, 64)
KEYS = {i: ClassKey(f"limit-{i}", "") for i in range(3)}
WAY = worlds.Setup(ClassifierSetting.MARK, ("ifb", "none"))


def state(setup: worlds.Setup = WAY) -> model.State:
    resolution = plan.Resolution(
        (
            plan.Table(4, (), {HOST: KEYS[0], NET: KEYS[1]}),
            plan.Table(6, (PortRange("TCP", 443, 443), PortRange("UDP", 53, 60)), {HOST6: KEYS[2]}),
        ),
        {
            KEYS[0]: worlds.limit(0, 5_000_000),
            KEYS[1]: worlds.limit(1, 1_500_000),
            KEYS[2]: worlds.limit(2, 250_000_000, Mode.OBSERVE),
        },
        {},
    )
    return setup.build(resolution, worlds.HELD, worlds.node())


def text(changes: list[objects.Change]) -> list[str]:
    return [line for step in changes for line in describe.lines(step, LABELS)]


def test_an_installation_reads_from_top_to_bottom() -> None:
    """One line per step, in the order of application, with names and rates instead of numbers."""
    ported = names.set_name(6, (PortRange("TCP", 443, 443), PortRange("UDP", 53, 60)))
    assert text(diff.compute(state(), model.EMPTY)) == [
        "add    ifb     cbl0  up",
        "add    ifb     cbl1  up",
        "add    qdisc   cbl0  htb 7cb1: as root  everybody else: as without it",
        "add    qdisc   cbl1  htb 7cb1: as root  everybody else: as without it",
        "add    class   cbl0  7cb1:1  5 Mbit    burst 4 KiB     (mail-loop)",
        "add    class   cbl0  7cb1:2  1.5 Mbit  burst 2.29 KiB  (scraper)",
        "add    class   cbl1  7cb1:7cff  400 Gbit  burst 191 MiB  (parent of the observed) no limit",
        "add    class   cbl1  7cb1:2c6   250 Mbit  burst 124 KiB  (watched) observe, slow nothing",
        "add    filter  cbl0  mark/0xffff0000 to class",
        "add    filter  cbl1  mark/0xffff0000 to class",
        "add    filter  eth0  egress  mark/0xffff0000 to cbl0, cbl1",
        "add    set     cbl-v4  hash:net, IPv4, 2 entries",
        "add    entry   cbl-v4  192.0.2.7     class 7cb1:1  (mail-loop)",
        "add    entry   cbl-v4  192.0.2.0/24  class 7cb1:2  (scraper)",
        f"add    set     {ported}  hash:net, IPv6, 1 entries",
        f"add    entry   {ported}  2001:db8::/64  class 7cb1:2c6  (watched)",
        "put    chain   CBL-POSTROUTING  IPv4, from the first rule of POSTROUTING for destinations in cbl-v4",
        "put    rule    CBL-POSTROUTING  all packets: look up the destination in cbl-v4",
        f"put    chain   CBL-POSTROUTING  IPv6, from the first rule of POSTROUTING for destinations in {ported}",
        f"put    rule    CBL-POSTROUTING  TCP port 443: look up the destination in {ported}",
        f"put    rule    CBL-POSTROUTING  UDP port 53-60: look up the destination in {ported}",
    ]


def test_a_changed_rate_shows_both() -> None:
    """What it is now, and what it will be."""
    there = htb_parameters.enforce(5_000_000, None, 1500, frozenset())
    wanted = htb_parameters.enforce(10_000_000, None, 1500, frozenset())
    assert describe.lines(objects.PutClasses("cbl0", {1: wanted}, {1: there}), LABELS) == [
        "change class   cbl0  7cb1:1  5 Mbit → 10 Mbit  burst 6.45 KiB  (mail-loop)"
    ]


def test_a_hole_is_nobodys() -> None:
    """An address that is excepted says so."""
    hole = objects.SetEntry(0, 0, 0, "", True)
    assert describe.lines(objects.PutEntries("cbl-v4", 4, {HOST: hole}), LABELS) == [
        "put    entry   cbl-v4  192.0.2.7  nobody's"
    ]


def test_many_ifbs_in_a_row_are_shortened() -> None:
    """60 names would hide what matters."""
    hook = objects.Hook(0xFFFF0000, 25, frozenset(range(60)))
    assert describe.lines(objects.PutHook("eth0", hook, hook), LABELS) == [
        "change filter  eth0  egress  mark/0xffff0000 to cbl0 … cbl59"
    ]


REMOVALS = [
    objects.DeleteChain(4),
    objects.DeleteEntries("cbl-v4", 4, frozenset({HOST, NET})),
    objects.DeleteSet("cbl-v4"),
    objects.TrimHook("eth0", frozenset({1})),
    objects.DeleteHook("eth0"),
    objects.DeleteFilter("cbl0"),
    objects.DeleteClasses("cbl0", frozenset({1, 2})),
    objects.DeleteRoot("eth0"),
    objects.DeleteIfb(1),
]


@pytest.mark.parametrize("step", REMOVALS, ids=lambda step: type(step).__name__)
def test_every_removal_says_delete(step: objects.Change) -> None:
    """One line per object that goes."""
    lines = describe.lines(step, LABELS)
    assert len(lines) == step.size
    assert all(line.startswith("delete ") for line in lines)


def test_each_step_of_every_way_has_words() -> None:
    """No kind of change is forgotten, whatever the placement and the classifier."""
    for classifier in (ClassifierSetting.MARK, ClassifierSetting.PRIORITY):
        for kind in ("ifb", "interface"):
            goal = state(worlds.Setup(classifier, (kind, "none")))
            for changes in (diff.compute(goal, state()), diff.compute(model.EMPTY, goal)):
                assert all(describe.lines(step, {}) for step in changes)
