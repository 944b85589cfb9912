"""Default routes whose ways out are objects of their own: `ip nexthop`, as routing daemons make them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_lab import Network, star
from bandwidth_lab.node import Node
from bandwidth_lab.topology import GATEWAY4, GATEWAY6
from kernel.behaviour import holding

pytestmark = pytest.mark.root

RATE = 4_000_000
CLIENT4, CLIENT6 = "203.0.113.10", "2001:db8:0:2::10"
VIA4, VIA6 = "198.51.100.5", "2001:db8:1:1::1"  # the router behind eth1


@pytest.fixture
def network() -> Iterator[Network]:
    with star(clients=1, uplinks=2, prefix="kn-") as made:
        yield made


@pytest.fixture
def node(network: Network, tmp_path: pathlib.Path) -> Node:
    """A host without default routes, on which a route says the number of its next hop and nothing else."""
    made = Node(network.server.namespace, tmp_path)
    made.namespace.run(["sysctl", "-qw", "net.ipv4.nexthop_compat_mode=0"])
    for family, metric in ((4, 100), (4, 101), (6, 100), (6, 101)):
        made.namespace.ip(f"-{family} route del default metric {metric}")
    made.limit("slow", [CLIENT4, CLIENT6], "4Mbit")
    return made


def shaped(node: Node) -> list[str]:
    return [interface["name"] for interface in node.once()["interfaces"]]


def test_an_uplink_by_a_next_hop_object_is_one(network: Network, node: Node) -> None:
    """The interface behind the number is shaped, of either family, and the client has its rate."""
    node.namespace.ip(f"nexthop add id 10 via {GATEWAY4} dev eth0", "route add default nhid 10")
    assert "dev" not in node.namespace.run(["ip", "-o", "route", "show", "default"]).stdout.split("\\")[0]
    assert shaped(node) == ["eth0"]
    holding.assert_client_held(network.server, network.clients[0], RATE)
    node.namespace.ip("route del default", f"nexthop add id 16 via {VIA6} dev eth1", "-6 route add default nhid 16")
    assert shaped(node) == ["eth1"]


def test_a_group_leads_by_each_of_its_members(node: Node) -> None:
    """A group, one family's way for the other's routes, and a way that drops: each interface that is named counts."""
    node.namespace.ip(
        f"nexthop add id 10 via {GATEWAY4} dev eth0",
        f"nexthop add id 11 via {VIA4} dev eth1",
        "nexthop add id 20 group 10/11,3",
        "route add default nhid 20",
    )
    assert shaped(node) == ["eth0", "eth1"]
    node.namespace.ip(
        "route del default",
        f"nexthop add id 12 via {VIA6} dev eth1",
        "route add default nhid 12 metric 5",
        "nexthop add id 13 blackhole",
        "route add default nhid 13 metric 6",
        f"-6 route add default via {GATEWAY6} dev eth0",
    )
    assert shaped(node) == ["eth0", "eth1"]


def test_a_next_hop_of_the_other_family_counts(node: Node) -> None:
    """An IPv4 route by an IPv6 gateway, and one that need not be on a link, lead where they say."""
    node.namespace.ip(f"-4 route add default via inet6 {VIA6} dev eth1 metric 3")
    assert shaped(node) == ["eth1"]
    node.namespace.ip("-4 route del default metric 3", "route add default via 192.0.2.99 dev eth0 onlink metric 3")
    assert shaped(node) == ["eth0"]


def test_a_next_hop_that_is_changed_takes_the_limit_along(node: Node) -> None:
    """An object that leads elsewhere from now on changes no route; its own event is enough."""
    node.namespace.ip(f"nexthop add id 10 via {GATEWAY4} dev eth0", "route add default nhid 10")
    node.start("--resync", "600", "--log-format", "json")
    node.until_rate(CLIENT4, RATE)
    node.namespace.ip(f"nexthop replace id 10 via {VIA4} dev eth1")
    node.until(lambda: node.rate_of(CLIENT4, interface="eth1") == RATE)
    assert "NoEgressInterface" not in node.log.read_text()
    assert node.stop() == 0
