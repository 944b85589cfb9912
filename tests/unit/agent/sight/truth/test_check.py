"""Whether limits hold, over a kernel in memory: passes, packets, and looks when they are due."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from bandwidth_agent import reconcile, report
from bandwidth_agent.kernel import model, traffic
from bandwidth_agent.kernel.fake import fake_kernel, window
from bandwidth_agent.limits import Wanted
from bandwidth_agent.settings import ClassifierSetting, PlacementSetting, Settings
from bandwidth_agent.sight.truth import check, schedule
from bandwidth_api import addresses
from bandwidth_api.conditions import Reason
from bandwidth_api.plan import Mode, PlanEntry, PortRange, Sharing
from unit.agent.entries import entry
from unit.clock import Clock

A, B = entry("a", "203.0.113.7", "2001:db8::7"), entry("b", "203.0.113.8")
STEP_SECONDS = 0.05


class Node:
    """A node with limits, and packets that keep flowing while the time passes."""

    def __init__(self, settings: Settings | None = None, node: model.Facts | None = None) -> None:
        self.clock = Clock()
        self.kernel = fake_kernel.FakeKernel(node)
        self.reconciler = reconcile.Reconciler(
            self.kernel, settings or Settings(), clock=self.clock, jitter=lambda: 0.5
        )
        self.entries: tuple[PlanEntry, ...] = (A, B)
        self.flows: dict[tuple[str, int], bool] = {}  # client and port → whether they skip netfilter
        self.packets = 10  # of each flow, in each step
        self.looks: list[float] = []  # when they began
        self.made = self.run()

    def run(self, *, read: bool = True) -> report.Report:
        self.made = self.reconciler.run(Wanted(self.entries), read=read)
        return self.made

    def limit(self, *entries: PlanEntry) -> None:
        self.entries = entries
        self.run(read=False)

    def send(self, *clients: str, port: int = 443, past: bool = False) -> None:
        """From now on packets flow to these clients."""
        self.flows |= {(client, port): past for client in clients}

    def go(self, seconds: float) -> report.Report:
        """Let time pass; a pass is made whenever there is news. The last report."""
        for _ in range(round(seconds / STEP_SECONDS)):
            self.clock.now += STEP_SECONDS
            self.kernel.at = self.clock.now
            for (client, port), past in self.flows.items():
                to = addresses.parse(client)
                for name in self.kernel.node.interfaces:
                    self.kernel.transmit(
                        to.family, to.network, "TCP", port, name, packets=self.packets, past_rules=past
                    )
            before = bool(self.kernel.windows)
            if self.reconciler.truth.turn():
                self.run(read=False)
            if self.kernel.windows and not before:
                self.looks.append(self.clock.now)
        return self.made

    def bypassed(self) -> list[str]:
        assert self.made.bypassed == sum(p.reason is Reason.BYPASSED for p in self.made.failing)
        return [problem.name for problem in self.made.failing if problem.reason is Reason.BYPASSED]


@pytest.mark.parametrize("classifier", [ClassifierSetting.MARK, ClassifierSetting.PRIORITY])
@pytest.mark.parametrize("placement", [PlacementSetting.IFB, PlacementSetting.INTERFACE])
def test_what_holds_is_verified_and_what_is_passed_by_fails(
    placement: PlacementSetting, classifier: ClassifierSetting
) -> None:
    """Within three seconds of the first packet, for one limit of two, wherever the classes are."""
    node = Node(Settings(placement=placement, classifier=classifier))
    node.go(4.0)
    node.send("203.0.113.7")
    node.send("203.0.113.8", past=True)
    node.send("203.0.113.99")
    made = node.go(5.0)
    assert node.bypassed() == ["b"]
    assert made.verified == {"a"}
    assert (made.desired, made.programmed, made.failed) == (2, 1, 1)
    assert "203.0.113.8" in made.failing[0].message


def test_every_cause_is_found() -> None:
    """Also a program that ends the walk before our filter, after netfilter has seen the packet."""
    node = Node()
    node.kernel.bypassed.add("eth0")
    node.send("203.0.113.7", "2001:db8::7")
    node.go(5.0)
    assert node.bypassed() == ["a"]


def test_a_bypass_ends_when_packets_are_seen_to_be_held() -> None:
    """Silence proves nothing, and an agent that starts again forgets it and finds it again."""
    node = Node()
    node.send("203.0.113.7", past=True)
    node.go(5.0)
    assert node.bypassed() == ["a"]
    node.flows.clear()
    node.go(200.0)
    assert node.bypassed() == ["a"]
    again = reconcile.Reconciler(node.kernel, Settings(), clock=node.clock, jitter=lambda: 0.5)
    node.reconciler = again
    assert node.run().ok
    node.send("203.0.113.7", past=True)
    node.go(3.0)
    assert node.bypassed() == ["a"]
    node.send("203.0.113.7", past=False)
    made = node.go(130.0)
    assert node.bypassed() == []
    assert made.verified == {"a"}


def test_a_limit_that_nobody_meets_is_neither() -> None:
    """Without packets there is no look at them, and no word about them."""
    node = Node()
    made = node.go(30.0)
    assert made.ok
    assert made.verified == frozenset()
    assert (made.datapath_sign, made.warnings) == ("", ())


def test_nothing_is_looked_at_where_nothing_is_limited() -> None:
    """Without limits, without an interface, and after the last limit is lifted; then nothing is open either."""
    node = Node()
    node.go(1.1)
    assert node.kernel.windows
    node.limit()
    node.go(0.3)
    assert not node.kernel.windows
    assert node.reconciler.truth.due is None
    node.go(100.0)
    nowhere = Node(node=fake_kernel.facts(fake_kernel.interface(default_route=False)))
    assert nowhere.reconciler.truth.due is None


def test_a_change_is_looked_at_soon_and_holding_limits_rarely() -> None:
    """1, 3 and 10 seconds after it, and then in a minute."""
    node = Node()
    node.send("203.0.113.7", "203.0.113.8")
    node.go(100.0)
    assert node.made.verified == {"a", "b"}
    node.looks.clear()
    started = node.clock.now
    node.limit(dataclasses.replace(A, rate_bits_per_second=7_000_000), B)
    node.go(60.0)
    times = [at - started for at in node.looks]
    assert [time for time in times if time < 11.0][:3] == pytest.approx([1.0, 3.0, 10.0], abs=2 * STEP_SECONDS)
    assert len(times) <= 5
    assert node.made.verified == {"a", "b"}  # a class that only has another rate is the same class


def test_a_limit_made_anew_is_not_verified_any_more() -> None:
    """Until its new class was seen to hold."""
    node = Node()
    node.send("203.0.113.7", "203.0.113.8")
    assert node.go(10.0).verified == {"a", "b"}
    node.limit(B)
    assert node.made.verified == {"b"}
    node.limit(A, B)
    assert node.made.verified == {"b"}
    assert node.go(10.0).verified == {"a", "b"}


def test_packets_that_change_their_limit_on_the_way_are_no_bypass() -> None:
    """What is captured while the limits change counts only where both states agree."""
    node = Node()
    node.send("203.0.113.7", "203.0.113.8", "203.0.113.9")
    node.packets = 40
    for turn in range(200):
        other = entry("over", "203.0.113.0/28", priority=turn % 2 * 9)
        mode = Mode.OBSERVE if turn % 3 else Mode.ENFORCE
        b = dataclasses.replace(B, mode=mode, rate_bits_per_second=(turn + 1) * 1_000_000)
        node.limit(*(A, b, other)[turn % 2 :])
        node.go(0.35)
        assert node.bypassed() == []
    assert node.looks


def test_a_client_that_gets_another_limit_during_a_look_is_no_bypass() -> None:
    """Each time right after a look has begun, so that nearly all of its packets come out of the other class."""
    node = Node()
    above = entry("above", "203.0.113.7", priority=5)
    node.limit(A, above)
    node.send("203.0.113.7")
    for turn in range(40):
        while not node.kernel.windows:
            node.go(STEP_SECONDS)
        node.limit(A, dataclasses.replace(above, priority=5 if turn % 2 else -5))
        node.go(schedule.OPEN_SECONDS + STEP_SECONDS)
        assert node.bypassed() == []


def test_old_packets_in_a_slow_queue_are_no_bypass() -> None:
    """They come out of the class that they were queued in, under a limit that others have now."""
    node = Node()
    node.limit(entry("tiny", "203.0.113.0/28", rate=64_000))
    node.go(3.0)
    (device,) = node.kernel.state.trees
    (number,) = node.kernel.state.trees[device].classes
    node.limit(entry("tiny", "203.0.113.0/28", rate=64_000), entry("above", "203.0.113.8", priority=5))
    node.kernel.hold_back(device, number, 16_000)
    to = addresses.parse("203.0.113.8")
    for _ in range(round(1.9 / STEP_SECONDS)):
        for each in node.kernel.windows:
            each.see(traffic.Packet("eth0", 4, to.network, traffic.UDP, 53, 100), 10)
        node.go(STEP_SECONDS)
    assert node.looks
    assert not node.bypassed()
    node.kernel.hold_back(device, number, 0)
    for _ in range(round(5.0 / STEP_SECONDS)):
        for each in node.kernel.windows:
            each.see(traffic.Packet("eth0", 4, to.network, traffic.UDP, 53, 100), 10)
        node.go(STEP_SECONDS)
    assert node.bypassed() == ["above"]  # what leaves when the queue is empty is not old


@pytest.mark.parametrize("sharing", [Sharing.SHARED, Sharing.PER_ENTRY])
def test_one_client_of_a_limit_is_enough(sharing: Sharing) -> None:
    """A limit is not in force as written if one of its clients has it not; with a class each, that class shows it."""
    node = Node()
    node.limit(entry("both", "203.0.113.7", "203.0.113.8", sharing=sharing))
    node.send("203.0.113.7", past=True)
    if sharing is Sharing.PER_ENTRY:
        node.send("203.0.113.8")
    node.go(5.0)
    assert node.bypassed() == ["both"]
    assert node.made.verified == frozenset()


def test_limits_with_ports_are_judged_by_the_port_as_dialled() -> None:
    """The reply of a NodePort bears it as its source, whatever the pod listens on."""
    node = Node()
    node.limit(A, entry("port", "203.0.113.7", ports=(PortRange("TCP", 30993, 30993),), priority=5))
    node.send("203.0.113.7", port=443)
    node.send("203.0.113.7", port=30993, past=True)
    node.go(5.0)
    assert node.bypassed() == ["port"]
    assert node.made.verified == {"a"}


def test_several_uplinks_are_one_node() -> None:
    """Packets that leave past the class by one of two interfaces are found, if they are most."""
    eth1 = fake_kernel.interface("eth1", index=3)
    node = Node(node=fake_kernel.facts(fake_kernel.interface(), eth1))
    node.kernel.bypassed.update({"eth0", "eth1"})
    node.send("203.0.113.7")
    node.go(5.0)
    assert node.bypassed() == ["a"]
    node.kernel.bypassed.clear()
    node.go(130.0)
    assert node.bypassed() == []


def test_the_report_names_what_is_there() -> None:
    """The sign of such a datapath, in the report and in the message."""
    host = fake_kernel.interface("cilium_host", index=9, default_route=False)
    node = Node(node=fake_kernel.facts(fake_kernel.interface(), host))
    assert node.made.datapath_sign == "device cilium_host"
    node.kernel.bypassed.add("eth0")
    node.send("203.0.113.7")
    node.go(5.0)
    assert "bpf.hostLegacyRouting" in node.made.failing[0].message


def test_a_reason_that_says_more_is_kept() -> None:
    """A limit that another program undoes is not called bypassed beside that."""
    node = Node()
    node.send("203.0.113.7", past=True)
    node.go(5.0)
    node.kernel.fail_class("cbl0", 1)
    node.limit(dataclasses.replace(A, rate_bits_per_second=1_000_000), B)
    assert [(p.name, p.reason) for p in node.made.failing] == [("a", Reason.KERNEL_REFUSED)]
    assert node.made.bypassed == 0


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EPERM, "CAP_NET_RAW"), (errno.EACCES, "CAP_NET_RAW"), (errno.ENOBUFS, "now")]
)
def test_an_agent_that_may_not_look_says_so(code: int, words: str) -> None:
    """It goes on, tries again later, and judges nothing."""
    node = Node()
    node.kernel.window_error = code
    node.send("203.0.113.7", past=True)
    made = node.go(5.0)
    assert [words in warning for warning in made.warnings] == [True]
    assert made.ok
    node.kernel.window_error = None
    made = node.go(2 * schedule.TROUBLE_SECONDS + 5.0)
    assert made.warnings == ()
    assert node.bypassed() == ["a"]


def test_a_kernel_that_cannot_be_read_leaves_nothing_open() -> None:
    """A look that began is given up."""
    node = Node()
    node.go(1.1)
    assert node.kernel.windows
    node.kernel.read_error = errno.ENOBUFS
    node.clock.now += 1.0
    assert node.reconciler.truth.turn()
    assert not node.kernel.windows
    node.kernel.heal()


def test_a_pass_that_left_something_undone_says_nothing() -> None:
    """What is in the kernel is then not known, so packets that are not held prove nothing."""
    node = Node()
    node.kernel.fail_class("cbl0", 3)
    node.send("203.0.113.7", past=True)
    node.go(0.5)
    node.limit(A, B, entry("c", "203.0.113.9"))
    node.go(10.0)
    assert node.bypassed() == []


def test_a_look_is_bounded() -> None:
    """Where more packets leave than one look takes, it takes so many, and the rest is not read."""
    node = Node()
    node.packets = 100_000
    node.send("203.0.113.99")
    node.go(1.1)
    taken = [len(opened.take()) for opened in node.kernel.windows if isinstance(opened, window.Capture)]
    assert sorted(taken) == [0, check.MOST_PACKETS]  # what came out of our own device, and what left


def test_in_a_flood_of_others_a_bypass_is_found() -> None:
    """Few packets of a look are the client's, and they add up."""
    node = Node()
    node.send("203.0.113.99")
    node.packets = 990
    node.send("203.0.113.7", past=True)
    node.flows = dict(sorted(node.flows.items(), key=lambda item: not item[1]))
    node.go(10.0)
    assert node.bypassed() == ["a"]


def test_the_end_closes_what_is_open() -> None:
    """Nothing is left in the kernel, and closing twice is no failure."""
    node = Node()
    node.go(1.1)
    assert node.kernel.windows
    node.reconciler.truth.close()
    node.reconciler.truth.close()
    assert not node.kernel.windows


def test_while_our_hook_is_known_to_be_gone_packets_prove_nothing() -> None:
    """Another program deletes it every time, which is told; when it is left alone it is repaired, and no bypass."""
    node = Node()
    node.send("203.0.113.7")
    node.go(10.0)
    told: set[Reason] = set()
    for _ in range(60):
        if not told or node.kernel.state.hooks:
            node.kernel.state = dataclasses.replace(node.kernel.state, hooks={})
        node.run()
        told |= {problem.reason for problem in node.made.failing}
        node.go(0.3)
    assert told == {Reason.CONFLICTING_WRITER}
    while not node.kernel.state.hooks:
        node.run()
        node.go(0.3)
    node.run()
    assert node.made.ok


def test_a_bypass_is_reported_when_all_of_ours_was_seen_to_be_there() -> None:
    """Our hook went and no event was heard yet: the read-back that is asked for repairs it, and nothing is reported."""
    node = Node()
    node.limit(A, B, entry("unmet", "203.0.113.99"))  # for the sake of which there are looks
    node.send("203.0.113.7")
    node.go(20.0)
    node.kernel.state = dataclasses.replace(node.kernel.state, hooks={})
    truth = node.reconciler.truth
    while not truth.unconfirmed:
        node.clock.now += STEP_SECONDS
        node.kernel.at = node.clock.now
        to = addresses.parse("203.0.113.7")
        node.kernel.transmit(to.family, to.network, "TCP", 443, "eth0", packets=10)
        truth.turn()
    assert node.run().ok
    assert not truth.unconfirmed
    node.clock.now += 1.0  # for which whoever removed it is left alone
    assert node.run().ok
    assert node.kernel.state.hooks
    assert node.go(5.0).ok
