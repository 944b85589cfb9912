"""Egress interfaces that are several, come, go, change their names or their routes, and none at all."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator, Mapping

import pytest

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_lab import Network, TcpFlow, UdpFlow, WireMeter, star
from bandwidth_lab.node import Node
from bandwidth_lab.topology import GATEWAY4, GATEWAY6, SERVER4, SERVER6
from kernel.behaviour import holding

pytestmark = pytest.mark.root

RATE = 4_000_000
ROUTES = (
    f"route replace default via {GATEWAY4} dev eth0 metric 100",
    f"-6 route replace default via {GATEWAY6} dev eth0 metric 100",
)


@pytest.fixture
def network() -> Iterator[Network]:
    with star(clients=1, prefix="kz-") as made:
        yield made


def slow(node: Node) -> None:
    node.limit("slow", ["203.0.113.10", "2001:db8:0:2::10"], "4Mbit")


def running(node: Node, *options: str) -> None:
    """An agent that holds the client to 4 Mbit; it reads back because of events, hardly ever by the clock."""
    slow(node)
    node.start("--resync", "600", "--log-format", "json", *options)
    node.until(lambda: '"in_force": 1' in node.log.read_text())


def assert_no_conflict(node: Node) -> None:
    assert "ConflictingWriter" not in node.log.read_text()


def second_uplink(node: Node, router: Network) -> None:
    """eth1 to the router, with the default routes of a second choice, as `star` makes it; what was there goes."""
    node.namespace.run(["ip", "link", "del", "eth1"], check=False)
    router.lab.link(node.namespace, "eth1", router.router or node.namespace, "uplink1")
    node.namespace.ip(
        "address add 198.51.100.6/30 dev eth1",
        "address add 2001:db8:1:1::10/64 dev eth1 nodad",
        "route add default via 198.51.100.5 dev eth1 metric 101",
        "route add default via 2001:db8:1:1::1 dev eth1 metric 101",
    )


def test_one_client_over_two_uplinks_has_one_rate(tmp_path: pathlib.Path) -> None:
    """IPv4 by one uplink and IPv6 by the other share the one class of their limit."""
    with star(clients=1, uplinks=2, prefix="kz-") as network:
        client = network.clients[0]
        node = Node(network.server.namespace, tmp_path)
        slow(node)
        report = node.once()
        assert [(i["name"], i["placement"]) for i in report["interfaces"]] == [("eth0", "ifb"), ("eth1", "ifb")]
        node.namespace.ip(f"-6 route add {client.address6}/128 via 2001:db8:1:1::1 dev eth1")
        state = node.kernel()
        assert set(state.hooks) == {"eth0", "eth1"}
        assert len(state.trees) == 1
        flows = [TcpFlow(network.server, client, family=family, congestion="cubic") for family in (4, 6)]
        with flows[0], flows[1], WireMeter(client) as meter:
            holding.assert_held(meter, RATE)
            four, six = flows[0].received_bytes, flows[1].received_bytes
            node.until(lambda: flows[0].received_bytes > four and flows[1].received_bytes > six)
        node.cleanup()


def test_interfaces_by_name(tmp_path: pathlib.Path) -> None:
    """Globs choose, whatever holds a default route; a change of them moves the limits at once, and nothing is left."""
    with star(clients=1, uplinks=3, prefix="kz-") as network:
        node = Node(network.server.namespace, tmp_path)
        before = node.snapshot()
        slow(node)
        for globs, chosen in (
            (("eth1",), ["eth1"]),
            (("eth[02]",), ["eth0", "eth2"]),
            (("eth2", "e*1", "nothing"), ["eth1", "eth2"]),
            (("*",), ["eth0", "eth1", "eth2"]),
        ):
            node.options = tuple(word for glob in globs for word in ("--interface", glob))
            report = node.once(check=False)
            assert [i["name"] for i in report["interfaces"]] == chosen
            assert [f["reason"] for f in report["failing"]] == ([] if "eth0" in chosen else ["NotOnTheWay"])
            assert sorted(node.kernel().hooks) == chosen
            for name in ("eth0", "eth1", "eth2"):
                assert node.rate_of("203.0.113.10", interface=name) == (RATE if name in chosen else None)
        node.cleanup()
        assert node.snapshot() == before


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_an_uplink_comes_and_goes(network: Network, node: Node, placement: str) -> None:
    """A new uplink limits within moments; one that is deleted takes nothing along; a stubborn writer it never is."""
    assert network.router is not None
    running(node, "--placement", placement)
    for _ in range(6):
        second_uplink(node, network)
        node.until(lambda: node.rate_of("203.0.113.10", interface="eth1") == RATE)
    node.namespace.ip("link del eth1")
    node.until(lambda: "eth1" not in {*node.kernel().hooks, *node.kernel().trees})
    second_uplink(node, network)
    node.until(lambda: node.rate_of("203.0.113.10", interface="eth1") == RATE)
    assert node.rate_of("203.0.113.10") == RATE
    assert_no_conflict(node)
    assert node.stop() == 0


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_the_only_uplink_is_made_anew(network: Network, node: Node, placement: str) -> None:
    """Deleted and made again in one breath, many times, it has its limit within moments, each time."""
    assert network.router is not None
    running(node, "--placement", placement)
    for _ in range(6):
        node.namespace.ip("link del eth0")
        network.lab.link(node.namespace, "eth0", network.router, "uplink0")
        network.router.ip(f"address add {GATEWAY4}/24 dev uplink0", f"address add {GATEWAY6}/64 dev uplink0 nodad")
        node.namespace.ip(f"address add {SERVER4}/24 dev eth0", f"address add {SERVER6}/64 dev eth0 nodad", *ROUTES)
        node.until_rate("203.0.113.10", RATE)
    holding.assert_client_held(network.server, network.clients[0], RATE)
    assert_no_conflict(node)
    assert node.stop() == 0


def test_an_interface_named_by_glob_comes_late(node: Node) -> None:
    """Before there is one, the limit fails with a reason; it is in force as soon as its client is reached by it."""
    slow(node)
    node.start("--resync", "600", "--log-format", "json", "--interface", "wg*")
    node.until(lambda: "NoEgressInterface" in node.log.read_text())
    node.namespace.ip("link add wg0 type veth peer name wg-far", "link set wg0 up", "link set wg-far up")
    node.until(lambda: node.rate_of("203.0.113.10", interface="wg0") == RATE)
    node.until(lambda: "NotOnTheWay" in node.log.read_text())
    node.namespace.ip("route add 203.0.113.10 dev wg0", "-6 route add 2001:db8:0:2::10 dev wg0")
    node.until(lambda: "no longer failing" in node.log.read_text())
    node.namespace.ip("link del wg0")
    node.until(lambda: node.log.read_text().count("NoEgressInterface") == 2)
    assert node.stop() == 0


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_a_renamed_interface(network: Network, node: Node, placement: str) -> None:
    """An uplink that gets another name keeps its limit all the way, and `cleanup` finds ours under that name."""
    before = node.snapshot()
    running(node, "--placement", placement)
    with TcpFlow(network.server, network.clients[0], congestion="cubic"), WireMeter(network.clients[0]) as meter:
        meter.measure(1.0)
        since = time.monotonic()
        rename = "ip link set eth0 name wan0"
        down = f"ip link set eth0 down && {rename} && ip link set wan0 up"  # where the kernel does not rename it live
        routes = " && ".join(f"ip {route}" for route in ROUTES).replace("eth0", "wan0")
        again = f"ip address add {SERVER6}/64 dev wan0 nodad"
        node.namespace.run(["sh", "-c", f"{rename} 2>/dev/null || {{ {down} && {again} && {routes} ; }}"])
        node.until(lambda: node.rate_of("203.0.113.10", interface="wan0") == RATE)
        node.until(lambda: "eth0" not in {*node.kernel().hooks, *node.kernel().trees})
        meter.measure(2.0)
    assert max(rate for at, rate in meter.series(window=10) if at > since + 1.0) < RATE * 1.2
    assert_no_conflict(node)
    assert node.stop() == 0
    node.cleanup()
    node.namespace.run(["sh", "-c", f"{rename} 2>/dev/null || true".replace("eth0 name wan0", "wan0 name eth0")])
    assert node.snapshot()["tc qdisc show"] == before["tc qdisc show"]
    assert node.snapshot()["nft list ruleset"] == before["nft list ruleset"]


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_link_down_and_up(network: Network, node: Node, placement: str) -> None:
    """A link that goes down and up takes its routes along, but not the limit: when it is back, no second is faster."""
    client = network.clients[0]
    running(node, "--placement", placement)
    with UdpFlow(network.server, client, rate_bits_per_second=40_000_000), WireMeter(client, transport="udp") as meter:
        meter.measure(1.0)
        since = time.monotonic()
        for _ in range(4):
            node.namespace.ip("link set eth0 down")
            meter.measure(0.4)
            node.namespace.ip("link set eth0 up", f"address replace {SERVER6}/64 dev eth0 nodad", *ROUTES)
            meter.measure(0.6)
        meter.measure(1.0)
    assert max(rate for at, rate in meter.series(window=10) if at > since) < RATE * 1.2
    node.until_rate("203.0.113.10", RATE)
    holding.assert_client_held(network.server, client, RATE)
    assert_no_conflict(node)
    assert node.stop() == 0


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_default_routes_flap(network: Network, node: Node, placement: str) -> None:
    """Routes that go and come back within a second, as leases are renewed, never make a limited client fast."""
    client = network.clients[0]
    running(node, "--placement", placement)
    # This client is reached all the time, whatever becomes of the default route.
    node.namespace.ip(f"route add 203.0.113.0/24 via {GATEWAY4} dev eth0")
    with TcpFlow(network.server, client, congestion="cubic"), WireMeter(client) as meter:
        meter.measure(1.0)
        since = time.monotonic()
        for pause in (0.0, 0.3, 0.9):
            node.namespace.ip("route del default", "-6 route del default")
            meter.measure(pause)
            assert node.rate_of("203.0.113.10") == RATE
            node.namespace.ip(*ROUTES)
            meter.measure(0.7)
            assert node.rate_of("203.0.113.10") == RATE
    assert max(rate for at, rate in meter.series(window=10) if at > since) < RATE * 1.2
    assert_no_conflict(node)
    assert node.stop() == 0


@pytest.mark.parametrize("gone", [4, 6])
def test_default_route_of_one_family(network: Network, node: Node, gone: int) -> None:
    """One default route of either family makes an interface an uplink, for both families."""
    node.namespace.ip(f"-{gone} route del default")
    slow(node)
    (interface,) = node.once()["interfaces"]
    assert interface["name"] == "eth0"
    assert node.rate_of("203.0.113.10") == node.rate_of("2001:db8:0:2::10") == RATE
    holding.assert_client_held(network.server, network.clients[0], RATE, family=10 - gone)


def test_each_family_has_its_uplink(tmp_path: pathlib.Path) -> None:
    """With IPv4 by one interface and IPv6 by another, both are shaped; routes by several next hops count too."""
    with star(clients=1, uplinks=3, prefix="kz-") as network:
        node = Node(network.server.namespace, tmp_path)
        for number in range(3):
            node.namespace.ip(
                f"-4 route del default metric {100 + number}", f"-6 route del default metric {100 + number}"
            )
        slow(node)
        node.namespace.ip("route add default dev eth0", "-6 route add default via 2001:db8:1:2::1 dev eth2")
        assert [i["name"] for i in node.once()["interfaces"]] == ["eth0", "eth2"]
        node.namespace.ip(
            f"route replace default nexthop via {GATEWAY4} dev eth0 nexthop via 198.51.100.5 dev eth1",
            "-6 route del default",
        )
        assert [i["name"] for i in node.once()["interfaces"]] == ["eth0", "eth1"]
        assert sorted(node.kernel().hooks) == ["eth0", "eth1"]


def test_no_uplink_at_all(node: Node) -> None:
    """Without any default route the report says so, and how to name an interface; nothing is installed."""
    node.namespace.ip("-4 route del default", "-6 route del default")
    before = node.snapshot()
    slow(node)
    report = node.once(check=False)
    (failing,) = report["failing"]
    assert (failing["name"], failing["reason"]) == ("slow", "NoEgressInterface")
    assert "default route" in failing["message"]
    assert "--interface" in failing["message"]
    assert report["limits"] == {"desired": 1, "programmed": 0, "failed": 1}
    assert report["interfaces"] == []
    assert node.snapshot() == before
    node.start("--resync", "600", "--log-format", "json")
    node.until(lambda: "NoEgressInterface" in node.log.read_text())
    node.namespace.ip(ROUTES[1].replace("-6 ", "", 1))
    node.until_rate("203.0.113.10", RATE)
    node.until(lambda: "no longer failing" in node.log.read_text())
    assert node.stop() == 0


@pytest.mark.parametrize("kind", ["ifb", "veth peer name stranger"])
def test_a_strangers_link_with_our_name(network: Network, node: Node, kind: str) -> None:
    """Another program's link named cbl0 stays as it is; limits hold by another ifb, or say what is in their way."""
    node.namespace.ip(f"link add cbl0 type {kind}", "link set cbl0 mtu 1400")
    before = node.snapshot()
    slow(node)
    node.options = ("--classifier", "mark")
    node.once()
    assert set(node.kernel().ifbs) == {1}
    holding.assert_client_held(network.server, network.clients[0], RATE)
    assert node.once()["changes"] == 0
    node.cleanup()
    assert node.snapshot() == before
    node.options = ("--classifier", "priority", "--placement", "ifb")  # has one ifb only
    report = node.once(check=False)
    assert [f["name"] for f in report["failing"]] == ["slow"]
    assert "cbl0" in report["failing"][0]["message"]
    assert node.rate_of("203.0.113.10") is None
    node.cleanup()
    assert node.snapshot() == before
    node.options = ("--classifier", "priority", "--placement", "interface")
    node.once()
    assert node.rate_of("203.0.113.10") == RATE
    node.cleanup()
    assert node.snapshot() == before


def test_a_strangers_link_takes_our_name_later(node: Node) -> None:
    """Where another program puts a link of its own in place of our cbl0, the limit moves, and that link stays."""
    running(node)
    with node.suspended():  # or it may be faster with its repair than the stranger with the next step
        node.namespace.ip("link del cbl0", "link add cbl0 type veth peer name stranger")
    node.until(lambda: node.rate_of("203.0.113.10") == RATE and set(node.kernel().ifbs) != {0})
    assert "veth" in node.namespace.run(["ip", "-d", "link", "show", "cbl0"]).stdout
    assert node.stop() == 0


def test_a_hook_deleted_a_moment_ago_is_not_waited_for(node: Node) -> None:
    """Where a clsact qdisc was, the kernel says nothing at all; a reading ends at once all the same."""
    node.namespace.tc("qdisc add dev eth0 clsact", "qdisc del dev eth0 clsact")

    def read() -> Mapping[str, model.HookCounters]:
        control = tc.TrafficControl()
        try:
            return control.hook_counters(["eth0"])
        finally:
            control.close()

    started = time.monotonic()
    assert node.namespace.call(read) == {}
    assert time.monotonic() - started < 25.0  # 30 s is how long an answer that does not come is waited for


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_large_frames(tmp_path: pathlib.Path, placement: str) -> None:
    """With an MTU of 9000, from the start or by a change while the agent runs, the rate on the wire is the limit's."""
    with star(clients=1, mtu=9000, prefix="kz-") as network:
        client = network.clients[0]
        node = Node(network.server.namespace, tmp_path)
        node.namespace.ip("link set eth0 mtu 1500")
        running(node, "--placement", placement)
        holding.assert_client_held(network.server, client, RATE)
        tree = "cbl0" if placement == "ifb" else "eth0"
        small = node.kernel().trees[tree].classes
        node.namespace.ip("link set eth0 mtu 9000")
        node.until(lambda: node.kernel().trees[tree].classes != small)
        leaf = next(iter(node.kernel().trees[tree].classes.values())).leaf
        assert leaf is not None
        assert leaf.burst_bytes >= 9000
        assert node.stop() == 0
        holding.assert_client_held(network.server, client, RATE)
        holding.assert_client_held(network.server, client, RATE, family=6)


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_default_route_over_a_bridge(network: Network, node: Node, placement: str) -> None:
    """A host whose uplink is a port of a bridge, as hosts of virtual machines have it, is limited on the bridge."""
    node.namespace.ip(
        "link add name br0 type bridge",
        "link set br0 up",
        "link set eth0 master br0",
        f"address del {SERVER4}/24 dev eth0",
        f"address del {SERVER6}/64 dev eth0",
        f"address add {SERVER4}/24 dev br0",
        f"address add {SERVER6}/64 dev br0 nodad",
        *(route.replace("eth0", "br0") for route in ROUTES),
    )
    before = node.snapshot()
    slow(node)
    node.options = ("--placement", placement)
    assert [i["name"] for i in node.once()["interfaces"]] == ["br0"]
    holding.assert_client_held(network.server, network.clients[0], RATE)
    node.cleanup()
    assert node.snapshot() == before


def test_a_bridge_and_its_port_both_named(network: Network, node: Node) -> None:
    """A packet that leaves by the bridge and then by its port counts once: the client has its rate, not half of it."""
    node.namespace.ip(
        "link add name br0 type bridge",
        "link set br0 up",
        "link set eth0 master br0",
        f"address del {SERVER4}/24 dev eth0",
        f"address add {SERVER4}/24 dev br0",
        *(route.replace("eth0", "br0") for route in ROUTES if "2001" not in route),
    )
    node.options = ("--interface", "*", "--placement", "ifb")
    slow(node)
    report = node.once(check=False)
    assert [i["name"] for i in report["interfaces"]] == ["br0"]
    (failing,) = report["failing"]  # its IPv6 goes on leaving by the port itself, past the bridge
    assert "packets to 2001:db8:0:2::10 leave by eth0" in failing["message"]
    holding.assert_client_held(network.server, network.clients[0], RATE)


def test_two_uplinks_on_one_device(network: Network, node: Node) -> None:
    """Where a macvlan and the device below it both hold a default route, the client has its rate by either."""
    node.namespace.ip(
        "link add mv0 link eth0 type macvlan mode bridge",
        "link set mv0 up",
        "address add 192.0.2.11/24 dev mv0",
        "route add default via 192.0.2.1 dev mv0 metric 50",
    )
    node.options = ("--placement", "ifb")
    slow(node)
    assert [i["name"] for i in node.once()["interfaces"]] == ["eth0"]
    holding.assert_client_held(network.server, network.clients[0], RATE)
    node.namespace.ip("route del default dev mv0")
    holding.assert_client_held(network.server, network.clients[0], RATE)


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_forwarded_traffic(network: Network, tmp_path: pathlib.Path, placement: str) -> None:
    """On a router, what it forwards to a limited client through a named interface is slowed like its own."""
    assert network.router is not None
    node = Node(network.router, tmp_path, "--interface", "clients", "--placement", placement)
    slow(node)
    assert [i["name"] for i in node.once()["interfaces"]] == ["clients"]
    holding.assert_client_held(network.server, network.clients[0], RATE)
    holding.assert_client_held(network.server, network.clients[0], RATE, family=6)
