"""Beside other shapers: scripts that want an ingress qdisc, before us, after us, and instead of us."""

from __future__ import annotations

import pytest

from bandwidth_lab import Network
from bandwidth_lab.node import Node
from kernel.behaviour import holding

pytestmark = pytest.mark.root

RATE = 4_000_000

# As wondershaper, SQM and their like begin: an ingress qdisc is cleared and made, and what arrives is led elsewhere.
SHAPER = """
tc qdisc del dev eth0 ingress 2>/dev/null
tc qdisc add dev eth0 handle ffff: ingress &&
tc filter add dev eth0 parent ffff: protocol ip u32 match ip src 0.0.0.0/0 action mirred egress redirect dev sink
"""
MAKE_ROOM = "tc qdisc del dev eth0 clsact;"


def placement(node: Node) -> str:
    return str(node.once()["interfaces"][0]["placement"])


@pytest.fixture
def limited(network: Network, node: Node) -> Node:
    """A host with a limit, and a device to which the other shaper redirects."""
    node.namespace.ip("link add sink type veth peer name sinks", "link set sink up")
    node.limit("slow", [network.clients[0].address4], "4Mbit")
    return node


def test_a_shaper_that_was_there_before(network: Network, limited: Node) -> None:
    """With an ingress qdisc in the place of clsact limits are at the root; once it is gone, through an ifb."""
    limited.namespace.tc("qdisc add dev eth0 handle ffff: ingress")
    assert placement(limited) == "interface"
    holding.assert_client_held(network.server, network.clients[0], RATE)
    limited.namespace.tc("qdisc del dev eth0 ingress")
    assert placement(limited) == "ifb"
    holding.assert_client_held(network.server, network.clients[0], RATE)


def test_a_shaper_that_starts_while_we_run(network: Network, limited: Node) -> None:
    """It fails at our clsact; once that is deleted it succeeds, however fast we hear of it, and the limit holds on."""
    limited.start("--resync", "600")
    limited.until(lambda: "eth0" in limited.kernel().hooks)
    assert limited.namespace.run(["sh", "-c", SHAPER], check=False).returncode != 0
    for _ in range(3):
        done = limited.namespace.run(["sh", "-c", MAKE_ROOM + SHAPER], check=False)
        assert done.returncode == 0, done.stderr
        limited.until(lambda: "eth0" in limited.kernel().trees and not limited.kernel().hooks)
        limited.namespace.tc("qdisc del dev eth0 ingress")
        limited.until(lambda: "eth0" in limited.kernel().hooks and "eth0" not in limited.kernel().trees)
    assert "ConflictingWriter" not in limited.log.read_text()
    holding.assert_client_held(network.server, network.clients[0], RATE)


def test_a_shaper_that_pauses_between_its_steps(network: Network, limited: Node) -> None:
    """Half a second between clearing the place and taking it is not too long."""
    limited.start("--resync", "600")
    limited.until(lambda: "eth0" in limited.kernel().hooks)
    slow = f"{MAKE_ROOM} sleep 0.5; {SHAPER}"
    assert limited.namespace.run(["sh", "-c", slow], check=False).returncode == 0
    limited.until(lambda: "eth0" in limited.kernel().trees)


def test_placement_interface_leaves_the_place_free(network: Network, limited: Node) -> None:
    """Where it is configured, another shaper finds no qdisc of ours in its way, whenever it starts."""
    limited.options = ("--placement", "interface")
    limited.once()
    limited.namespace.tc("qdisc add dev eth0 handle ffff: ingress")
    assert limited.once()["changes"] == 0
    limited.namespace.tc("qdisc del dev eth0 ingress")


def test_both_places_taken(network: Network, limited: Node) -> None:
    """With a root and an ingress qdisc of another program the limit fails, and the message names both and a way out."""
    limited.namespace.tc(
        "qdisc add dev eth0 root handle 1: tbf rate 200mbit burst 256k latency 50ms",
        "qdisc add dev eth0 handle ffff: ingress",
    )
    (failing,) = limited.once(check=False)["failing"]
    assert failing["reason"] == "ForeignQdisc"
    for words in ("ingress qdisc", "tbf 1:", "clsact"):
        assert words in failing["message"]
