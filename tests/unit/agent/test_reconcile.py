"""One pass after another over a kernel in memory."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from bandwidth_agent import reconcile
from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel, tracer
from bandwidth_agent.limits import Wanted
from bandwidth_agent.planner import conflicts
from bandwidth_agent.planner.classifier import class_ids
from bandwidth_agent.settings import PlacementSetting, Settings
from bandwidth_api import addresses, names
from bandwidth_api.compiler.overlap import budget
from bandwidth_api.plan import PlanEntry, PortRange
from unit.agent.entries import MBIT, entry
from unit.clock import Clock

A = entry("a", "203.0.113.7", "2001:db8::7")
B = entry("b", "203.0.113.8", rate=10 * MBIT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kernel() -> fake_kernel.FakeKernel:
    return fake_kernel.FakeKernel()


@pytest.fixture
def reconciler(kernel: fake_kernel.FakeKernel, clock: Clock) -> reconcile.Reconciler:
    return reconcile.Reconciler(kernel, Settings(), clock=clock)


def wanted(*entries: PlanEntry, complete: bool = True) -> Wanted:
    return Wanted(entries=entries, complete=complete)


def class_of(kernel: fake_kernel.FakeKernel, text: str) -> tracer.Verdict:
    prefix = addresses.parse(text)
    return kernel.trace(prefix.family, prefix.network, "TCP", 443, "eth0")


def rate_of(kernel: fake_kernel.FakeKernel, text: str) -> int | None:
    found = class_of(kernel, text)
    if not isinstance(found, tracer.ClassAddress):
        return None
    return kernel.state.trees[found.device].classes[found.minor].rate * 8


def test_limits_are_put_in_force_and_lifted(kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler) -> None:
    """After a pass each client is in the class of its limit; without limits nothing of ours is left."""
    made = reconciler.run(wanted(A, B), read=True)
    assert made.ok
    assert (made.desired, made.programmed, made.failed) == (2, 2, 0)
    assert rate_of(kernel, "203.0.113.7") == rate_of(kernel, "2001:db8::7") == 5 * MBIT
    assert rate_of(kernel, "203.0.113.8") == 10 * MBIT
    assert class_of(kernel, "203.0.113.9") == "unshaped"
    assert reconciler.run(wanted(), read=False).ok
    assert kernel.state == model.EMPTY


def test_second_pass_changes_nothing(kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler) -> None:
    """With the same limits neither a pass on what is believed nor one with a read-back changes anything."""
    reconciler.run(wanted(A, B), read=True)
    applied = len(kernel.applied)
    assert reconciler.run(wanted(A, B), read=False).changes == 0
    assert reconciler.run(wanted(A, B), read=True).changes == 0
    assert len(kernel.applied) == applied


def test_restarted_agent_adopts_what_is_there(kernel: fake_kernel.FakeKernel, clock: Clock) -> None:
    """A new process without memory finds every limit in place, whatever order they come in."""
    reconcile.Reconciler(kernel, Settings(), clock=clock).run(wanted(A, B), read=True)
    before = kernel.state
    made = reconcile.Reconciler(kernel, Settings(), clock=clock).run(wanted(B, A), read=True)
    assert made.changes == 0
    assert kernel.state == before


def test_edit_keeps_the_class_number(kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler) -> None:
    """A new rate is one change, to the class that the limit has."""
    reconciler.run(wanted(A, B), read=True)
    before = class_of(kernel, "203.0.113.7")
    made = reconciler.run(wanted(dataclasses.replace(A, rate_bits_per_second=7 * MBIT), B), read=False)
    assert made.changes == 1
    assert class_of(kernel, "203.0.113.7") == before
    assert rate_of(kernel, "203.0.113.7") == 7 * MBIT


def test_freed_number_rests(kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler, clock: Clock) -> None:
    """A number freed a moment ago is not given to another limit; after a minute it is."""
    reconciler.run(wanted(A, B), read=True)
    freed = class_of(kernel, "203.0.113.7")
    reconciler.run(wanted(B), read=False)
    reconciler.run(wanted(B, entry("c", "203.0.113.9")), read=False)
    assert class_of(kernel, "203.0.113.9") != freed
    clock.now += class_ids.QUARANTINE_SECONDS + 1
    reconciler.run(wanted(B, entry("c", "203.0.113.9"), entry("d", "203.0.113.10")), read=False)
    reconciler.run(wanted(B, entry("c", "203.0.113.9"), entry("e", "203.0.113.11")), read=False)
    assert {class_of(kernel, "203.0.113.11"), class_of(kernel, "203.0.113.10")} & {freed, "unshaped"}


def test_protected_address_is_refused_alone(kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler) -> None:
    """A limit over the node's own address fails with the field named; the others are in force."""
    own = addresses.parse("203.0.113.1")
    kernel.node = dataclasses.replace(kernel.node, addresses=frozenset({own}))
    made = reconciler.run(wanted(entry("wide", "203.0.113.0/28"), A), read=True)
    assert [(f.name, f.reason) for f in made.failing] == [("wide", "ProtectedAddress")]
    assert "spec.clients[0]" in made.failing[0].message
    assert "203.0.113.1" in made.failing[0].message
    assert rate_of(kernel, "203.0.113.7") == 5 * MBIT


def test_overlaps_beyond_the_budget_fail_alone(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit whose overlaps go beyond the budget is in force nowhere and says so; the older ones and others are."""
    monkeypatch.setattr(budget, "SHARED", 0)
    monkeypatch.setattr(budget, "FREE", 0)
    older, newer = (
        dataclasses.replace(entry(name, "203.0.113.0/24"), ports=(ports,), created_at=age)
        for name, ports, age in (("older", PortRange("TCP", 1, 9), 0.0), ("newer", PortRange("TCP", 5, 20), 1.0))
    )
    report = reconciler.run(wanted(newer, older, entry("plain", "198.51.100.7")), read=True)
    assert {f.name: (f.reason, f.field) for f in report.failing} == {"newer": ("OverlapBudget", "spec.egress.ports")}
    assert (report.desired, report.programmed) == (3, 2)


def test_failed_class_fails_its_limit_only(kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler) -> None:
    """A class that the kernel refuses fails one limit, whose clients get no entry; the next pass repairs it."""
    kernel.fail_class("cbl0", 1, errno.ENOMEM)
    made = reconciler.run(wanted(A, B), read=True)
    assert [(f.name, f.reason) for f in made.failing] == [("a", "KernelRefused")]
    assert (made.desired, made.programmed, made.failed) == (2, 1, 1)
    assert class_of(kernel, "203.0.113.7") == "unshaped"
    assert rate_of(kernel, "203.0.113.8") == 10 * MBIT
    assert reconciler.believed is None
    kernel.heal()
    assert reconciler.run(wanted(A, B), read=True).ok
    assert rate_of(kernel, "203.0.113.7") == 5 * MBIT


def test_a_long_name_is_reported_whole(kernel: fake_kernel.FakeKernel, clock: Clock) -> None:
    """Comments in a set cut the name, a report does not: neither for a class that is refused nor without a number."""
    long = entry("x" * 253, "203.0.113.9")
    refused = reconcile.Reconciler(kernel, Settings(), clock=clock)
    kernel.fail_class("cbl0", 1, errno.ENOMEM)
    made = refused.run(wanted(long), read=True)
    assert [(f.name, f.reason) for f in made.failing] == [(long.limit, "KernelRefused")]
    full = reconcile.Reconciler(fake_kernel.FakeKernel(), Settings(mark_mask=0x10000), clock=clock)
    made = full.run(wanted(entry("first", "203.0.113.1"), entry("x" * 253, "203.0.113.99")), read=True)
    assert [(f.name, f.reason) for f in made.failing] == [(long.limit, "CapacityExceeded")]


@pytest.mark.parametrize("kind", objects.ORDER, ids=lambda kind: kind.__name__)
def test_any_failed_step_is_repaired(
    kind: type[objects.Step], kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler
) -> None:
    """Whatever kind of change is refused, nothing is dropped meanwhile, and the pass after puts all right."""
    kernel.fail_type(kind)
    reconciler.run(wanted(A, B), read=True)
    for limits in (wanted(B), wanted(), wanted(A)):
        reconciler.run(limits, read=True)
        for client in ("203.0.113.7", "203.0.113.8", "203.0.113.9"):
            assert class_of(kernel, client) != "dropped"
    kernel.heal()
    assert reconciler.run(wanted(A), read=True).ok
    assert rate_of(kernel, "203.0.113.7") == 5 * MBIT
    assert class_of(kernel, "203.0.113.8") == "unshaped"
    assert reconciler.run(wanted(A), read=True).changes == 0


def test_nothing_is_deleted_before_the_first_complete_plan(kernel: fake_kernel.FakeKernel, clock: Clock) -> None:
    """Limits that an incomplete reading lacks stay in force."""
    reconcile.Reconciler(kernel, Settings(), clock=clock).run(wanted(A, B), read=True)
    fresh = reconcile.Reconciler(kernel, Settings(), clock=clock)
    fresh.run(wanted(B, complete=False), read=True)
    assert rate_of(kernel, "203.0.113.7") == 5 * MBIT
    fresh.run(wanted(B), read=True)
    assert class_of(kernel, "203.0.113.7") == "unshaped"


def test_drift_is_repaired_and_counted_by_layer(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler
) -> None:
    """What strangers change is put right by the next read-back; our own changes are no drift."""
    reconciler.run(wanted(A), read=True)
    before = kernel.state
    reconciler.run(wanted(A, B), read=True)
    reconciler.run(wanted(A), read=True)
    assert reconciler.drift_repairs == {}
    kernel.flush_set(names.set_name(4, ()))
    assert not reconciler.sizes_match()
    kernel.delete_chain(6)
    kernel.delete_root("cbl0")
    assert reconciler.run(wanted(A), read=True).ok
    assert kernel.state == before
    assert reconciler.drift_repairs == {"set": 1, "chain": 1, "tree": 1}
    assert reconciler.sizes_match()


def test_stubborn_writer_is_given_up_loudly(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler, clock: Clock
) -> None:
    """What is undone at once eight times is left alone and told, other objects are repaired; then it is tried again."""
    reconciler.run(wanted(A), read=True)
    kernel.flush_set(names.set_name(4, ()))
    for _ in range(conflicts.UNDONE_BEFORE_ABANDONED):
        assert reconciler.run(wanted(A), read=True).ok
        clock.now += 1
        kernel.flush_set(names.set_name(4, ()))
    kernel.delete_chain(6)
    made = reconciler.run(wanted(A), read=True)
    assert [(f.name, f.reason) for f in made.failing] == [("a", "ConflictingWriter")]
    assert made.conflicts == ("set cbl-v4",)
    assert kernel.state.sets[names.set_name(4, ())].entries == {}
    assert 6 in kernel.state.chains
    assert reconciler.next_trial == clock.now + conflicts.PAUSE_SECONDS
    clock.now += conflicts.PAUSE_SECONDS
    made = reconciler.run(wanted(A), read=True)
    assert made.ok
    assert rate_of(kernel, "203.0.113.7") == 5 * MBIT
    assert reconciler.next_trial is None


WEB = dataclasses.replace(entry("web", "203.0.113.9", rate=20 * MBIT), ports=(PortRange("TCP", 443, 443),))
GUARD = names.clients_set(4)


def test_a_guard_that_the_kernel_refuses_is_done_without(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler
) -> None:
    """Where the set that is asked first cannot hold a client, every packet is asked: all limits act, the one whose
    entry failed is told, and when the kernel takes it again the set is asked first."""
    kernel.fail_entry(GUARD, addresses.parse("203.0.113.8"))
    made = reconciler.run(wanted(A, B, WEB), read=True)
    assert [(f.name, f.reason) for f in made.failing] == [("b", "KernelRefused")]
    assert kernel.state.chains[4].guard == ""
    for client, rate in (("203.0.113.7", 5), ("203.0.113.8", 10), ("203.0.113.9", 20)):
        assert rate_of(kernel, client) == rate * MBIT
    kernel.heal()
    assert reconciler.run(wanted(A, B, WEB), read=True).ok
    assert kernel.state.chains[4].guard == GUARD
    assert reconciler.run(wanted(A, B, WEB), read=True).changes == 0


def test_a_client_that_a_standing_guard_does_not_take_is_told(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler
) -> None:
    """A new limit whose client cannot be put into the set that is asked first is not said to be in force."""
    reconciler.run(wanted(A, WEB), read=True)
    kernel.fail_entry(GUARD, addresses.parse("203.0.113.8"))
    made = reconciler.run(wanted(A, B, WEB), read=True)
    assert [(f.name, f.reason) for f in made.failing] == [("b", "KernelRefused")]
    assert rate_of(kernel, "203.0.113.9") == 20 * MBIT
    kernel.heal()
    assert reconciler.run(wanted(A, B, WEB), read=True).ok
    assert rate_of(kernel, "203.0.113.8") == 10 * MBIT


def test_a_guard_that_is_fought_over_is_told_of_every_limit_behind_it(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler
) -> None:
    """Whoever is taken out of the set that is asked first is limited by nothing, so no limit of the family is said to
    be in force while it is left alone."""
    for _ in range(conflicts.UNDONE_BEFORE_ABANDONED + 1):
        reconciler.run(wanted(A, B, WEB), read=True)
        kernel.flush_set(GUARD)
    made = reconciler.run(wanted(A, B, WEB), read=True)
    assert made.conflicts == (f"set {GUARD}",)
    assert {(f.name, f.reason) for f in made.failing} == {(name, "ConflictingWriter") for name in ("a", "b", "web")}


def test_a_firewall_that_is_reloaded_often_sets_nobody_free(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler, clock: Clock
) -> None:
    """Each repair that holds for seconds is followed by the next, however many there are."""
    reconciler.run(wanted(A), read=True)
    for _ in range(50):
        clock.now += conflicts.HOLDS_SECONDS
        kernel.flush_set(names.set_name(4, ()))
        kernel.delete_chain(4)
        assert reconciler.run(wanted(A), read=True).ok
        assert rate_of(kernel, "203.0.113.7") == 5 * MBIT


def test_repairs_do_not_freeze_later_changes(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler, clock: Clock
) -> None:
    """An object repaired eight times and left alone by the stranger since still takes new limits."""
    reconciler.run(wanted(A), read=True)
    for _ in range(conflicts.UNDONE_BEFORE_ABANDONED):
        kernel.flush_set(names.set_name(4, ()))
        reconciler.run(wanted(A), read=True)
    made = reconciler.run(wanted(A, B), read=False)
    assert made.ok
    assert rate_of(kernel, "203.0.113.8") == 10 * MBIT


def test_ifb_that_is_fought_over_drops_nobody(kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler) -> None:
    """When an ifb is given up nothing is redirected to it any more: its clients pass unlimited, none is cut off."""
    reconciler.run(wanted(A), read=True)
    for _ in range(conflicts.UNDONE_BEFORE_ABANDONED):
        kernel.set_ifb_down(0)
        assert reconciler.run(wanted(A), read=True).ok
    kernel.set_ifb_down(0)
    made = reconciler.run(wanted(A), read=True)
    assert [f.reason for f in made.failing] == ["ConflictingWriter"]
    assert class_of(kernel, "203.0.113.7") == "unshaped"


def test_who_takes_the_place_of_our_hook_away_may_have_it(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler, clock: Clock
) -> None:
    """A hook that went with its qdisc is put back after a second, or, with another's qdisc there, done without."""
    reconciler.run(wanted(A), read=True)
    kernel.delete_hook("eth0")
    reconciler.run(wanted(A), read=True)
    assert kernel.state.hooks == {}
    assert reconciler.next_trial == clock.now + conflicts.ROOM_SECONDS
    clock.now += conflicts.ROOM_SECONDS
    assert reconciler.run(wanted(A), read=True).ok
    assert kernel.state.hooks.keys() == {"eth0"}
    assert reconciler.next_trial is None
    kernel.delete_hook("eth0")
    ingress = kernel.node.interfaces["eth0"]._replace(foreign_egress_filters=("ingress qdisc",))
    kernel.node = dataclasses.replace(kernel.node, interfaces={"eth0": ingress})
    made = reconciler.run(wanted(A), read=True)
    assert (made.ok, [i.placement for i in made.interfaces]) == (True, ["interface"])
    assert reconciler.next_trial is None
    assert rate_of(kernel, "203.0.113.7") == 5 * MBIT


def test_interface_that_is_another_device_is_no_drift(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler
) -> None:
    """An interface that flaps, coming back as a new device without our hook, never counts as a stubborn writer."""
    reconciler.run(wanted(A), read=True)
    for index in range(10, 16):
        kernel.delete_hook("eth0")
        kernel.node = fake_kernel.facts(fake_kernel.interface(index=index))
        made = reconciler.run(wanted(A), read=True)
        assert made.ok
        assert made.changes == 1
    assert reconciler.drift_repairs == {}


def test_no_interface_is_a_reason_of_every_limit(clock: Clock) -> None:
    """Without an egress interface each limit fails and says what to do, and nothing is installed."""
    kernel = fake_kernel.FakeKernel(fake_kernel.facts(fake_kernel.interface(default_route=False)))
    made = reconcile.Reconciler(kernel, Settings(), clock=clock).run(wanted(A, B), read=True)
    assert {f.reason for f in made.failing} == {"NoEgressInterface"}
    assert made.failed == 2
    assert kernel.state == model.EMPTY


def test_unreadable_kernel_changes_nothing(kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler) -> None:
    """A kernel that cannot be read whole is left as it is."""
    reconciler.run(wanted(A), read=True)
    before = kernel.state
    kernel.read_error = errno.EINTR
    with pytest.raises(InterruptedError):
        reconciler.run(wanted(B), read=True)
    assert kernel.state == before


def _send(kernel: fake_kernel.FakeKernel, text: str, packets: int) -> None:
    prefix = addresses.parse(text)
    kernel.transmit(prefix.family, prefix.network, "TCP", 443, "eth0", packets=packets)


def test_bypassed_hook_moves_to_the_interface(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler, clock: Clock
) -> None:
    """Where another program keeps packets from our hook, the next pass limits at the root, and it stays there."""
    kernel.bypassed.add("eth0")
    reconciler.run(wanted(A, B), read=True)
    assert not reconciler.leaks()
    _send(kernel, "203.0.113.7", 100)
    assert class_of(kernel, "203.0.113.7") == "unshaped"
    clock.now += 1
    assert reconciler.leaks()
    (told,) = reconciler.run(wanted(A, B), read=True).interfaces
    assert (told.placement, told.reason) == ("interface", "ForeignFilter")
    assert rate_of(kernel, "203.0.113.7") == 5 * MBIT
    assert not kernel.state.hooks
    assert not kernel.state.ifbs
    kernel.bypassed.clear()
    clock.now += 3600
    assert reconciler.run(wanted(A, B), read=True).changes == 0


def test_bypassed_hook_fails_where_an_ifb_was_asked_for(kernel: fake_kernel.FakeKernel, clock: Clock) -> None:
    """With placement `ifb` every limit fails with the reason; ten minutes later it is tried again."""
    reconciler = reconcile.Reconciler(kernel, Settings(placement=PlacementSetting.IFB), clock=clock)
    kernel.bypassed.add("eth0")
    reconciler.run(wanted(A), read=True)
    reconciler.run(wanted(A), read=True)
    _send(kernel, "203.0.113.7", 100)
    made = reconciler.run(wanted(A), read=True)
    assert [(item.name, item.reason) for item in made.failing] == [("a", "ForeignFilter")]
    assert kernel.state == model.EMPTY
    clock.now += 599
    assert not reconciler.run(wanted(A), read=True).ok
    kernel.bypassed.clear()
    clock.now += 1
    assert reconciler.run(wanted(A), read=True).ok
    assert rate_of(kernel, "203.0.113.7") == 5 * MBIT


def test_hook_that_works_is_left_alone(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler, clock: Clock
) -> None:
    """Traffic of the limited and of others through the hook is no reason for anything."""
    for _ in range(5):
        clock.now += 1
        assert not reconciler.leaks()
        reconciler.run(wanted(A, B), read=True)
        _send(kernel, "203.0.113.7", 1000)
        _send(kernel, "192.0.2.1", 1000)
    assert kernel.state.hooks


def test_node_without_sets_says_so(clock: Clock) -> None:
    """Where clients cannot be told apart nothing is put anywhere, and every limit says what is missing."""
    node = fake_kernel.facts()
    kernel = fake_kernel.FakeKernel(dataclasses.replace(node, features=node.features._replace(ipset=False)))
    made = reconcile.Reconciler(kernel, Settings(), clock=clock).run(wanted(A, B), read=True)
    assert [item.reason for item in made.failing] == ["MissingFeature", "MissingFeature"]
    assert "ipset" in made.missing_features
    assert kernel.applied == []


@pytest.mark.parametrize("setting", [PlacementSetting.AUTO, PlacementSetting.IFB, PlacementSetting.INTERFACE])
def test_a_probe_that_finds_nothing_takes_nothing_away(clock: Clock, setting: PlacementSetting) -> None:
    """Features read as missing while limits stand: nothing is touched, also not by an agent without any memory."""
    kernel = fake_kernel.FakeKernel(fake_kernel.facts(leaf_kinds=frozenset({"fq_codel"})))
    reconcile.Reconciler(kernel, Settings(placement=setting), clock=clock).run(wanted(A, B), read=True)
    before = kernel.observe()
    features = model.Features(ifb=False, clsact=False, ipset=False)
    kernel.node = dataclasses.replace(kernel.node, features=features)
    report = reconcile.Reconciler(kernel, Settings(placement=setting), clock=clock).run(wanted(A, B), read=True)
    assert (report.changes, report.failed) == (0, 0)
    assert kernel.observe() == before
    assert rate_of(kernel, "203.0.113.7") == 5 * MBIT


def test_a_client_that_is_reached_another_way_is_told(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler
) -> None:
    """Its limit is not in force, the kernel holds it all the same, and a route that changes makes it right again."""
    reconciler.run(wanted(A, B), read=True)
    assert not reconciler.rerouted()
    kernel.routes = {addresses.parse("203.0.113.8"): frozenset({"lan"})}
    assert reconciler.rerouted()
    report = reconciler.run(wanted(A, B), read=False)
    assert [(f.name, f.reason) for f in report.failing] == [("b", "NotOnTheWay")]
    assert (report.programmed, report.failed, report.changes) == (1, 1, 0)
    assert rate_of(kernel, "203.0.113.8") == 10 * MBIT
    kernel.routes = {addresses.parse("198.51.100.99"): frozenset({"lan"})}
    assert reconciler.rerouted()
    assert reconciler.run(wanted(A, B), read=False).ok
    kernel.routes = {}
    assert not reconciler.rerouted()  # that route concerned no client


def test_ways_that_cannot_be_asked_stop_nothing(
    kernel: fake_kernel.FakeKernel, reconciler: reconcile.Reconciler
) -> None:
    """What is only told about a limit never keeps it from being in force."""
    kernel.unanswered = True
    report = reconciler.run(wanted(A), read=True)
    assert (report.ok, rate_of(kernel, "203.0.113.7")) == (True, 5 * MBIT)
    kernel.unanswered = False
    kernel.routes = {addresses.parse("203.0.113.7"): frozenset({"lan"})}
    assert [f.reason for f in reconciler.run(wanted(A), read=False).failing] == ["NotOnTheWay"]
