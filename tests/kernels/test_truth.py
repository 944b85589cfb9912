"""Agents are not deceived about their limits by what other kernels do to packets: netem, fair queues, VLANs."""

from __future__ import annotations

import time

import pytest

from bandwidth_lab import Network
from kernels.forked import ForkedNode
from kernels.limited_traffic import limited_traffic

pytestmark = [pytest.mark.root, pytest.mark.kernels]

LOOKS_SECONDS = 12.0  # some looks, on an emulated machine
ROOTS = (
    "netem delay 20ms 10ms reorder 25% 50%",
    "netem duplicate 60%",
    "netem loss 20%",
    "fq_codel",
    "cake bandwidth 20mbit",
)


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: " ".join(root.split()[:2]))
def test_what_a_queue_behind_the_limits_does_is_no_bypass(network: Network, node: ForkedNode, root: str) -> None:
    """It delays, reorders, repeats, loses and sorts what the limits let out."""
    node.namespace.tc(f"qdisc add dev eth0 root handle 1: {root}")
    node.options = ("--placement", "ifb")
    with limited_traffic(network, node):
        time.sleep(LOOKS_SECONDS)
        node.namespace.tc(f"qdisc change dev eth0 root handle 1: {root}")
        time.sleep(LOOKS_SECONDS / 2)
    assert node.stop() == 0
    assert not node.alarms()


def test_a_vlan_and_the_device_below_are_no_bypass(network: Network, node: ForkedNode) -> None:
    """Each packet leaves by both."""
    (client,) = network.clients
    for host, addresses in ((network.server.namespace, network.server), (client.namespace, client)):
        host.ip(
            "link add link eth0 name eth0.7 type vlan id 7",
            "address flush dev eth0 scope global",
            "link set eth0.7 up",
            f"address add {addresses.address4}/24 dev eth0.7",
            f"address add {addresses.address6}/64 dev eth0.7 nodad",
        )
    node.interface = "eth0.7"
    node.options = ("--interface", "eth0.7", "--interface", "eth0")
    with limited_traffic(network, node):
        time.sleep(LOOKS_SECONDS)
    assert node.stop() == 0
    assert not node.alarms()
