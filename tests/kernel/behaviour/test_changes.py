"""Limits that come, change, move and go while traffic flows: who notices it, and who must not."""

from __future__ import annotations

import datetime
import re
import time

import pytest

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.fake import tracer
from bandwidth_api import addresses
from bandwidth_lab import Network, TcpFlow, UdpFlow, WireMeter, traffic
from bandwidth_lab.node import Node, whole_second
from kernel.behaviour import holding

pytestmark = pytest.mark.root

BLUR = 1.2  # of the rate in a second: two queues may empty at once, a busy machine delivers late


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_change_of_rate_loses_nothing_and_resets_nothing(network: Network, node: Node, placement: str) -> None:
    """New rates, across the step at which the leaf changes its ways, lose no datagram and keep the class's counters."""
    client = network.clients[0]
    node.options = ("--placement", placement)
    node.limit("slow", [client.address4], "20Mbit")
    node.once()
    steady = UdpFlow(network.server, client, rate_bits_per_second=2_000_000, overdue_seconds=traffic.PROMPT_SECONDS)
    with steady, WireMeter(client, transport="udp") as meter:
        meter.measure(0.5)
        before = node.show()["limits"][0]["bytes"]
        for rate in ("30Mbit", "1Gbit", "400Gbit", "199Mbit", "20Mbit"):
            node.limit("slow", [client.address4], rate)
            assert node.once()["changes"] == 1
        meter.measure(0.5)
    assert steady.lost_packets == 0
    assert node.show()["limits"][0]["bytes"] > before > 0


def test_programming_other_limits_disturbs_nobody(network: Network, node: Node) -> None:
    """Two hundred limits coming and going cost an unlimited stream and a limited one not one packet."""
    limited, free = network.clients
    node.limit("slow", [limited.address4], "5Mbit")
    node.once()
    streams = [
        UdpFlow(network.server, client, rate_bits_per_second=rate, overdue_seconds=traffic.PROMPT_SECONDS)
        for client, rate in ((limited, 2_000_000), (free, 10_000_000))
    ]
    with streams[0], streams[1]:
        node.until(lambda: all(stream.received_packets > 100 for stream in streams))
        for number in range(200):
            node.limit(f"other-{number}", [f"198.18.0.{number}", f"2001:db8:9::{number + 1:x}"], "1Mbit")
        node.once()
        for number in range(200):
            node.lift(f"other-{number}")
        node.once()
        counts = [stream.sent_packets for stream in streams]
        node.until(lambda: all(stream.highest_sequence > n for stream, n in zip(streams, counts, strict=True)))
    assert [stream.lost_packets for stream in streams] == [0, 0]


def test_removal_lifts_at_once(network: Network, node: Node) -> None:
    """Deleting the file of a running agent's limit makes its client fast, and leaves nothing."""
    client = network.clients[0]
    before = node.snapshot()
    node.limit("slow", [client.address4], "1Mbit")
    node.start()
    node.until_rate(client.address4, 1_000_000)
    # Datagrams, because a TCP that was slowed takes its time to find out that it is not any more.
    steady = UdpFlow(network.server, client, rate_bits_per_second=20_000_000)
    with steady, WireMeter(client, transport="udp") as meter:
        meter.measure(1.0)
        assert meter.measure(1.0, 4) < 1_200_000
        node.lift("slow")
        node.until_rate(client.address4, None)
        holding.assert_free(meter, 1_000_000, 4)
    node.until(lambda: node.kernel() == model.EMPTY)
    assert node.stop() == 0
    assert node.snapshot() == before


def test_file_changes_are_followed(network: Network, node: Node) -> None:
    """A limit written, edited, disabled, and enabled again to observe is in the kernel long before any timer."""
    client = network.clients[0]
    node.start("--resync", "600")
    node.until(lambda: "started" in node.log.read_text())
    node.limit("slow", [client.address4], "1Mbit")
    node.until_rate(client.address4, 1_000_000)
    node.limit("slow", [client.address4], "2Mbit")
    node.until_rate(client.address4, 2_000_000)
    node.limit("slow", [client.address4], "2Mbit", mode="Disabled")
    node.until_rate(client.address4, None)
    node.limit("slow", [client.address4], "3Mbit", mode="Observe")
    node.until_rate(client.address4, 3_000_000)
    assert node.stop() == 0
    assert node.rate_of(client.address4) == 3_000_000


def test_observe_becomes_enforce_without_a_gap(network: Network, node: Node) -> None:
    """Switched to Enforce, a client is slowed by a new class before the old one goes; the way back frees it."""
    client = network.clients[0]
    node.limit("slow", [client.address4], "5Mbit", mode="Observe")
    node.once()
    with TcpFlow(network.server, client, congestion="cubic"), WireMeter(client) as meter:
        holding.assert_free(meter, 5_000_000)
        node.limit("slow", [client.address4], "5Mbit")
        node.once()
        holding.assert_held(meter, 5_000_000)
        node.limit("slow", [client.address4], "5Mbit", mode="Observe")
        node.once()
        holding.assert_free(meter, 5_000_000)


def test_move_between_placements_under_traffic(network: Network, node: Node) -> None:
    """From ifb to interface and back, no second of a running transfer is above its limit."""
    client = network.clients[0]
    node.limit("slow", [client.address4], "10Mbit")
    node.options = ("--placement", "ifb")
    node.once()
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        meter.measure(2.0)
        mark = len(meter.samples)
        for placement in ("interface", "ifb", "interface", "ifb"):
            node.options = ("--placement", placement)
            assert node.once()["interfaces"][0]["placement"] == placement
            meter.measure(1.0)
        seconds = meter.series(window=10)[mark:]
    assert max(rate for _, rate in seconds) < 10_000_000 * BLUR
    assert sum(rate for _, rate in seconds) / len(seconds) > 10_000_000 * 0.5


def test_change_of_classifier_under_traffic(network: Network, node: Node) -> None:
    """From marks to priorities and back, no second of a running transfer is above its limit."""
    client = network.clients[0]
    node.limit("slow", [client.address4], "10Mbit")
    node.once()
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        meter.measure(2.0)
        mark = len(meter.samples)
        for classifier in ("priority", "mark", "priority"):
            node.options = ("--classifier", classifier)
            assert node.once()["classifier"] == classifier
            meter.measure(1.0)
        seconds = meter.series(window=10)[mark:]
    assert max(rate for _, rate in seconds) < 10_000_000 * BLUR


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("transport", ["TCP", "UDP"])
def test_port_is_the_one_the_client_dialled(network: Network, node: Node, transport: str, family: int) -> None:
    """Behind a DNAT from 993 to another port only what was dialled as 993 is limited; 8993 dialled directly is not."""
    client, server = network.clients[0], network.server
    tool, host = ("iptables", server.address4) if family == 4 else ("ip6tables", f"[{server.address6}]")
    server.namespace.run(
        [
            *f"{tool} -t nat -A PREROUTING -p {transport.lower()} --dport 993 -j DNAT --to-destination".split(),
            f"{host}:8993",
        ]
    )
    ports = [{"protocol": transport, "port": 993}]
    node.limit("imap", [client.address(family)], "2Mbit", egress={"ports": ports})
    node.once()
    for dialled, limited in ((993, True), (8993, False)):
        dial = (server.address(family), dialled)
        flow = (
            TcpFlow(server, client, family=family, port=8993, dial=dial)
            if transport == "TCP"
            else UdpFlow(server, client, family=family, rate_bits_per_second=20_000_000, port=8993, dial=dial)
        )
        with flow, WireMeter(client, transport=transport.lower()) as meter:
            if limited and isinstance(flow, UdpFlow):  # which comes in bursts that a short queue cuts
                node.until(lambda lost=flow: lost.lost_packets > 100)
                assert meter.measure(1.5, family) < 2_000_000 * BLUR
            elif limited:
                holding.assert_held(meter, 2_000_000, family)
            else:
                holding.assert_free(meter, 2_000_000, family)


def test_expiry_is_kept_to_the_second(network: Network, node: Node) -> None:
    """A limit with a time to end is lifted by a running agent then, not before, without a change of its file."""
    client = network.clients[0]
    node.start("--resync", "600")
    node.until(lambda: "started" in node.log.read_text())
    late = whole_second(3600)
    node.limit_until(late, "slow", [client.address4], "1Mbit")
    node.until_rate(client.address4, 1_000_000)
    (shown,) = node.show()["limits"]
    assert datetime.datetime.fromisoformat(shown["expiresAt"]) == late
    soon = whole_second(4)  # from when it is in force: how long that takes is not what is tested
    node.limit_until(soon, "slow", [client.address4], "1Mbit")
    node.until_rate(client.address4, None)
    assert time.time() >= soon.timestamp()
    node.stop()


def test_overlap_falls_to_the_next_when_the_winner_goes(network: Network, node: Node) -> None:
    """Where limits overlap the higher priority wins, then the longer prefix; when it goes the next one takes over."""
    client = network.clients[0]
    node.limit("address", [client.address4], "1Mbit")
    node.limit("network", ["203.0.113.8/29"], "2Mbit", **{"except": ["203.0.113.11/32"]})
    node.limit("urgent", ["203.0.113.0/26"], "3Mbit", priority=5, **{"except": ["203.0.113.1/32", "203.0.113.11/32"]})
    node.once()
    assert node.rate_of(client.address4) == 3_000_000
    assert node.rate_of("203.0.113.11") is None
    node.lift("urgent")
    node.once()
    assert node.rate_of(client.address4) == 1_000_000
    assert node.rate_of("203.0.113.12") == 2_000_000
    node.lift("address")
    node.once()
    assert node.rate_of(client.address4) == 2_000_000


def test_restart_with_a_thousand_limits_changes_nothing(network: Network, node: Node) -> None:
    """An agent that starts on a thousand limits already in force makes no change, and the limits hold meanwhile."""
    for number in range(1000):
        node.limit(f"l-{number}", [f"198.18.{number // 250}.{number % 250 + 1}"], f"{number % 90 + 1}Mbit")
    assert node.once()["changes"] > 2000
    before = node.kernel()
    node.start("--resync", "1")
    node.until(lambda: "started" in node.log.read_text())
    node.limit("one-more", ["198.18.200.1"], "1Mbit")
    node.until_rate("198.18.200.1", 1_000_000)
    node.lift("one-more")
    node.until_rate("198.18.200.1", None)
    assert node.stop() == 0
    assert node.kernel() == before
    assert re.findall(r'"changes": (\d+)', node.log.read_text()) == ["2", "2"]
    assert node.once()["changes"] == 0


def test_shards_share_the_classes(network: Network, node: Node) -> None:
    """Limits are numbered in the order of their names; those beyond one ifb take a second one, which goes with them."""
    last = network.clients[0].address4
    for number in range(600):
        node.limit(f"l-{number:03}", [f"198.18.{number // 250}.{number % 250 + 1}"], "5Mbit")
    node.once()
    node.limit("the-last", [last], "4Mbit")
    node.once()
    state = node.kernel()
    assert set(state.ifbs) == {0, 1}
    found = tracer.Tracer(state).trace(4, addresses.parse(last).network, "TCP", 443, "eth0")
    assert isinstance(found, tracer.ClassAddress)
    assert found.device == "cbl1"
    with TcpFlow(network.server, network.clients[0]), WireMeter(network.clients[0]) as meter:
        holding.assert_held(meter, 4_000_000)
    for number in range(1, 600):
        node.lift(f"l-{number:03}")
    node.lift("the-last")
    node.once()
    assert set(node.kernel().ifbs) == {0}
