"""Our eBPF program on devices that stand on other devices: a packet is limited once, wherever programs are."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel.linux.bpf import probe
from bandwidth_lab import bpffs
from kernel.bpf import uplinks
from kernel.bpf.node import Node

pytestmark = [pytest.mark.root, pytest.mark.kernels]


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    with bpffs.mounted() as folder:
        yield folder


@pytest.fixture(params=[True, False])
def node(request: pytest.FixtureRequest, directory: pathlib.Path) -> Iterator[Node]:
    if request.param and not probe.has_tcx():
        pytest.skip("this kernel has no TCX")
    with uplinks.host() as host:
        made = Node(host, directory, tcx=request.param)
        yield made
        made.close()


@pytest.mark.parametrize("protocol", ["802.1Q", "802.1ad"])
def test_a_vlan(node: Node, protocol: str) -> None:
    """On the VLAN device, on the device below, and on both."""
    node.namespace.ip(f"link add link eth0 name eth0.5 type vlan proto {protocol} id 5", "link set eth0.5 up")
    uplinks.addressed(node.namespace, "eth0.5")
    for interfaces in (["eth0"], ["eth0", "eth0.5"]):
        uplinks.limited(node, interfaces)
        uplinks.assert_each_is_limited_once(node, "far-eth0")


def test_a_vlan_in_a_vlan(node: Node) -> None:
    """The inner tag may be in the frame by the time the packet comes to the program."""
    node.namespace.ip(
        "link add link eth0 name outer type vlan proto 802.1ad id 7",
        "link set outer up",
        "link add link outer name inner type vlan id 9",
        "link set inner up",
    )
    uplinks.addressed(node.namespace, "inner")
    for interfaces in (["eth0"], ["inner", "outer", "eth0"]):
        uplinks.limited(node, interfaces)
        uplinks.assert_each_is_limited_once(node, "far-eth0")


def test_a_bond(node: Node) -> None:
    """On the bond, and on its members too."""
    node.namespace.ip(
        "link add bond0 type bond mode active-backup",
        "link set eth0 down",
        "link set eth0 master bond0",
        "link set bond0 up",
    )
    uplinks.addressed(node.namespace, "bond0")
    for interfaces in (["bond0"], ["bond0", "eth0"]):
        uplinks.limited(node, interfaces)
        uplinks.assert_each_is_limited_once(node, "far-eth0")
