"""An API server that misbehaves towards real agents: cut, frozen and ended watches, refusals, lists that break off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bandwidth_lab.cluster_node import ClusterNode
from bandwidth_lab.control_plane import ControlPlane
from bandwidth_lab.fault_proxy import FaultProxy
from bandwidth_lab.fleet import Fleet, fleet
from cluster.world import LIMITS, World, limit

pytestmark = pytest.mark.root

WATCH = "bandwidthplanslices?"


@pytest.fixture
def network() -> Iterator[Fleet]:
    """One node and two clients."""
    with fleet(1, 2, prefix="ra-") as made:
        yield made


@pytest.fixture
def node(world: World, network: Fleet, proxy: FaultProxy) -> ClusterNode:
    """A node whose agent will go through the proxy."""
    made = world.real_node("node-0", network.nodes[0])
    made.follow(world.agent_kubeconfig("node-0", proxy.server))
    return made


def test_cut_and_expired_watches_lose_nothing(
    world: World, network: Fleet, proxy: FaultProxy, node: ClusterNode
) -> None:
    """Nothing is lost with half a line and nothing taken from it; after 410 what was deleted meanwhile is lifted."""
    one, other = (host.address4 for host in network.clients)
    node.start()
    world.operator()
    world.create(limit("a", [one]), limit("b", [other]))
    world.wait_ready("a", "b")
    for rate in range(6, 16):
        proxy.cut()
        world.edit("a", egress={"rate": f"{rate}Mbit"})
        node.kernel.until_rate(one, rate * 1_000_000)
    lists = proxy.count("GET", "bandwidthplanslices?")
    proxy.end()
    world.delete("b")
    node.kernel.until_rate(other, None)
    assert proxy.count("GET", "bandwidthplanslices?") > lists
    assert node.kernel.rate_of(one) == 15_000_000
    world.wait_ready("a")
    assert node.process.poll() is None


def test_refusals_and_a_list_that_breaks_off_are_waited_out(
    world: World, network: Fleet, proxy: FaultProxy, node: ClusterNode
) -> None:
    """429 and 503, on reads and on reports, are asked again later; of half a list nothing is lifted."""
    one, other = (host.address4 for host in network.clients)
    world.operator()
    names = [f"a-{n:03d}" for n in range(101)]
    addresses = [one, *(f"198.51.100.{n + 1}" for n in range(99)), other]
    world.create(*(limit(name, [address]) for name, address in zip(names, addresses, strict=True)))
    world.wait_ready(*names, reason="NoNodeSelected")
    proxy.refuse(429, "TooManyRequests", times=2, retry_after_seconds=1)
    proxy.refuse(503, "ServiceUnavailable", times=2)
    node.start()
    world.wait_ready(names[0], names[-1])
    assert (node.kernel.rate_of(one), node.kernel.rate_of(other)) == (5_000_000, 5_000_000)

    proxy.split(1)
    proxy.refuse(410, "Expired", lambda method, path: "continue=" in path, times=1)
    proxy.end()
    world.edit(names[0], egress={"rate": "6Mbit"})
    lifted = False

    def edited() -> bool:
        nonlocal lifted
        lifted = lifted or node.kernel.rate_of(other) is None
        return node.kernel.rate_of(one) == 6_000_000

    world.wait(edited, "the edit is on the node")
    assert not lifted
    assert proxy.count("GET", "continue=") >= 2

    proxy.refuse(429, "TooManyRequests", lambda method, path: method == "PATCH", times=2, retry_after_seconds=1)
    reports = proxy.count("PATCH")
    world.edit(names[0], egress={"rate": "7Mbit"})
    world.wait(lambda: world.in_force(names[0], 3), "the edit is reported")
    assert 3 <= proxy.count("PATCH") - reports <= 6


@pytest.mark.long
def test_frozen_watches_are_noticed(
    world: World, network: Fleet, proxy: FaultProxy, node: ClusterNode, plane: ControlPlane
) -> None:
    """Watches that bring nothing and do not end, the operator's and the agent's, are begun again after a while."""
    address = network.clients[0].address4
    node.start()
    between = FaultProxy(plane.server, plane.directory / "certificates")
    try:
        world.operator(server=between.server)
        world.create(limit("a", [address]))
        world.wait_ready("a")
        world.settled()
        for each in (between, proxy):
            each.freeze()
        watches = [each.count("GET", "watch=true") for each in (between, proxy)]
        world.edit("a", egress={"rate": "6Mbit"})

        def begun_again() -> bool:
            counts = [each.count("GET", "watch=true") for each in (between, proxy)]
            return all(now > before for now, before in zip(counts, watches, strict=True))

        world.wait(begun_again, "watches are begun again", 200)
        assert node.kernel.rate_of(address) == 5_000_000
        for each in (between, proxy):
            each.thaw()
        node.kernel.until_rate(address, 6_000_000)
        world.wait(lambda: world.in_force("a", 2), "the edit is in force")
        assert world.get(f"{LIMITS}/a")["status"]["observedGeneration"] == 2
    finally:
        between.close()
