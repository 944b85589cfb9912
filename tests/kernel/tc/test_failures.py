"""What the kernel refuses is told where it belongs, and keeps nothing else from being applied."""

from __future__ import annotations

import errno
import threading

import pytest

from bandwidth_agent.kernel import netlink, objects
from bandwidth_agent.kernel.linux.rtnl import features, links, tc, tcmsg
from bandwidth_api import names
from bandwidth_lab import namespaces
from kernel.tc import shapes
from kernel.tc.node import Driver

pytestmark = pytest.mark.root


def test_a_refused_class_does_not_keep_the_others(kernel: tc.TrafficControl, driver: Driver) -> None:
    """Among hundreds, the one without a rate, the one under a missing parent and the one too large for the kernel's
    numbers fail, each with its errno; all the others are there."""
    good = {minor: shapes.enforce(1000 * minor) for minor in range(1, 900)}
    bad = {
        300: shapes.enforce(0),
        301: shapes.observe(1000),
        302: shapes.enforce(1000)._replace(burst_ticks=1 << 40),
    }
    driver.apply(objects.PutRoot("eth0", 0))
    step = objects.PutClasses("eth0", {**good, **bad}, {})
    outcome = kernel.apply_one(step)
    assert outcome.failure is None
    assert {minor: failure.errno for minor, failure in outcome.failed_classes.items()} == {
        300: errno.EINVAL,
        301: errno.ENOENT,
        302: errno.ERANGE,
    }
    assert driver.classes("eth0") == {minor: shape for minor, shape in good.items() if minor not in bad}


def test_a_class_whose_leaf_fails_is_told_as_failed(kernel: tc.TrafficControl, driver: Driver) -> None:
    """A class whose leaf the kernel refuses is no success, is observed unequal, and is repaired by a right leaf."""
    driver.apply(objects.PutRoot("eth0", 0))
    bad = shapes.enforce(625_000, shapes.CUTTING._replace(burst_bytes=0))
    outcome = kernel.apply_one(objects.PutClasses("eth0", {1: bad, 2: shapes.enforce(1)}, {}))
    assert {minor: failure.errno for minor, failure in outcome.failed_classes.items()} == {1: errno.EINVAL}
    observed = driver.classes("eth0")
    assert observed[1] != bad
    wanted = {1: shapes.enforce(625_000)}
    driver.apply(objects.PutClasses("eth0", wanted, observed))
    assert driver.classes("eth0")[1] == wanted[1]


def test_fq_codel_inside_the_leaf_is_had_or_refused_per_class(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace
) -> None:
    """Where the kernel has fq_codel it is put, kept through a change and repaired; where not, the class is failed."""
    driver.apply(objects.PutRoot("eth0", 0))
    wanted = {7: shapes.enforce(625_000, shapes.CUTTING._replace(inner="fq_codel"))}
    outcome = kernel.apply_one(objects.PutClasses("eth0", wanted, {}))
    if kernel.features()["fq_codel"] is features.Answer.THERE:
        assert driver.classes("eth0") == wanted
        driver.apply(objects.PutClasses("eth0", wanted, {}))
        faster = {7: shapes.enforce(125_000_000, shapes.WHOLE._replace(inner="fq_codel"))}
        driver.apply(objects.PutClasses("eth0", faster, wanted))
        assert driver.classes("eth0") == faster
        node.tc("qdisc replace dev eth0 parent 7:1 handle 66: pfifo limit 5")
        damaged = driver.classes("eth0")
        assert damaged != faster
        driver.apply(objects.PutClasses("eth0", faster, damaged))
        assert driver.classes("eth0") == faster
    else:
        assert {minor: failure.errno for minor, failure in outcome.failed_classes.items()} == {7: errno.ENOENT}
        assert driver.classes("eth0") != wanted


def test_classes_on_a_device_without_our_root_fail_one_by_one(kernel: tc.TrafficControl) -> None:
    """Without the HTB every class is told as failed, and none is made anywhere."""
    outcome = kernel.apply_one(objects.PutClasses("eth0", {1: shapes.enforce(1), 2: shapes.enforce(2)}, {}))
    assert set(outcome.failed_classes) == {1, 2}
    assert kernel.observe().trees == {}


def test_a_hook_to_an_ifb_that_is_not_there_is_refused_whole(kernel: tc.TrafficControl, driver: Driver) -> None:
    """A hook whose ifb is missing makes no clsact and no filter."""
    driver.apply(objects.PutIfb(0))
    assert driver.refusal(objects.PutHook("eth0", shapes.hook(0, 5), None)).errno == errno.ENODEV
    assert kernel.observe().hooks == {}
    assert not kernel.surroundings().interfaces["eth0"].clsact


def test_a_parent_with_children_is_not_deleted_before_them(kernel: tc.TrafficControl, driver: Driver) -> None:
    """Deleting only the parent is told as busy; deleting it with its children takes them first."""
    driver.apply(*shapes.tree_on("eth0", {1: shapes.observe(1000), names.OBSERVE_PARENT: shapes.PARENT}))
    outcome = kernel.apply_one(objects.DeleteClasses("eth0", frozenset({names.OBSERVE_PARENT})))
    assert outcome.failed_classes[names.OBSERVE_PARENT].errno == errno.EBUSY
    driver.apply(objects.DeleteClasses("eth0", frozenset({names.OBSERVE_PARENT, 1})))
    assert driver.classes("eth0") == {}


def test_refusals_of_a_batch_belong_to_their_messages(node: namespaces.Namespace) -> None:
    """In a batch of several chunks every third message is refused; exactly those positions are told."""
    channel = node.call(netlink.Socket)
    try:
        refused = netlink.Message(tcmsg.DELETE_QDISC, 0, tcmsg.header(1, 0x10000, tcmsg.ROOT))
        accepted = netlink.Message(links.NEW_LINK, 0, links.HEADER.pack(0, 0, 1, 0, 0))  # lo, nothing to be changed
        messages = [refused if position % 3 == 0 else accepted for position in range(1000)]
        refusals = channel.execute(messages)
        assert set(refusals) == set(range(0, 1000, 3))
        assert {refusal.errno for refusal in refusals.values()} == {errno.EINVAL}
    finally:
        channel.close()


def test_a_reading_torn_by_others_is_read_again(kernel: tc.TrafficControl, node: namespaces.Namespace) -> None:
    """While another program makes and removes links all the time, every reading succeeds and is whole."""
    node.ip(*(f"link add steady{number} type veth peer name peer{number}" for number in range(60)))
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            node.ip("link add shaky type ifb", "link del shaky")

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for _ in range(50):
            interfaces = kernel.surroundings().interfaces
            assert {f"steady{number}" for number in range(60)} <= set(interfaces)
    finally:
        stop.set()
        disturber.join()
