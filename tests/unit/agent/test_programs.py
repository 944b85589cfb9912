"""Passes where programs classify, over a kernel in memory: when they do, what becomes of it, what is told."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from bandwidth_agent import reconcile, report
from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel, tracer
from bandwidth_agent.limits import Wanted
from bandwidth_agent.planner import conflicts
from bandwidth_agent.reporting import node_report, show
from bandwidth_agent.settings import ClassifierSetting, PlacementSetting, Settings
from bandwidth_api import addresses
from bandwidth_api.conditions import Reason
from bandwidth_api.plan import PlanEntry, PortRange
from unit.agent.entries import MBIT, entry
from unit.clock import Clock

A = entry("a", "203.0.113.7", "2001:db8::7")
B = entry("b", "203.0.113.8", rate=10 * MBIT)
WEB = dataclasses.replace(entry("web", "203.0.113.7", rate=MBIT), ports=(PortRange("TCP", 80, 90),), priority=1)
CILIUM = fake_kernel.interface("cilium_host", index=7, default_route=False)
NO_DIRECTORY = "no directory was given"
EBPF = Settings(classifier=ClassifierSetting.EBPF)


class Node:
    """A node whose pods' packets no rule sees, and the agent on it."""

    def __init__(
        self, settings: Settings = EBPF, *others: model.Interface, ebpf: str = "", state: model.State = model.EMPTY
    ) -> None:
        node = fake_kernel.facts(fake_kernel.interface(), *others, ebpf=ebpf)
        denied = frozenset({"ebpf"} if ebpf == NO_DIRECTORY else ())
        node = dataclasses.replace(node, features=node.features._replace(denied=denied, tcx=True))
        self.clock = Clock()
        self.kernel = fake_kernel.FakeKernel(node, state)
        self.settle(settings)

    def settle(self, settings: Settings) -> None:
        """Start the agent, again or for the first time."""
        self.reconciler = reconcile.Reconciler(self.kernel, settings, clock=self.clock, jitter=lambda: 0.5)

    def permit(self, why_not: str = "") -> None:
        features = self.kernel.node.features._replace(ebpf=why_not)
        self.kernel.node = dataclasses.replace(self.kernel.node, features=features)

    def run(self, *limits: PlanEntry) -> report.Report:
        return self.reconciler.run(Wanted(limits), read=True)

    def go(self, limits: tuple[PlanEntry, ...], *clients: str, seconds: float = 5.0) -> report.Report:
        """Let time pass while packets leave past netfilter for these clients."""
        made = self.run(*limits)
        for _ in range(round(seconds / 0.05)):
            self.clock.now += 0.05
            self.kernel.at = self.clock.now
            for client in map(addresses.parse, clients):
                self.kernel.transmit(client.family, client.network, "TCP", 443, "eth0", packets=10, past_rules=True)
            if self.reconciler.truth.turn():
                made = self.run(*limits)
        return made

    def class_of(self, text: str, port: int = 443) -> tracer.Verdict:
        client = addresses.parse(text)
        return self.kernel.transmit(client.family, client.network, "TCP", port, "eth0", past_rules=True)


def test_programs_take_packets_that_no_rule_sees_to_their_class() -> None:
    """By address and by port, on the pair; with the last limit everything of ours is gone."""
    node = Node()
    made = node.run(A, B, WEB)
    assert (made.ok, made.classifier) == (True, "ebpf")
    assert [i.placement for i in made.interfaces] == ["pair"]
    found = {text: node.class_of(text) for text in ("203.0.113.7", "2001:db8::7", "203.0.113.8")}
    assert {verdict.device for verdict in found.values() if verdict != "unshaped"} == {"cblv0"}
    assert found["203.0.113.7"] == found["2001:db8::7"] != found["203.0.113.8"] != "unshaped"
    assert node.class_of("203.0.113.7", 85) not in (*found.values(), "unshaped")
    assert node.class_of("203.0.113.9") == "unshaped"
    assert (node.kernel.state.chains, node.kernel.state.hooks, node.kernel.state.ifbs) == ({}, {}, {})
    assert node.run(A, B, WEB).changes == 0
    node.settle(EBPF)
    assert node.run(B, WEB, A).changes == 0
    assert node.run().ok
    assert node.kernel.state == model.EMPTY


def test_limits_are_verified_and_none_is_called_bypassed() -> None:
    """Packets that come out of the pair's classes are seen to do so, and others are nobody's."""
    made = Node().go((A, B, WEB), "203.0.113.7", "203.0.113.8", "203.0.113.99")
    assert (made.verified, made.failing) == ({"a", "b"}, ())


@pytest.mark.parametrize("broken", ["table", "late"])
def test_what_leaves_past_the_pair_is_found(broken: str) -> None:
    """A program that looks nothing up, or comes too late, is no better than a rule that no packet meets."""
    node = Node()
    node.run(A)
    believed = node.kernel.state
    if broken == "table":
        empty = {name: dataclasses.replace(t, entries={}) for name, t in believed.tables.items()}
        node.kernel.state = dataclasses.replace(believed, tables=empty)
    else:
        node.kernel.program_before_ours("eth0")
    for _ in range(100):
        node.clock.now += 0.05
        node.kernel.at = node.clock.now
        client = addresses.parse("203.0.113.7")
        node.kernel.transmit(4, client.network, "TCP", 443, "eth0", packets=10, past_rules=True)
        node.reconciler.truth.turn()
    [problem] = node.reconciler.truth.problems.values()
    assert problem.reason is Reason.BYPASSED
    assert "--classifier" not in problem.message


def test_auto_takes_programs_where_they_are_permitted_and_packets_were_seen_to_leave_past_rules() -> None:
    """At once, and for good: also after a restart, when nothing leaves past limits any more; asked for it goes back."""
    node = Node(Settings())
    assert node.run(A).classifier == "mark"
    made = node.go((A,), "203.0.113.7")
    assert (made.classifier, made.failing, made.verified) == ("ebpf", (), {"a"})
    standing = node.kernel.state
    node.settle(Settings())
    made = node.run(A)
    assert (made.changes, made.classifier) == (0, "ebpf")
    assert node.kernel.state == standing
    node.settle(Settings(classifier=ClassifierSetting.MARK))
    assert node.run(A).classifier == "mark"
    assert (node.kernel.state.programs, node.kernel.state.tables, node.kernel.state.pairs) == ({}, {}, {})


def test_auto_takes_programs_on_a_node_with_an_ebpf_datapath() -> None:
    """Before anything leaves past a limit; then the sign puts no limit in doubt any more."""
    made = Node(Settings(), CILIUM).run(A)
    assert (made.classifier, made.datapath_sign) == ("ebpf", "")
    assert "cilium_host" in made.classifier_reason


def test_without_permission_all_is_as_before_and_what_would_help_is_told() -> None:
    """Where the permission is all that is missing, and not where the kernel cannot or another datapath shows."""
    node = Node(Settings(), CILIUM, ebpf=NO_DIRECTORY)
    made = node.go((A,), "203.0.113.7")
    assert (made.classifier, made.ebpf_helps) == ("mark", True)
    assert NO_DIRECTORY in made.failing[0].message
    sign = node_report.state("n", Wanted(()), made, clean=True, version="1", interval_seconds=1).datapath_sign
    assert sign == "device cilium_host; agent.ebpf.enabled=true helps"
    made = Node(Settings(), CILIUM, ebpf="this kernel is too old").go((A,), "203.0.113.7")
    assert (made.classifier, made.ebpf_helps) == ("mark", False)
    assert "too old" not in made.failing[0].message
    assert "no setting of this agent" in made.failing[0].message
    switch = fake_kernel.interface("ovs-system", index=8, default_route=False)
    assert not Node(Settings(), switch, ebpf=NO_DIRECTORY).run(A).ebpf_helps


def test_programs_that_are_asked_for_and_not_permitted_fail_every_limit() -> None:
    """With the reason, and nothing half done."""
    node = Node(ebpf=NO_DIRECTORY)
    made = node.run(A)
    assert [problem.reason for problem in made.failing] == [Reason.KERNEL_REFUSED]
    assert NO_DIRECTORY in made.failing[0].message
    assert node.kernel.state == model.EMPTY


@pytest.mark.parametrize("way_back", [ClassifierSetting.MARK, ClassifierSetting.PRIORITY])
def test_a_pair_stays_where_programs_can_no_longer_be_seen(way_back: ClassifierSetting) -> None:
    """Programs may still lead there, and a packet to a device that is gone is lost; without classes it slows nobody."""
    node = Node()
    node.run(A, B)
    programs, tables = node.kernel.state.programs, node.kernel.state.tables
    node.kernel.state = dataclasses.replace(node.kernel.state, programs={}, tables={})
    node.permit(NO_DIRECTORY)
    node.settle(Settings(classifier=way_back))
    made = node.run(B)
    assert made.ok
    assert node.kernel.state.pairs == {0: objects.Pair(True)}
    assert node.run(B).changes == 0
    node.kernel.state = dataclasses.replace(node.kernel.state, programs=programs, tables=tables)
    assert node.class_of("203.0.113.7") == "unshaped"
    node.permit()
    node.settle(Settings(classifier=way_back))
    assert node.run(B).ok
    assert (node.kernel.state.pairs, node.kernel.state.programs, node.kernel.state.tables) == ({}, {}, {})


def test_a_probe_that_finds_nothing_takes_no_program_away() -> None:
    """What programs do shows that they can."""
    node = Node()
    node.run(A)
    node.permit("not now")
    node.settle(EBPF)
    made = node.run(A)
    assert (made.ok, made.changes) == (True, 0)


@pytest.mark.parametrize("fails", [objects.PutPair, objects.PutTable, objects.PutProgram, objects.PutClasses])
def test_rules_stay_until_programs_stand_in_for_them(fails: type) -> None:
    """Whatever of the new way is refused, the client keeps the limit that it has by the old one."""
    node = Node(Settings(classifier=ClassifierSetting.MARK))
    node.run(A, B)
    node.kernel.fail_type(fails, errno.ENOMEM)
    node.settle(EBPF)
    assert not node.run(A, B).ok
    for text in ("203.0.113.7", "203.0.113.8", "2001:db8::7"):
        client = addresses.parse(text)
        assert node.kernel.trace(client.family, client.network, "TCP", 443, "eth0") != "unshaped"
    node.kernel.heal()
    assert node.run(A, B).ok
    assert node.kernel.state.chains == {}
    assert node.class_of("203.0.113.7") == tracer.ClassAddress("cblv0", 1)


@pytest.mark.parametrize(
    "fails", [objects.PutIfb, objects.PutClasses, objects.PutHook, objects.PutSet, objects.PutEntries, objects.PutChain]
)
def test_programs_stay_until_rules_stand_in_for_them(fails: type) -> None:
    """The same on the way back."""
    node = Node()
    node.run(A, B)
    node.kernel.fail_type(fails, errno.ENOMEM)
    node.settle(Settings(classifier=ClassifierSetting.MARK))
    node.run(A, B)
    for text in ("203.0.113.7", "203.0.113.8", "2001:db8::7"):
        client = addresses.parse(text)
        assert node.kernel.trace(client.family, client.network, "TCP", 443, "eth0") != "unshaped"
    node.kernel.heal()
    assert node.run(A, B).ok
    assert (node.kernel.state.programs, node.kernel.state.pairs) == ({}, {})
    client = addresses.parse("203.0.113.8")
    assert node.kernel.trace(4, client.network, "TCP", 443, "eth0") == tracer.ClassAddress("cbl0", 2)


def test_a_class_that_is_refused_keeps_its_clients_rule() -> None:
    """One limit of two changes over, the other one follows."""
    node = Node(Settings(classifier=ClassifierSetting.MARK))
    node.run(A, B)
    node.kernel.fail_class("cblv0", 2, errno.ENOMEM)
    node.settle(EBPF)
    assert [problem.name for problem in node.run(A, B).failing] == ["b"]
    client = addresses.parse("203.0.113.8")
    assert node.kernel.trace(4, client.network, "TCP", 443, "eth0") == tracer.ClassAddress("cbl0", 2)
    node.kernel.heal()
    assert node.run(A, B).ok
    assert (node.kernel.state.chains, node.kernel.state.ifbs) == ({}, {})


BROKEN = {
    "pair": lambda kernel: kernel.set_pair_down(0),
    "program": lambda kernel: kernel.program_before_ours("eth0"),
    "gone": lambda kernel: kernel.delete_program("eth0"),
    "pair-gone": lambda kernel: kernel.delete_pair(0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_repaired_and_given_up_when_it_is_undone_each_time(name: str) -> None:
    """A writer that does not stop is named, and nobody's packets are lost meanwhile."""
    node = Node()
    node.run(A)
    standing = node.kernel.state
    BROKEN[name](node.kernel)
    assert node.run(A).ok
    assert node.kernel.state == standing
    made = None
    for _ in range(conflicts.UNDONE_BEFORE_ABANDONED):
        node.clock.now += 0.1
        BROKEN[name](node.kernel)
        made = node.run(A)
    assert made is not None
    assert [problem.reason for problem in made.failing] == [Reason.CONFLICTING_WRITER]
    assert node.class_of("203.0.113.7") != "dropped"
    node.clock.now += conflicts.PAUSE_MAX_SECONDS
    assert node.run(A).ok
    assert node.kernel.state == standing


def test_a_pair_that_is_lost_is_noticed_at_once() -> None:
    """By either end."""
    node = Node()
    node.run(A)
    assert [node.reconciler.uses({name}) for name in ("cblv0", "cblp0", "cbl0")] == [True, True, False]


def test_at_its_own_root_an_interface_needs_no_pair() -> None:
    """Where that is asked for the program hands packets on with their class."""
    node = Node(Settings(classifier=ClassifierSetting.EBPF, placement=PlacementSetting.INTERFACE))
    made = node.run(A)
    assert [i.placement for i in made.interfaces] == ["interface"]
    assert node.kernel.state.pairs == {}
    assert node.class_of("203.0.113.7") == tracer.ClassAddress("eth0", 1)


def test_show_tells_ports_and_what_is_wrong() -> None:
    """The same rows as with rules, and no warning that there are none."""
    node = Node()
    node.run(A, WEB)
    rows = show.view(node.kernel.state, node.kernel.counters(), node.kernel.counters()).rows
    assert {row.limit: (row.devices, row.ports) for row in rows} == {
        "a": (("cblv0",), ()),
        "web": (("cblv0",), (PortRange("TCP", 80, 90),)),
    }
    assert show.view(node.kernel.state, node.kernel.counters(), node.kernel.counters()).warnings == ()
    node.kernel.program_before_ours("eth0")
    node.kernel.set_pair_down(0)
    warnings = show.view(node.kernel.state, node.kernel.counters(), node.kernel.counters()).warnings
    assert [("cblv0 is down" in text, "not the first" in text) for text in warnings] == [(True, False), (False, True)]
