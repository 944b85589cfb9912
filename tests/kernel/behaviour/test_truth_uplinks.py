"""A limit on several uplinks: what goes past it on one of them, beside much that is held on another."""

from __future__ import annotations

import contextlib
import pathlib
import time

import pytest

from bandwidth_lab import Host, Network, TcpFlow, UdpFlow, WireMeter, star
from bandwidth_lab.ebpf_datapath import POD_PORT
from bandwidth_lab.node import Node
from kernel.behaviour import holding
from kernel.behaviour.past_limits import FOUND_SECONDS, bypassed_node, found

pytestmark = pytest.mark.root

RATE, SMALL = 60_000_000, 2_000_000
INTERFACES = ("--interface", "eth0", "--interface", "eth1")
WAYS = [("--placement", "ifb"), ("--placement", "interface"), ("--placement", "ifb", "--classifier", "priority")]
LOOKS_SECONDS = 7.0  # several looks


def by_second_uplink(network: Network, client: Host, gateway: str = "198.51.100.5") -> None:
    """What the server sends to this client leaves by eth1."""
    network.server.namespace.ip(f"route add {client.address4}/32 via {gateway} dev eth1")


@pytest.mark.parametrize("options", WAYS, ids=" ".join)
@pytest.mark.parametrize("leaves_by", ["eth0", "eth1"])
def test_a_small_bypass_on_one_is_found_beside_a_large_flow_on_the_other(
    tmp_path: pathlib.Path, options: tuple[str, ...], leaves_by: str
) -> None:
    """A thirtieth of what is held, of the same class; the message names the uplink."""
    how = {"clients": 2, "uplinks": 2, "leaves_by": leaves_by, "ends_walk": False}
    with bypassed_node(tmp_path, *INTERFACES, *options, **how) as (made, node):
        small, large = made.clients
        if leaves_by == "eth0":
            by_second_uplink(made.network, large)
        node.limit("slow", [small.address4, large.address4], "60Mbit")
        node.start()
        node.until_rate(small.address4, RATE)
        with TcpFlow(made.network.server, large), WireMeter(large) as meter:
            holding.assert_held(meter, RATE)
            assert not node.alarms()
            dial = made.dial(4)
            with UdpFlow(made.pod, small, rate_bits_per_second=SMALL, port=POD_PORT, dial=dial):
                node.until(lambda: found(node), FOUND_SECONDS)
        assert f"seen to leave by {leaves_by}" in node.alarms()[0]
        assert node.stop() == 0


@pytest.mark.parametrize("options", WAYS, ids=" ".join)
def test_what_is_held_on_both_or_on_one_is_no_bypass(tmp_path: pathlib.Path, options: tuple[str, ...]) -> None:
    """One of them idle, one of them busy, both; with large and small packets."""
    with star(clients=3, uplinks=2, prefix="kb-") as network:
        node = Node(network.server.namespace, tmp_path, *INTERFACES, *options)
        first, second, third = network.clients
        by_second_uplink(network, second)
        node.limit("slow", [client.address4 for client in (first, second)], "20Mbit")
        node.limit("other", [third.address4], "1Mbit")
        node.start()
        node.until_rate(first.address4, 20_000_000)
        for clients in ((first,), (second,), (first, second)):
            with contextlib.ExitStack() as stack:
                for client in clients:
                    stack.enter_context(TcpFlow(network.server, client))
                    flow = UdpFlow(network.server, client, rate_bits_per_second=3e6, payload_bytes=80)
                    stack.enter_context(flow)
                stack.enter_context(UdpFlow(network.server, third, rate_bits_per_second=3e6, payload_bytes=80))
                time.sleep(LOOKS_SECONDS)
        assert not node.alarms()
        assert node.stop() == 0


@pytest.mark.parametrize("options", WAYS[:2], ids=" ".join)
def test_many_connections_spread_over_both_are_held(tmp_path: pathlib.Path, options: tuple[str, ...]) -> None:
    """Equal cost: each connection goes by one of them, and which one changes now and then."""
    with star(clients=1, uplinks=2, prefix="kb-") as network:
        server, (client,) = network.server.namespace, network.clients
        server.sysctl({"ipv4.fib_multipath_hash_policy": 1})
        weights = ((1, 1), (200, 1), (1, 200))

        def spread(one: int, other: int) -> None:
            server.ip(
                f"route replace {client.address4}/32 nexthop via 192.0.2.1 dev eth0 weight {one}"
                f" nexthop via 198.51.100.5 dev eth1 weight {other}"
            )

        spread(1, 1)
        node = Node(server, tmp_path, *INTERFACES, *options)
        node.limit("slow", [client.address4], "20Mbit")
        node.start()
        node.until_rate(client.address4, 20_000_000)
        with contextlib.ExitStack() as stack:
            for _ in range(12):
                stack.enter_context(TcpFlow(network.server, client))
            for _ in range(12):
                flow = UdpFlow(network.server, client, rate_bits_per_second=300e3, payload_bytes=200)
                stack.enter_context(flow)
            for pair in weights * 2:
                spread(*pair)
                time.sleep(LOOKS_SECONDS / 3)
        assert not node.alarms()
        assert node.stop() == 0
