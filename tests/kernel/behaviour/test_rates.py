"""What arrives at a limited client, measured on the wire, and what all others notice of it: nothing."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import statistics
import time
from collections.abc import Iterator, Sequence

import pytest

from bandwidth_lab import Flow, Network, TcpFlow, UdpFlow, WireMeter, bits_per_second, star
from bandwidth_lab.meter import Sample
from bandwidth_lab.node import Node
from kernel.behaviour import holding

pytestmark = pytest.mark.root

RATES = {"256kbit": 256_000, "5Mbit": 5_000_000, "100Mbit": 100_000_000}
WINDOWS = 3  # of a second, and more while a busy machine starves a sender: nothing makes it faster than its limit


def slack(rate: int) -> float:
    """Of a second's share of the rate: a few frames more or less are no error."""
    return 0.03 + 3 * holding.FRAME_BITS / rate


def shares(readings: Sequence[Sequence[Sample]]) -> Iterator[tuple[int, int, list[float]]]:
    """For each rate and family what arrived in each window, as a share of the rate; a reading has all clients."""
    for rate, seen in zip(RATES.values(), zip(*readings, strict=True), strict=True):
        for family in (4, 6):
            yield rate, family, [bits_per_second(x, y, family) / rate for x, y in itertools.pairwise(seen)]


def all_reached(readings: Sequence[Sequence[Sample]]) -> bool:
    """Whether each rate was reached in one window."""
    return all(max(measured) >= 1.0 - slack(rate) for rate, _, measured in shares(readings))


def assert_arrives_whole(node: Node, stream: UdpFlow) -> None:
    """For two seconds all that is sent arrives, and soon: whatever the machine lets the sender send."""
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        node.until(lambda sent=stream.sent_packets: stream.highest_sequence >= sent - 1, seconds=5.0)
    assert stream.lost_packets == 0


@pytest.mark.paired
@pytest.mark.parametrize("classifier", ["mark", "priority"])
@pytest.mark.parametrize("placement", ["ifb", "interface"])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rate_on_the_wire(tmp_path: pathlib.Path, transport: str, placement: str, classifier: str) -> None:
    """Bulk traffic of both families arrives at the rate of its limit, headers included, from 256 kbit to 100 Mbit."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(star(clients=len(RATES), prefix="kb-"))
        node = Node(network.server.namespace, tmp_path, "--placement", placement, "--classifier", classifier)
        for client, rate in zip(network.clients, RATES, strict=True):
            node.limit(f"four-{rate.lower()}", [client.address4], rate)
            node.limit(f"six-{rate.lower()}", [client.address6], rate)
        report = node.once()
        assert [i["placement"] for i in report["interfaces"]] == [placement]
        assert report["classifier"] == classifier
        meters = []
        for client, rate in zip(network.clients, RATES.values(), strict=True):
            for family in (4, 6):
                flow: Flow = (
                    TcpFlow(network.server, client, family=family, congestion="cubic")
                    if transport == "tcp"
                    else UdpFlow(
                        network.server,
                        client,
                        family=family,
                        rate_bits_per_second=2 * rate,
                        segments=8 if rate >= 100_000_000 else 1,  # one call for eight: Python is the bottleneck
                    )
                )
                stack.enter_context(flow)
            meters.append(stack.enter_context(WireMeter(client, transport=transport)))
        meters[0].measure(2.0)  # until the queues are full and the bursts spent
        readings = [[meter.read() for meter in meters]]
        while len(readings) <= WINDOWS or (not all_reached(readings) and len(readings) <= holding.WINDOWS_MAX):
            meters[0].measure(1.0)
            readings.append([meter.read() for meter in meters])
    for rate, family, measured in shares(readings):
        assert statistics.fmean(measured) <= 1.0 + slack(rate), (rate, family, measured)
    assert all_reached(readings), list(shares(readings))


@pytest.mark.alone
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_a_gigabit_on_the_wire(network: Network, node: Node, placement: str, family: int) -> None:
    """At 1 Gbit, where GSO packets pass whole, the limit is reached and never exceeded."""
    client = network.clients[0]
    node.options = ("--placement", placement)
    node.limit("fast", [client.address(family)], "1Gbit")
    node.once()
    with TcpFlow(network.server, client, family=family, congestion="cubic"), WireMeter(client) as meter:
        holding.assert_held(meter, 1_000_000_000, family)


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_another_client_is_unaffected(network: Network, node: Node, placement: str) -> None:
    """While one client is held to 1 Mbit, a steady stream of 20 Mbit to another arrives whole."""
    greedy, quiet = network.clients
    node.options = ("--placement", placement)
    node.limit("slow", [greedy.address4, greedy.address6], "1Mbit")
    node.once()
    steady = UdpFlow(network.server, quiet, rate_bits_per_second=20_000_000)
    with TcpFlow(network.server, greedy) as bulk, steady:
        node.until(lambda: bulk.received_bytes > 100_000 and steady.received_packets > 100)
        assert_arrives_whole(node, steady)


def test_entries_of_one_limit_share_its_rate(network: Network, node: Node) -> None:
    """With sharing Shared both addresses of a customer together get one rate; with PerEntry each gets its own."""
    client = network.clients[0]
    node.limit("slow", [client.address4, client.address6], "8Mbit")
    node.once()
    both = (TcpFlow(network.server, client), TcpFlow(network.server, client, family=6))
    with both[0], both[1], WireMeter(client) as meter:
        holding.assert_held(meter, 8_000_000)
        node.limit("slow", [client.address4, client.address6], "8Mbit", egress={"sharing": "PerEntry"})
        node.once()
        holding.assert_held(meter, 16_000_000)


def test_ports_hold_connections_that_ran_before_any_was_tracked(network: Network, node: Node) -> None:
    """The first limit with ports of a host slows the very stream that it was written for, and no other of the client.

    Nothing tracked connections here before, so that the kernel sees these in their midst, from the server's side first.
    """
    client = network.clients[0]
    with (
        TcpFlow(network.server, client, port=993, rate_bits_per_second=20e6),
        UdpFlow(network.server, client, port=443, rate_bits_per_second=20e6, family=6),
        TcpFlow(network.server, client, port=25, rate_bits_per_second=3e6) as other,
        WireMeter(client) as meter,
    ):
        node.until(lambda: min(meter.measure(0.5, 4), meter.measure(0.5, 6)) > 15e6)
        ports = [{"port": 993}, {"protocol": "UDP", "port": 443}]
        of_ports = {"sharing": "PerEntry", "ports": ports}
        node.limit("slow", [client.address4, client.address6], "2Mbit", egress=of_ports)
        node.once()
        meter.measure(1.0)  # what waits is sent
        received = other.received_bytes
        start = meter.read()
        meter.measure(2.0)
        end = meter.read()
        assert bits_per_second(start, end, 6) <= 1.1 * 2e6
        assert 2e6 < bits_per_second(start, end, 4) <= 1.1 * (2e6 + 3e6 * 1514 / 1448)
        assert other.received_bytes - received > 0.5 * 2 * 3e6 / 8


def test_observe_slows_nothing_and_counts(network: Network, node: Node) -> None:
    """In Observe mode a stream far above the limit arrives whole, and `show` says what would have been slowed."""
    client = network.clients[0]
    node.limit("watch", [client.address4], "5Mbit", mode="Observe")
    node.once()
    steady = UdpFlow(network.server, client, rate_bits_per_second=50_000_000)
    with steady:
        node.until(lambda: steady.received_packets > 100)
        assert_arrives_whole(node, steady)
    (shown,) = node.show()["limits"]
    assert shown["mode"] == "Observe"
    assert 0.5 < shown["overLimitShare"] < 0.97  # nine tenths of 50 Mbit are above 5 Mbit, if it sends so much
