"""Where packets go: by mark or priority to the class they name, cut or whole, and none lost when a class changes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_api import names
from bandwidth_lab import TcpFlow, UdpFlow, WireMeter, namespaces, topology, traffic
from kernel.tc import shapes
from kernel.tc.node import Driver

pytestmark = pytest.mark.root

PACKETS = 5


def send(network: topology.Network, *, mark: int = 0, priority: int = 0) -> None:
    """Some datagrams from the node to the client, with this mark and priority."""
    sender = network.server.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, priority)
        for _ in range(PACKETS):
            sender.sendto(b"x" * 100, (network.clients[0].address4, 9))


def counted(kernel: tc.TrafficControl) -> dict[tuple[str, int], int]:
    """Packets by device and class, where there were any; class 0 stands for those in no class."""
    by_device, direct = kernel.counters()
    found = {(device, 0): packets for device, packets in direct.items()}
    for device, classes in by_device.items():
        found |= {(device, minor): counters.packets for minor, counters in classes.items()}
    return {place: packets for place, packets in found.items() if packets}


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds, on a machine however busy."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def shaped(driver: Driver) -> None:
    """Two shards with classes at their borders, and the hook to both."""
    for shard, minors in ((0, (1, 511)), (1, (512, 1023))):
        driver.apply(
            objects.PutIfb(shard),
            *shapes.tree_on(names.ifb(shard), {minor: shapes.enforce(1_000_000) for minor in minors}),
            objects.PutFilter(names.ifb(shard), shapes.FILTER),
        )
    driver.apply(objects.PutHook("eth0", shapes.hook(0, 1), None))


@pytest.mark.usefixtures("shaped")
@pytest.mark.parametrize("foreign", [0, 0x4000, 0xFFFF])
def test_a_mark_leads_to_its_class_on_its_shard(
    kernel: tc.TrafficControl, network: topology.Network, foreign: int
) -> None:
    """The marks of four classes on two shards lead to exactly these, whatever other programs' bits say."""
    before = counted(kernel)
    for minor in (1, 511, 512, 1023):
        send(network, mark=minor << 16 | foreign)
    after = counted(kernel)
    assert {place: count - before.get(place, 0) for place, count in after.items()} == {
        ("cbl0", 1): PACKETS,
        ("cbl0", 511): PACKETS,
        ("cbl1", 512): PACKETS,
        ("cbl1", 1023): PACKETS,
    }


@pytest.mark.usefixtures("shaped")
def test_packets_without_our_mark_pass_by(kernel: tc.TrafficControl, network: topology.Network) -> None:
    """No mark, other programs' marks and marks of a shard that is not there reach no ifb."""
    for mark in (0, 0x4000, 0xFFFF, 1024 << 16):
        send(network, mark=mark)
    assert counted(kernel) == {}


@pytest.mark.usefixtures("shaped")
def test_a_mark_of_a_class_that_is_not_there_passes_unshaped_and_counted(
    kernel: tc.TrafficControl, network: topology.Network
) -> None:
    """A missing class fails open: the packets count as direct."""
    send(network, mark=77 << 16)
    assert counted(kernel) == {("cbl0", 0): PACKETS}


def test_a_priority_leads_to_its_class_by_one_mark_bit(
    kernel: tc.TrafficControl, driver: Driver, network: topology.Network
) -> None:
    """With the classifier `priority` the mark bit redirects and the priority survives to choose the class."""
    classes = {1: shapes.enforce(1_000_000), names.CLASS_MAX: shapes.enforce(1_000_000)}
    hook = objects.Hook(0x0001_0000, None, frozenset({0}))
    driver.apply(objects.PutIfb(0), *shapes.tree_on("cbl0", classes), objects.PutHook("eth0", hook, None))
    for minor in classes:
        send(network, mark=0x0001_0000, priority=names.HTB_MAJOR << 16 | minor)
    assert counted(kernel) == {("cbl0", 1): PACKETS, ("cbl0", names.CLASS_MAX): PACKETS}


def mark_all(node: namespaces.Namespace) -> None:
    """Every packet to a client gets the mark of class 1."""
    node.run(["iptables", "-w", "-t", "mangle", "-A", "POSTROUTING", "-j", "MARK", "--set-xmark", "0x10000/0xffff0000"])


@pytest.mark.parametrize(("leaf", "cut"), [(shapes.CUTTING, True), (shapes.WHOLE, False)])
@pytest.mark.usefixtures("shaped")
def test_the_leaf_decides_whether_large_packets_are_cut(
    driver: Driver, network: topology.Network, leaf: objects.Leaf, cut: bool
) -> None:
    """With a burst of one frame nothing larger than a frame arrives; with a large one GSO packets arrive whole."""
    client = network.clients[0]
    driver.apply(objects.PutClasses("cbl0", {1: shapes.enforce(5_000_000, leaf)}, {}))
    mark_all(network.server.namespace)
    with WireMeter(client) as meter, TcpFlow(network.server, client, congestion="cubic"):
        meter.measure(0.3)
        start = meter.device_count()
        meter.measure(0.7)
        end = meter.device_count()
    average = (end.bytes - start.bytes) / (end.packets - start.packets)
    assert (average <= 1514) == cut, average


@pytest.mark.usefixtures("shaped")
def test_changing_a_class_loses_no_packet_and_no_count(
    kernel: tc.TrafficControl, driver: Driver, network: topology.Network
) -> None:
    """Back and forth between two rates and between cutting and whole, under traffic with a queue: nothing is lost,
    counters only rise."""
    shapes_in_turn = (
        shapes.enforce(1_250_000, shapes.CUTTING._replace(limit_bytes=150_000)),
        shapes.enforce(50_000_000, shapes.WHOLE),
    )
    observed = driver.classes("cbl0")
    mark_all(network.server.namespace)
    previous = model.ClassCounters(0, 0, 0, 0, 0, 0, 0)
    client = network.clients[0]
    stream = UdpFlow(network.server, client, rate_bits_per_second=8e6, overdue_seconds=traffic.PROMPT_SECONDS)
    with stream:
        for turn in range(10):
            wanted = {1: shapes_in_turn[turn % 2]}
            driver.apply(objects.PutClasses("cbl0", wanted, observed))
            assert driver.classes("cbl0")[1] == wanted[1]
            observed = wanted
            until(lambda: kernel.counters()[0]["cbl0"][1].bytes > previous.bytes + 20_000)  # noqa: B023
            counters = kernel.counters()[0]["cbl0"][1]
            assert counters.drops == 0
            previous = counters
    assert stream.received_packets > 100
    assert stream.lost_packets == 0


@pytest.mark.alone
@pytest.mark.usefixtures("shaped")
def test_a_leaf_that_begins_to_cut_does_not_choke_on_what_waits_whole(
    driver: Driver, network: topology.Network
) -> None:
    """Large packets queued whole pass after the leaf has been changed to cut, and the flow goes on at the new rate."""
    whole, cut = {1: shapes.enforce(12_500_000, shapes.WHOLE)}, {1: shapes.enforce(2_500_000)}
    client = network.clients[0]
    driver.apply(objects.PutClasses("cbl0", whole, {}))
    mark_all(network.server.namespace)
    with WireMeter(client) as meter, TcpFlow(network.server, client, congestion="cubic"):
        meter.measure(0.5)
        for _ in range(3):
            driver.apply(objects.PutClasses("cbl0", cut, whole))
            meter.measure(0.3)
            assert meter.measure(0.5) > 0.8 * 20e6
            driver.apply(objects.PutClasses("cbl0", whole, cut))
            assert meter.measure(0.5) > 0.5 * 100e6


@pytest.mark.usefixtures("shaped")
def test_drops_backlog_and_overlimits_of_a_full_class_are_counted(
    kernel: tc.TrafficControl, driver: Driver, network: topology.Network
) -> None:
    """A class offered ten times its rate shows what waits, what was dropped and how often it had to wait."""
    slow = shapes.enforce(125_000)
    driver.apply(objects.PutClasses("cbl0", {1: slow}, {}))
    mark_all(network.server.namespace)
    client = network.clients[0]
    seen = [kernel.counters()[0]["cbl0"][1]]

    def full() -> bool:
        seen.append(kernel.counters()[0]["cbl0"][1])
        return seen[-1].drops > 0 and seen[-1].backlog_bytes > 0

    with UdpFlow(network.server, client, rate_bits_per_second=10e6) as flow:
        until(full)
        sent = flow.sent_packets
    counters = seen[-1]
    assert counters.drops < sent
    assert counters.backlog_bytes <= shapes.CUTTING.limit_bytes
    assert counters.overlimits > 0
    assert counters.lended > 0
    assert counters.borrowed == 0


def test_an_observed_class_slows_nothing_and_counts_what_it_borrowed(
    kernel: tc.TrafficControl, driver: Driver, network: topology.Network
) -> None:
    """In Observe mode ten times the rate passes whole, and HTB counts the packets that had to borrow."""
    classes = {1: shapes.observe(125_000), names.OBSERVE_PARENT: shapes.PARENT}
    driver.apply(
        objects.PutIfb(0),
        *shapes.tree_on("cbl0", classes),
        objects.PutFilter("cbl0", shapes.FILTER),
        objects.PutHook("eth0", shapes.hook(0), None),
    )
    mark_all(network.server.namespace)
    client = network.clients[0]
    with UdpFlow(network.server, client, rate_bits_per_second=10e6) as flow:
        until(lambda: flow.received_packets > 500)
    assert flow.lost_packets == 0
    counters = kernel.counters()[0]["cbl0"][1]
    assert counters.drops == 0
    assert counters.borrowed > counters.lended > 0
