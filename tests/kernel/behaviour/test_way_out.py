"""Clients that are reached by an interface on which nothing is shaped: the report says so, and what to name."""

from __future__ import annotations

import contextlib
import pathlib
import socket
from collections.abc import Iterator, Sequence

import pytest

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.rtnl.routing import route_lookup, routes
from bandwidth_api.plan import Prefix
from bandwidth_lab import Network, star
from bandwidth_lab.node import Node
from bandwidth_lab.topology import GATEWAY4
from kernel.behaviour import holding

pytestmark = pytest.mark.root

RATE = 4_000_000
VIA1 = "198.51.100.5"  # the router behind eth1


@pytest.fixture
def network() -> Iterator[Network]:
    with star(clients=1, uplinks=2, prefix="kw-") as made:
        yield made


@pytest.fixture
def node(network: Network, tmp_path: pathlib.Path) -> Node:
    """A host whose default routes lead by eth0; eth1 is there and up."""
    made = Node(network.server.namespace, tmp_path)
    for family in (4, 6):
        made.namespace.ip(f"-{family} route del default metric 101")
    return made


def failing(node: Node, *clients: str, more: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """The reasons and messages for one limit of these clients."""
    node.limit("mail", clients, "4Mbit")
    return [(each["reason"], each["message"]) for each in node.once(*more, check=False)["failing"]]


def test_a_client_behind_a_second_interface(network: Network, node: Node) -> None:
    """Its limit is not in force, whatever stands in the kernel, until the interface is named; then it holds."""
    client = network.clients[0]
    assert failing(node, client.address4) == []
    node.namespace.ip(f"route add {client.address4} via {VIA1} dev eth1")
    ((reason, message),) = failing(node, client.address4)
    assert reason == "NotOnTheWay"
    assert f"packets to {client.address4} leave by eth1" in message
    assert message.endswith("--interface eth0 --interface eth1")
    assert node.show()["warnings"] == [f"mail: {message}"]
    assert failing(node, client.address4, more=("--interface", "eth0", "--interface", "eth1")) == []
    holding.assert_client_held(network.server, client, RATE)


@pytest.mark.parametrize(
    "commands",
    [
        ("link add br9 type bridge", "link set br9 up", "address add 10.50.0.1/24 dev br9"),
        ("tuntap add br9 mode tun", "link set br9 up", "route add 10.50.0.0/24 dev br9"),
        ("address add 10.50.0.1/24 dev eth1", "link set eth1 name br9", "link set br9 up"),
        (f"nexthop add id 5 via {VIA1} dev eth1", "route add 10.50.0.0/24 nhid 5"),
        (f"route add 10.0.0.0/8 via {VIA1} dev eth1 table 77", "rule add to 10.50.0.0/16 lookup 77"),
        (f"route add 10.0.0.0/8 via {VIA1} dev eth1 table 77", "rule add from 192.0.2.0/24 lookup 77"),
        (f"route add default via {VIA1} dev eth1 table 77", "rule add from all lookup 77 priority 500"),
    ],
    ids=["bridge", "tun", "own", "object", "rule-to", "rule-from", "rule-all"],
)
def test_each_kind_of_way(node: Node, commands: tuple[str, ...]) -> None:
    """A bridged guest, a VPN, a network of one's own, next hop objects, and tables that a rule leads to."""
    node.namespace.run(["sysctl", "-qw", "net.ipv4.nexthop_compat_mode=0"])
    if "name br9" in commands[1]:
        node.namespace.ip("link set eth1 down")
    node.namespace.ip(*commands)
    ((reason, message),) = failing(node, "10.50.0.2")
    assert reason == "NotOnTheWay"
    assert "leave by br9" in message or "leave by eth1" in message
    others = failing(node, "172.16.0.1", "203.0.113.10")
    assert [reason for reason, _ in others] == (["NotOnTheWay"] if "all" in commands[-1] else [])


@pytest.mark.parametrize("picked", ["fwmark 1", "uidrange 1000-1000", "ipproto tcp dport 25", "tos 0x10"])
def test_a_table_for_packets_that_bear_something_of_their_own(node: Node, picked: str) -> None:
    """Most packets to the client have no such mark, user or port and are limited; those that have it are a warning."""
    route = f"route add 10.50.0.0/16 via {VIA1} dev eth1 table 77"
    node.namespace.ip(route, f"rule add {picked} lookup 77")
    node.limit("mail", ["10.50.0.2"], "4Mbit")
    (warning,) = [each for each in node.once()["warnings"] if "not shaped" in each]
    assert "some packets to 10.50.0.2 leave by eth1 (routing table 77)" in warning
    node.namespace.ip("rule add not fwmark 2 lookup 77")
    assert [reason for reason, _ in failing(node, "10.50.0.2")] == ["NotOnTheWay"]


def test_an_ipv6_client_behind_a_second_interface(node: Node) -> None:
    """Either family is asked for."""
    node.namespace.ip("-6 address add fd50::1/64 dev eth1 nodad")
    ((reason, message),) = failing(node, "fd50::2")
    assert reason == "NotOnTheWay"
    assert "packets to fd50::2 leave by eth1" in message


def test_a_network_of_which_a_part_leaves_elsewhere(node: Node) -> None:
    """It is in force, because most of it is; the part is a warning. Where all of its parts do, it is not."""
    node.namespace.ip("route add 198.18.50.0/24 dev eth1")
    node.limit("mail", ["198.18.0.0/16"], "4Mbit")
    report = node.once()
    (warning,) = [each for each in report["warnings"] if "not shaped" in each]
    assert "packets to 198.18.50.0/24 of 198.18.0.0/16 leave by eth1" in warning
    node.namespace.ip("route add 198.18.0.0/17 dev eth1", "route add 198.18.128.0/17 dev eth1")
    ((reason, _),) = failing(node, "198.18.0.0/16")
    assert reason == "NotOnTheWay"


@pytest.mark.parametrize(
    ("dead", "client", "part"),
    [
        ("route add blackhole 10.50.0.0/26", "10.50.0.0/16", "10.50.9.7/32"),
        ("address add 10.50.0.1/32 dev lo", "10.50.0.0/16", "10.50.9.0/24"),
        ("-6 address add fd50::1/128 dev lo", "fd50::/32", "fd50:0:9::/64"),
    ],
    ids=["block", "own4", "own6"],
)
def test_an_address_that_no_packet_leaves_to_does_not_stand_for_its_network(
    node: Node, dead: str, client: str, part: str
) -> None:
    """Though a network begins with an address of this node, or a block that is dropped, most of it is limited."""
    family = 6 if ":" in client else 4
    own = ("10.50.0.1/32", "fd50::1/128")[family == 6]
    node.namespace.ip(dead, f"-{family} route add {part} dev eth1")
    node.limit("mail", [client], "4Mbit", **{"except": [own]})
    report = node.once()
    (warning,) = [each for each in report["warnings"] if "not shaped" in each]
    assert f"packets to {part.removesuffix('/32')} of {client} leave by eth1" in warning


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
def test_what_no_packet_reaches_is_not_too_fast(node: Node, kind: str) -> None:
    """A client to whom no packet leaves is no reason to call a limit failing; nor is a family without any route."""
    node.namespace.ip(f"route add {kind} 10.50.0.0/24", "-6 route del default")
    assert failing(node, "10.50.0.2", "2001:db8:99::1", "203.0.113.10") == []


def test_routes_that_change_while_the_agent_runs(node: Node) -> None:
    """Within moments the report is another, both ways, though no route that changed is a default route."""
    node.limit("mail", ["203.0.113.10"], "4Mbit")
    node.limit("other", ["203.0.113.99"], "4Mbit")
    node.start("--resync", "600", "--log-format", "json")
    node.until_rate("203.0.113.99", RATE)
    for count in (1, 2):
        node.namespace.ip(f"route add 203.0.113.10 via {VIA1} dev eth1")
        node.until(lambda count=count: node.log.read_text().count("NotOnTheWay") == count)  # type: ignore[misc]
        node.namespace.ip("route del 203.0.113.10")
        node.until(lambda count=count: node.log.read_text().count("no longer failing") == count)  # type: ignore[misc]
    assert '"other"' not in node.log.read_text()
    node.namespace.ip("rule add to 203.0.113.10 lookup 77", f"route add default via {VIA1} dev eth1 table 77")
    node.until(lambda: node.log.read_text().count("NotOnTheWay") == 3)
    assert node.rate_of("203.0.113.10") == RATE
    assert node.stop() == 0


def test_a_tunnel_of_the_kernel_carries_the_mark_along(network: Network, node: Node) -> None:
    """A client inside of it is slowed where the packet around its packets leaves, and its limit is in force."""
    node.namespace.ip(
        f"link add vx0 type vxlan id 7 remote {GATEWAY4} dstport 4789 dev eth0",
        "link set vx0 up",
        "address add 10.77.0.1/24 dev vx0",
        "neigh add 10.77.0.2 lladdr 02:00:00:00:00:07 dev vx0",
    )
    assert failing(node, "10.77.0.2") == []
    with node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(50):
            sender.sendto(b"x" * 500, ("10.77.0.2", 9))
    (limit,) = node.show()["limits"]
    assert limit["packets"] >= 25  # the first may wait for the gateway's address, and be dropped


@pytest.mark.parametrize("rule", ["", "rule add to 10.50.0.0/16 lookup 77"], ids=["usual-rules", "a-rule"])
def test_clients_between_the_same_routes_are_asked_for_once(
    node: Node, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    """Many clients have the answers that each has alone, for a few questions; with rules of its own, each is asked."""
    node.namespace.ip(
        "route add 10.50.0.0/24 dev eth1",
        f"route add 10.50.0.128/26 via {VIA1} dev eth1",
        "route add 10.50.0.130/32 dev eth0",
        "route add blackhole 10.50.1.0/25",
        f"route add 10.50.2.0/24 via {VIA1} dev eth1 table 77",
        "address add 10.50.3.1/30 dev eth1",
        "-6 route add fd50::/64 dev eth1",
        *([rule] if rule else []),
    )
    clients = [Prefix(4, (10 << 24) + (50 << 16) + number, 32) for number in range(0, 1024, 3)]
    clients += [Prefix(6, (0xFD50 << 112) + (number << 60), 128) for number in range(40)]
    asked: list[int] = []
    look_up = routes.look_up

    def counted(channel: netlink.Socket, addresses: Sequence[Prefix]) -> list[routes.Route | None]:
        asked.append(len(addresses))
        return look_up(channel, addresses)

    monkeypatch.setattr(routes, "look_up", counted)

    def answers() -> tuple[object, object]:
        with contextlib.closing(route_lookup.Ways()) as together, contextlib.closing(route_lookup.Ways()) as alone:
            return together.ask(clients).of, {c: alone.ask([c]).of.get(c) for c in clients}

    together, alone = node.namespace.call(answers)
    assert together == alone
    if rule:
        assert asked[0] > 1024 // 3
    else:
        assert asked[0] < 40
