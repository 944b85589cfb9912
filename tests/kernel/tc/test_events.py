"""The loop is woken by what others change in the namespace, and not by what we change ourselves."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.rtnl import events, tc
from bandwidth_lab import namespaces
from kernel.tc import shapes
from kernel.tc.node import Driver

pytestmark = pytest.mark.root


def settle(node: namespaces.Namespace) -> None:
    """Wait until the kernel has nothing more to do by itself about the interface that was just set up."""
    deadline = time.monotonic() + 20
    while True:
        listed = node.run(["ip", "-6", "-o", "address", "show", "dev", "eth0"]).stdout
        if "scope link" in listed and "tentative" not in listed:
            break
        assert time.monotonic() < deadline, listed
        time.sleep(0.01)
    node.ip("link set lo up")  # changes nothing, and is done behind what the kernel still says about that address


@pytest.fixture
def subscription(kernel: tc.TrafficControl, node: namespaces.Namespace) -> Iterator[events.Events]:
    settle(node)
    made = node.call(lambda: events.Events(ignore=kernel.port_ids))
    yield made
    made.close()


def wait(subscription: events.Events) -> events.Kinds:
    """What woke us, within 5 s."""
    assert select.select([subscription], [], [], 5.0)[0], "nothing came"
    return subscription.drain()


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("qdisc add dev eth0 root handle 5: pfifo limit 5", "tc"),
        ("qdisc add dev eth0 clsact", "tc"),
        ("route add default dev eth0 metric 7", "routes"),
        ("route add ::/0 dev eth0 metric 7", "routes"),
        ("address add 192.0.2.7/32 dev eth0", "addresses"),
        ("address add 2001:db8::7/128 dev eth0", "addresses"),
        ("link set eth0 mtu 1400", "links"),
    ],
)
def test_each_kind_of_change_wakes(
    subscription: events.Events, node: namespaces.Namespace, command: str, kind: str
) -> None:
    """Qdiscs, default routes, addresses and links of either family wake the loop and say what they are."""
    (node.tc if command.startswith("qdisc") else node.ip)(command)
    assert getattr(wait(subscription), kind)


def test_a_route_that_is_no_default_wakes_nobody(subscription: events.Events, node: namespaces.Namespace) -> None:
    """A routing daemon may change thousands of routes; only default routes matter."""
    node.ip("route add 10.0.0.0/8 dev eth0", "route add 2001:db8:77::/64 dev eth0", "route del 10.0.0.0/8 dev eth0")
    assert not subscription.drain()


def test_our_own_changes_of_traffic_control_wake_nobody(
    kernel: tc.TrafficControl, subscription: events.Events, driver: Driver
) -> None:
    """Roots, classes, filters and hooks put and deleted by our own socket are dropped in the kernel."""
    driver.apply(objects.PutIfb(0))
    subscription.drain()
    driver.apply(
        *shapes.tree_on("cbl0", {minor: shapes.enforce(1000) for minor in range(1, 500)}),
        objects.PutFilter("cbl0", shapes.FILTER),
        objects.PutHook("eth0", shapes.hook(0), None),
        objects.DeleteHook("eth0"),
        objects.DeleteFilter("cbl0"),
        objects.DeleteClasses("cbl0", frozenset(range(1, 500))),
        objects.DeleteRoot("cbl0"),
    )
    assert subscription.drain() == events.Kinds()


def test_a_lost_device_is_named(subscription: events.Events, driver: Driver, node: namespaces.Namespace) -> None:
    """A device that is deleted or set down is told by its name, because what is redirected to it is dropped."""
    driver.apply(objects.PutIfb(0), objects.PutIfb(1))
    subscription.drain()
    node.ip("link set cbl0 down")
    assert wait(subscription).lost_links == {"cbl0"}
    node.ip("link del cbl1")
    assert "cbl1" in wait(subscription).lost_links


def test_more_events_than_fit_are_told_as_lost(subscription: events.Events, node: namespaces.Namespace) -> None:
    """When the socket overflows, the loop learns that it must read everything, and the next event comes again."""
    other = node.call(tc.TrafficControl)
    try:
        other.apply_one(objects.PutRoot("eth0", 0))
        crowd = {minor: shapes.enforce(1000) for minor in range(1, 1500)}
        for _ in range(3):
            other.apply_one(objects.PutClasses("eth0", crowd, {}))
    finally:
        other.close()
    assert subscription.drain().lost
    node.ip("link set eth0 mtu 1400")
    assert wait(subscription).links
