"""What only the fake kernel offers: failures on demand, strangers, packets. The rest is the contract suite's."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.kernel.fake.tracer import ClassAddress
from bandwidth_agent.planner import diff
from bandwidth_agent.settings import ClassifierSetting
from bandwidth_api import plan
from bandwidth_api.plan import ClassKey, Prefix
from unit.agent import worlds

ONE, TWO = ClassKey("limit-0", ""), ClassKey("limit-2", "")
CLIENT, OTHER, STRANGER = (worlds.BASES[4] + i for i in range(3))
TABLE = plan.Table(4, (), {Prefix(4, CLIENT, 32): ONE, Prefix(4, OTHER, 32): TWO})
RESOLUTION = plan.Resolution((TABLE,), {ONE: worlds.limit(0, 64_000), TWO: worlds.limit(2, 1_000_000)}, {})
GOAL = worlds.Setup(ClassifierSetting.MARK, ("ifb", "none")).build(RESOLUTION, worlds.HELD, worlds.node())


@pytest.fixture
def kernel() -> fake_kernel.FakeKernel:
    """A kernel in which both limits are in force."""
    return fake_kernel.FakeKernel(worlds.node(), GOAL)


def changes_to(kernel: fake_kernel.FakeKernel) -> list[objects.Outcome]:
    return [kernel.apply_one(step) for step in diff.compute(GOAL, kernel.observe())]


def test_a_class_can_be_made_to_fail() -> None:
    """It is named with its errno, the others of its change are made, and after healing it is too."""
    kernel = fake_kernel.FakeKernel(worlds.node())
    kernel.fail_class("cbl1", 700, errno.ENOMEM)
    failures = [outcome.failed_classes for outcome in changes_to(kernel) if outcome.failed_classes]
    assert [{n: failure.errno for n, failure in found.items()} for found in failures] == [{700: errno.ENOMEM}]
    kernel.heal()
    changes_to(kernel)
    assert kernel.observe() == GOAL


def test_an_entry_can_be_made_to_fail() -> None:
    """The set is made without it."""
    kernel = fake_kernel.FakeKernel(worlds.node())
    kernel.fail_entry("cbl-v4", Prefix(4, CLIENT, 32))
    assert [set(o.failed_entries) for o in changes_to(kernel) if o.failed_entries] == [{Prefix(4, CLIENT, 32)}]
    assert set(kernel.observe().sets["cbl-v4"].entries) == {Prefix(4, OTHER, 32)}


def test_a_step_and_a_kind_of_step_can_be_made_to_fail() -> None:
    """The first by its place among those to come, the second until it is healed."""
    kernel = fake_kernel.FakeKernel(worlds.node())
    kernel.fail_step(1, errno.EBUSY)
    kernel.fail_type(objects.PutChain, errno.EPERM)
    failed = {type(o.change): o.failure.errno for o in changes_to(kernel) if o.failure is not None}
    assert failed[objects.PutIfb] == errno.EBUSY
    assert failed[objects.PutChain] == errno.EPERM
    assert len(kernel.applied) == len(diff.compute(GOAL, model.EMPTY))


def test_a_reading_can_be_made_to_fail(kernel: fake_kernel.FakeKernel) -> None:
    """As the real one does, with an OSError."""
    kernel.read_error = errno.ENOBUFS
    for read in (kernel.facts, kernel.observe, kernel.counters, kernel.entry_counts):
        with pytest.raises(OSError, match="buffer") as caught:
            read()
        assert caught.value.errno == errno.ENOBUFS


def test_packets_are_counted_where_they_go(kernel: fake_kernel.FakeKernel) -> None:
    """By the rule if it finds an entry, and by the class."""
    assert kernel.transmit(4, CLIENT, "TCP", 80, "eth0", packets=3, size=100) == ClassAddress("cbl0", 1)
    assert kernel.transmit(4, STRANGER, "TCP", 80, "eth0") == "unshaped"
    counters = kernel.counters()
    assert counters.rules == {4: 3}
    assert counters.classes["cbl0"][1][:2] == (300, 3)
    assert counters.classes["cbl1"][700].packets == 0


def test_what_a_dead_ifb_does_to_packets(kernel: fake_kernel.FakeKernel) -> None:
    """Down or gone it drops what is redirected to it, made again it is not found by the old redirect; others pass."""
    kernel.set_ifb_down(0)
    assert kernel.trace(4, CLIENT, "TCP", 80, "eth0") == "dropped"
    kernel.delete_ifb(0)
    assert kernel.trace(4, CLIENT, "TCP", 80, "eth0") == "dropped"
    kernel.apply_one(objects.PutIfb(0))
    assert kernel.trace(4, CLIENT, "TCP", 80, "eth0") == "dropped"
    assert kernel.observe().hooks["eth0"].mask == -1
    assert kernel.trace(4, OTHER, "TCP", 80, "eth0") == ClassAddress("cbl1", 700)
    assert kernel.trace(4, STRANGER, "TCP", 80, "eth0") == "unshaped"


@pytest.mark.parametrize(
    "stranger",
    [
        lambda kernel: kernel.flush_set("cbl-v4"),
        lambda kernel: kernel.delete_root("cbl0"),
        lambda kernel: kernel.delete_class("cbl0", 1),
        lambda kernel: kernel.delete_hook("eth0"),
        lambda kernel: kernel.delete_chain(4),
        lambda kernel: kernel.rule_above_ours(4),
    ],
)
def test_what_strangers_break_lets_the_client_pass(kernel: fake_kernel.FakeKernel, stranger: object) -> None:
    """Each of these makes the limited client unlimited, and a pass repairs it."""
    assert callable(stranger)
    stranger(kernel)
    assert kernel.trace(4, CLIENT, "TCP", 80, "eth0") == "unshaped"
    changes_to(kernel)
    assert kernel.trace(4, CLIENT, "TCP", 80, "eth0") == ClassAddress("cbl0", 1)


def test_interfaces_come_and_go_with_what_stands_on_them(kernel: fake_kernel.FakeKernel) -> None:
    """A link that is gone has no hook, and a root of ours is seen in the facts."""
    kernel.remove_interface("eth0")
    assert kernel.observe().hooks == {}
    assert set(kernel.facts().interfaces) == {"eth1"}
    kernel.add_interface(fake_kernel.interface("eth0", model.RootQdisc("tbf", 1, False)))
    assert kernel.apply_one(objects.PutRoot("eth0", 0)).failure is not None
    assert kernel.apply_one(objects.PutRoot("eth1", 0)).failure is None
    assert kernel.facts().interfaces["eth1"].root == model.RootQdisc("htb", 0x7CB1, True)
    kernel.replace_root("eth1", model.RootQdisc("tbf", 1, False))
    assert kernel.facts().interfaces["eth1"].root.kind == "tbf"


def test_a_link_of_a_stranger_keeps_its_name() -> None:
    """An ifb cannot be made where another program's link has its name."""
    kernel = fake_kernel.FakeKernel(dataclasses.replace(worlds.node(), taken_ifb_names=frozenset({"cbl0"})))
    failure = kernel.apply_one(objects.PutIfb(0)).failure
    assert failure is not None
    assert failure.errno == errno.EEXIST


def test_a_state_handed_out_does_not_change(kernel: fake_kernel.FakeKernel) -> None:
    """Observations are values."""
    before = kernel.observe()
    for step in diff.compute(model.EMPTY, before):
        kernel.apply_one(step)
    assert before == GOAL
