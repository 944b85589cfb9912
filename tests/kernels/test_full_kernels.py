"""The paths taken only where the kernel has more than the least: fair queues, strangers' qdiscs, other links."""

from __future__ import annotations

import re

import pytest

from bandwidth_api import names
from bandwidth_lab import Host, Network, TcpFlow, WireMeter, ping
from kernel.behaviour import holding
from kernels import links
from kernels.forked import ForkedNode

pytestmark = [pytest.mark.root, pytest.mark.kernels]

RATE = 1_000_000
WINDOW_SECONDS = 1.5


def assert_held(network: Network, client: Host) -> None:
    """A TCP flow to this client arrives at the rate of its limit."""
    with TcpFlow(network.server, client, congestion="cubic"), WireMeter(client) as meter:
        holding.assert_held(meter, RATE, 4, window_seconds=WINDOW_SECONDS)


@pytest.mark.parametrize("placement", ["ifb", "interface"])
def test_a_ping_passes_by_the_flow_that_fills_its_limit(network: Network, node: ForkedNode, placement: str) -> None:
    """The leaf holds fq_codel, so a ping waits for single frames and not for the 100 ms of a full bfifo."""
    (client,) = network.clients
    node.options = ("--placement", placement)
    node.limit("slow", [client.address4], "1Mbit")
    report = node.once()
    assert "fq_codel" not in report["missingFeatures"]
    (tree,) = node.kernel().trees.values()
    leaves = [htb.leaf for htb in tree.classes.values() if htb.leaf is not None]
    assert [leaf.inner for leaf in leaves] == ["fq_codel"] * len(leaves)
    with TcpFlow(network.server, client, congestion="cubic"), WireMeter(client) as meter:
        holding.assert_held(meter, RATE, 4, window_seconds=WINDOW_SECONDS)
        answers = ping(client, network.server.address4, seconds=4, interval_seconds=0.2)
    # A full bfifo delays every echo; where the machine stood still for a moment, some are late whatever the queue is.
    assert len(answers.round_trips_ms) > answers.sent / 2
    assert sorted(answers.round_trips_ms)[answers.sent // 4] < 40
    assert node.once()["changes"] == 0


@pytest.mark.parametrize("root", ["cake", "fq_codel", "prio", "netem delay 5ms"])
def test_a_root_that_somebody_installed_stays(network: Network, node: ForkedNode, root: str) -> None:
    """Limits work beside it through an ifb; placement interface is refused with a reason; it is untouched."""
    (client,) = network.clients
    node.namespace.tc(f"qdisc add dev eth0 root handle 5: {root}")
    before = node.seen()
    node.limit("slow", [client.address4], "1Mbit")
    (interface,) = node.once()["interfaces"]
    assert (interface["placement"], interface["rootQdisc"]) == ("ifb", f"{root.split()[0]} 5:")
    assert_held(network, client)
    node.cleanup()
    assert node.seen() == before
    (interface,) = node.once("--placement", "interface", check=False)["interfaces"]
    assert (interface["placement"], interface["reason"]) == ("none", "ForeignQdisc")
    assert node.seen() == before


@pytest.mark.parametrize(("kind", "queues"), [("fq_codel", 1), ("mq", 2)])
def test_a_default_root_is_replaced_and_comes_back(node: ForkedNode, kind: str, queues: int) -> None:
    """HTB takes the place of a root that the kernel made, the others keep a fair queue, and the old root comes back."""
    node.namespace.ip(f"link add up0 numtxqueues {queues} type ifb", "link set up0 up", "link set eth0 down")
    before = node.seen()
    assert f"qdisc {kind} 0: dev up0 root" in before
    node.limit("slow", ["198.51.100.7"], "1Mbit")
    options = ("--placement", "interface", "--interface", "up0")
    assert [i["placement"] for i in node.once(*options)["interfaces"]] == ["interface"]
    tree = node.kernel().trees["up0"]
    assert tree.default_minor == names.DEFAULT_CLASS
    fair = tree.classes[names.DEFAULT_CLASS].leaf
    assert fair is not None
    assert fair.inner == "fq_codel"
    assert node.once(*options)["changes"] == 0
    node.cleanup()
    assert node.seen() == before


@pytest.mark.parametrize("match", ["flower dst_ip 198.51.100.9 ip_proto tcp", "fw"])
def test_a_filter_of_somebody_else_is_not_disturbed(network: Network, node: ForkedNode, match: str) -> None:
    """Where another program filters on the egress hook, `auto` places limits at the interface and leaves it alone."""
    (client,) = network.clients
    action = "classid 9:9" if match == "fw" else "action continue"
    node.namespace.tc(
        "qdisc add dev eth0 clsact", f"filter add dev eth0 egress protocol ip pref 7 handle 1 {match} {action}"
    )
    before = node.seen()
    node.limit("slow", [client.address4], "1Mbit")
    (interface,) = node.once()["interfaces"]
    assert (interface["placement"], interface["reason"]) == ("interface", "ForeignFilter")
    (filters,) = re.findall(r"filter protocol ip pref 7 .* handle", before)
    assert filters in node.seen()
    assert_held(network, client)
    node.cleanup()
    assert node.seen() == before


@pytest.mark.parametrize(
    ("kind", "shaped", "egress"),
    [("vlan", "up0", "up0"), ("bond", "up0", "up0"), ("vlan", "*0", "eth0"), ("bond", "*0", "up0")],
)
def test_a_limit_holds_on_other_kinds_of_interface(
    network: Network, node: ForkedNode, kind: str, shaped: str, egress: str
) -> None:
    """The interface with the default route may be a VLAN or a bond: the limit holds, and nothing stays.

    Where the device below is shaped too, one of the two is: a packet passes its class once.
    """
    network, client = links.behind(network, kind)
    before = node.seen()
    node.limit("slow", [client.address4], "1Mbit")
    report = node.once("--interface", shaped)
    assert [(i["name"], i["placement"]) for i in report["interfaces"]] == [(egress, "ifb")]
    assert_held(network, client)
    node.cleanup()
    assert node.seen() == before


def test_the_rules_work_in_the_legacy_tables(network: Network, node: ForkedNode) -> None:
    """With iptables-legacy the limit holds too, a second pass finds nothing to do, and nothing stays."""
    (client,) = network.clients
    before = node.seen()
    node.options = ("--iptables-backend", "legacy")
    node.limit("slow", [client.address4], "1Mbit")
    node.once()
    assert_held(network, client)
    assert node.once()["changes"] == 0
    node.cleanup()
    assert node.seen() == before
    assert names.CHAIN not in node.namespace.run(["iptables-legacy-save"]).stdout
