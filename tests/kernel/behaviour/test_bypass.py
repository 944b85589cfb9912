"""Another program at TCX on the egress of the interface, which cannot be listed, comes before our filters."""

from __future__ import annotations

import contextlib

import pytest

from bandwidth_agent.kernel import model
from bandwidth_lab import Network, TcpFlow, WireMeter, ebpf
from bandwidth_lab.node import Node
from kernel.behaviour import holding

pytestmark = pytest.mark.root

RATE = 8_000_000


def at_tcx(node: Node, verdict: int) -> contextlib.AbstractContextManager[None]:
    """Another program on the way out of the node, which says this of every packet."""
    return ebpf.attached(node.namespace, "eth0", "egress", ebpf.verdict(verdict))


def test_a_program_that_ends_the_walk_moves_the_limit_to_the_interface(network: Network, node: Node) -> None:
    """Packets that pass our hook by are missed within seconds; the limit holds at the interface's root from then on,
    also when the program is gone."""
    client = network.clients[0]
    node.limit("slow", [client.address4], "8Mbit")
    node.bypassed = True  # until the limit is where the packets pass
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        with at_tcx(node, ebpf.PASS):
            node.start("--resync", "600")
            node.until(lambda: "eth0" in node.kernel().trees and not node.kernel().hooks)
            holding.assert_held(meter, RATE)
        holding.assert_held(meter, RATE, warm_up_seconds=0.5)
    assert "eth0" in node.kernel().trees
    assert node.stop() == 0


def test_a_program_that_comes_later_is_noticed_at_the_next_read_back(network: Network, node: Node) -> None:
    """A hook that worked is no longer looked at every second, but at every read-back."""
    client = network.clients[0]
    node.limit("slow", [client.address4], "8Mbit")
    node.start("--resync", "1")
    node.until_rate(client.address4, RATE)
    node.bypassed = True  # until the limit is where the packets pass
    with TcpFlow(network.server, client), WireMeter(client) as meter:
        holding.assert_held(meter, RATE)
        with at_tcx(node, ebpf.PASS):
            node.until(lambda: "eth0" in node.kernel().trees and not node.kernel().hooks)
            holding.assert_held(meter, RATE)
    node.stop()


def test_a_program_that_lets_the_next_one_see_the_packet_is_no_obstacle(network: Network, node: Node) -> None:
    """Whoever only looks, or changes packets, leaves us where we are."""
    client = network.clients[0]
    node.limit("slow", [client.address4], "8Mbit")
    with at_tcx(node, ebpf.NEXT), TcpFlow(network.server, client), WireMeter(client) as meter:
        node.start("--resync", "1")
        node.until_rate(client.address4, RATE)
        meter.measure(3.0)  # three read-backs
        holding.assert_held(meter, RATE, warm_up_seconds=0.0)
        assert "eth0" in node.kernel().hooks
    node.stop()


def test_placement_ifb_says_why_it_fails(network: Network, node: Node) -> None:
    """What the administrator asked for is impossible there: the limit is reported as failing, and nothing is left."""
    client = network.clients[0]
    node.limit("slow", [client.address4], "8Mbit")
    node.options = ("--placement", "ifb")
    node.bypassed = True
    with at_tcx(node, ebpf.PASS), TcpFlow(network.server, client):
        node.start("--resync", "600")
        node.until(lambda: "ForeignFilter" in node.log.read_text())
        node.until(lambda: node.kernel() == model.EMPTY)
    assert "a program on that hook ends the walk" in node.log.read_text()
    assert node.stop() == 0


def test_limited_clients_behind_other_interfaces_are_no_bypass(network: Network, node: Node) -> None:
    """A limited address next door matches the rules and is rightly redirected nowhere, while eth0 is busy."""
    node.namespace.ip(
        "link add pod0 type veth peer name pod1",
        "addr add 10.77.0.1/24 dev pod0",
        "link set pod0 up",
        "link set pod1 up",
        "neigh add 10.77.0.2 lladdr 02:00:00:00:00:02 dev pod0",
    )
    node.limit("pod", ["10.77.0.2"], "8Mbit")
    node.start("--resync", "1")
    node.until_rate("10.77.0.2", RATE)
    with TcpFlow(network.server, network.clients[1]), WireMeter(network.clients[1]) as meter:
        for _ in range(3):
            node.namespace.run(["ping", "-c", "100", "-i", "0.005", "-W", "0.01", "10.77.0.2"], check=False)
            meter.measure(0.5)
        assert "eth0" in node.kernel().hooks
    node.stop()
