"""What arrives at a limited client, measured on the wire, and what everybody else notices of it: nothing."""

from __future__ import annotations

import pytest

from bandwidth_lab import Network, TcpFlow, UdpFlow, WireMeter
from bandwidth_lab.node import Node

pytestmark = pytest.mark.root

RATES = {"256kbit": 256_000, "5Mbit": 5_000_000, "100Mbit": 100_000_000, "1Gbit": 1_000_000_000}


def settle_seconds(rate: int) -> float:
    """Until the queue is full and the burst spent."""
    return 3.0 if rate < 1_000_000 else 1.0


@pytest.mark.parametrize("classifier", ["mark", "priority"])
@pytest.mark.parametrize("placement", ["ifb", "interface"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("rate", RATES)
def test_tcp_rate_on_the_wire(
    network: Network, node: Node, rate: str, family: int, placement: str, classifier: str
) -> None:
    """A bulk transfer arrives at the rate of its limit, headers included."""
    client = network.clients[0]
    node.options = ("--placement", placement, "--classifier", classifier)
    node.limit("slow", [client.address(family)], rate)
    report = node.once()
    assert [i["placement"] for i in report["interfaces"]] == [placement]
    assert report["classifier"] == classifier
    with TcpFlow(network.server, client, family=family, congestion="cubic"), WireMeter(client) as meter:
        meter.measure(settle_seconds(RATES[rate]))
        measured = meter.measure(4.0 if RATES[rate] < 1_000_000 else 2.0, family)
    assert measured / RATES[rate] == pytest.approx(1.0, abs=0.05 if RATES[rate] < 1_000_000 else 0.03)


@pytest.mark.parametrize("placement", ["ifb", "interface"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("rate", ["256kbit", "5Mbit", "100Mbit"])
def test_udp_rate_on_the_wire(network: Network, node: Node, rate: str, family: int, placement: str) -> None:
    """Datagrams sent at twice the limit arrive at the limit."""
    client = network.clients[0]
    node.options = ("--placement", placement)
    node.limit("slow", [client.address(family)], rate)
    node.once()
    sending = UdpFlow(network.server, client, family=family, rate_bits_per_second=2 * RATES[rate])
    with sending, WireMeter(client, transport="udp") as meter:
        meter.measure(settle_seconds(RATES[rate]))
        measured = meter.measure(4.0 if RATES[rate] < 1_000_000 else 2.0, family)
    assert measured / RATES[rate] == pytest.approx(1.0, abs=0.05 if RATES[rate] < 1_000_000 else 0.03)


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_another_client_is_unaffected(network: Network, node: Node, placement: str) -> None:
    """While one client is held to 1 Mbit, a steady stream of 20 Mbit to another arrives whole."""
    greedy, quiet = network.clients
    node.options = ("--placement", placement)
    node.limit("slow", [greedy.address4, greedy.address6], "1Mbit")
    node.once()
    steady = UdpFlow(network.server, quiet, rate_bits_per_second=20_000_000)
    with TcpFlow(network.server, greedy), steady, WireMeter(quiet, transport="udp") as meter:
        meter.measure(0.5)
        measured = meter.measure(2.0, 4)
    assert measured > 20_000_000 * 0.97
    assert steady.lost_packets == 0


def test_entries_of_one_limit_share_its_rate(network: Network, node: Node) -> None:
    """With sharing Shared both addresses of a customer together get one rate; with PerEntry each gets its own."""
    client = network.clients[0]
    node.limit("slow", [client.address4, client.address6], "8Mbit")
    node.once()
    both = (TcpFlow(network.server, client), TcpFlow(network.server, client, family=6))
    with both[0], both[1], WireMeter(client) as meter:
        meter.measure(1.0)
        assert meter.measure(3.0) == pytest.approx(8_000_000, rel=0.03)
        node.limit("slow", [client.address4, client.address6], "8Mbit", egress={"sharing": "PerEntry"})
        node.once()
        meter.measure(1.0)
        assert meter.measure(3.0) == pytest.approx(16_000_000, rel=0.03)


def test_observe_slows_nothing_and_counts(network: Network, node: Node) -> None:
    """In Observe mode a stream far above the limit arrives whole, and `show` says what would have been slowed."""
    client = network.clients[0]
    node.limit("watch", [client.address4], "5Mbit", mode="Observe")
    node.once()
    steady = UdpFlow(network.server, client, rate_bits_per_second=50_000_000)
    with steady, WireMeter(client, transport="udp") as meter:
        meter.measure(0.5)
        assert meter.measure(2.0, 4) > 50_000_000 * 0.97
    assert steady.lost_packets == 0
    (shown,) = node.show()["limits"]
    assert shown["mode"] == "Observe"
