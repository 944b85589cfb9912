"""What limits do to traffic in a cluster: the real agent on three nodes, and what arrives at the clients.

All tests here share nodes, agents and an operator that run the whole time; each begins with kernels without a limit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator

import pytest

from bandwidth_lab import Host, TcpFlow, UdpFlow, WireMeter
from bandwidth_lab.cluster_node import ClusterNode
from bandwidth_lab.control_plane import ControlPlane
from bandwidth_lab.fleet import Fleet, fleet
from cluster.wire import assert_held, assert_unlimited, assert_whole
from cluster.world import LIMITS, STATES, World, limit

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("real limits")]  # they share a cluster

NODES = 3
PROTECTED = "198.51.100.77/32"  # on the last node
QUIET_RATE = 4_000_000  # of the stream from each node to the client without a limit


@dataclasses.dataclass(frozen=True)
class Running:
    """A cluster at work. Client i takes from node i; the last client is without a limit and takes from all."""

    world: World
    network: Fleet
    nodes: list[ClusterNode]

    @property
    def greedy(self) -> list[Host]:
        return self.network.clients[:NODES]

    @property
    def quiet(self) -> Host:
        return self.network.clients[NODES]

    def rates(self, client: Host) -> list[int | None]:
        """The rate of this client's class on each node, in bits per second; None: not limited there."""
        return [node.kernel.rate_of(client.address4) for node in self.nodes]

    def wait_rates(self, client: Host, *rates: int | None) -> None:
        self.world.wait(lambda: self.rates(client) == list(rates), f"{client.address4} has {rates}")


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three nodes with the real agent, and an operator."""
    with fleet(NODES, NODES + 1, prefix="ra-") as network:
        world = World(plane, tmp_path_factory.mktemp("cluster"))
        world.clean()
        try:
            world.operator()
            nodes = [world.real_node(f"node-{n}", host) for n, host in enumerate(network.nodes)]
            nodes[2].options = ("--protected", PROTECTED)
            world.start(*nodes)
            yield Running(world, network, nodes)
        finally:
            world.close()


@pytest.fixture
def running(cluster: Running) -> Iterator[Running]:
    """That cluster without a limit; what a test creates is deleted, and lifted everywhere, when it ends."""
    yield cluster
    cluster.world.api.request("DELETE", LIMITS)
    for node in cluster.nodes:
        cluster.world.wait(lambda node=node: not node.kernel.kernel().sets, f"{node.name} has no limit any more")  # type: ignore[misc]


def test_a_limit_is_kept_on_every_node_changed_and_lifted(running: Running) -> None:
    """From each node its client gets the rate of the limit, then that of the edit, then all; another client all along
    gets what is sent to it."""
    world, clients = running.world, running.greedy
    families = (4, 6, 4)
    addresses = [client.address(family) for client, family in zip(clients, families, strict=True)]
    world.create(limit("greedy", addresses, "20Mbit"))
    world.wait_ready("greedy")
    assert world.get(f"{LIMITS}/greedy")["status"]["nodes"] == {"desired": 3, "programmed": 3, "failed": 0}
    with contextlib.ExitStack() as stack:
        for node, client, family in zip(running.nodes, clients, families, strict=True):
            stack.enter_context(TcpFlow(node.host, client, family=family, congestion="cubic"))
        quiet = [
            stack.enter_context(UdpFlow(node.host, running.quiet, rate_bits_per_second=QUIET_RATE))
            for node in running.nodes
        ]
        meters = [stack.enter_context(WireMeter(client)) for client in clients]
        meters[0].measure(1.5)  # until the queues are full and the bursts spent
        assert_held(meters, 20_000_000)
        world.edit("greedy", egress={"rate": "8Mbit"})
        world.wait(lambda: world.in_force("greedy", 2), "the edit is in force")
        meters[0].measure(1.0)
        assert_held(meters, 8_000_000)
        for stream in quiet:
            assert_whole(stream)
        world.delete("greedy")
        for node, address in zip(running.nodes, addresses, strict=True):
            node.kernel.until_rate(address, None)
        for meter in meters:
            assert_unlimited(meter)


def test_a_disabled_limit_is_in_no_kernel_and_comes_back(running: Running) -> None:
    """mode Disabled takes the limit out of the kernels, Enforce brings it back."""
    world, client = running.world, running.greedy[0]
    world.create(limit("a", [client.address4], mode="Disabled"))
    world.wait_ready("a", reason="Disabled")
    assert running.rates(client) == [None, None, None]
    world.edit("a", mode="Enforce")
    world.wait_ready("a")
    assert running.rates(client) == [5_000_000] * 3
    world.edit("a", mode="Disabled")
    running.wait_rates(client, None, None, None)


def test_an_observing_limit_counts_and_slows_nothing(running: Running) -> None:
    """A stream far above the limit arrives whole, and its node reports how much of it would have been slowed."""
    world, client, node = running.world, running.greedy[0], running.nodes[0]
    world.create(limit("watch", [client.address4], "1Mbit", mode="Observe"))
    world.wait_ready("watch")
    with UdpFlow(node.host, client, rate_bits_per_second=10_000_000) as stream:
        world.wait(lambda: stream.received_bytes > 2_500_000, "two seconds' worth has arrived")
        assert_whole(stream)
    (shown,) = node.kernel.show()["limits"]
    assert (shown["name"], shown["mode"]) == ("watch", "Observe")
    assert shown["overLimitShare"] > 0.5


def test_a_selector_and_the_labels_of_nodes_decide_where(running: Running) -> None:
    """Only selected nodes limit; a node that gets the label begins, one that loses it stops."""
    world, client = running.world, running.greedy[0]
    world.label("node-0", {"role": "edge"})
    world.create(limit("edge", [client.address4], nodeSelector={"matchLabels": {"role": "edge"}}))
    world.wait_ready("edge")
    assert running.rates(client) == [5_000_000, None, None]
    with TcpFlow(running.nodes[1].host, client, congestion="cubic"), WireMeter(client) as meter:
        assert_unlimited(meter)
        world.label("node-1", {"role": "edge"})
        running.wait_rates(client, 5_000_000, 5_000_000, None)
        meter.measure(1.5)
        assert_held([meter], 5_000_000, windows=2)
    world.label("node-0", {"role": None})
    running.wait_rates(client, None, 5_000_000, None)
    world.wait(lambda: world.get(f"{LIMITS}/edge")["status"]["nodes"]["desired"] == 1, "the status counts one node")
    world.wait_ready("edge")
    world.label("node-1", {"role": None})


def test_the_winner_of_a_conflict_is_on_the_wire(running: Running) -> None:
    """Of two limits for one client that of higher priority holds; the other says so, and holds when it is alone."""
    world, client = running.world, running.greedy[0]
    world.create(
        limit("low", [client.address4], "3Mbit"),
        limit("high", ["203.0.113.0/24"], "9Mbit", priority=10, **{"except": [f"{running.quiet.address4}/32"]}),
    )
    world.wait_ready("low", "high")
    world.wait(lambda: world.conditions("low")["Conflicted"]["status"] == "True", "low is conflicted")
    assert "high" in world.conditions("low")["Conflicted"]["message"]
    assert running.rates(client) == [9_000_000] * 3
    assert running.rates(running.quiet) == [None] * 3
    with TcpFlow(running.nodes[0].host, client, congestion="cubic"), WireMeter(client) as meter:
        meter.measure(1.0)
        assert_held([meter], 9_000_000, windows=2)
        world.delete("high")
        running.wait_rates(client, *[3_000_000] * 3)
        meter.measure(1.0)
        assert_held([meter], 3_000_000, windows=2)
    world.wait(lambda: world.conditions("low")["Conflicted"]["status"] == "False", "the conflict is over")


def test_a_rate_is_split_among_the_nodes(running: Running) -> None:
    """With SplitEvenly the nodes together give the rate of the limit."""
    world, client = running.world, running.greedy[0]
    world.create(limit("all", [client.address4], "9Mbit", egress={"distribution": "SplitEvenly"}))
    world.wait_ready("all")
    running.wait_rates(client, *[3_000_000] * 3)
    with contextlib.ExitStack() as stack:
        for node in running.nodes:
            stack.enter_context(TcpFlow(node.host, client, congestion="cubic"))
        meter = stack.enter_context(WireMeter(client))
        meter.measure(1.5)
        assert_held([meter], 9_000_000, windows=2)


def test_a_limit_that_one_node_may_not_enforce_fails_there_alone(running: Running) -> None:
    """A limit that would slow a protected address of one node is named with that node and why; all else is in force."""
    world, client = running.world, running.greedy[0]
    world.create(limit("good", [client.address4]), limit("bad", [PROTECTED.removesuffix("/32"), "198.51.100.8"]))
    world.wait_ready("good")
    expected = {"desired": 3, "programmed": 2, "failed": 1}
    world.wait(
        lambda: world.get(f"{LIMITS}/bad").get("status", {}).get("nodes") == expected, "one node cannot enforce it"
    )
    (failing,) = world.get(f"{LIMITS}/bad")["status"]["failingNodes"]
    assert failing["name"] == "node-2"
    assert PROTECTED.removesuffix("/32") in failing["message"]
    assert world.ready("bad") == failing["reason"]
    assert world.state("node-2")["state"] == "Failing"
    assert running.rates(client) == [5_000_000] * 3
    world.edit("bad", clients=["198.51.100.8"])
    world.wait(lambda: world.in_force("bad", 2), "mended, it is in force")


def test_a_node_that_is_cut_off_keeps_its_limits_and_catches_up(running: Running) -> None:
    """A node without a way to the API server goes on as it was, and the status says that one is behind; when it is
    back it does what was changed and deleted meanwhile."""
    world, (changed, deleted, _), alone = running.world, running.greedy, running.nodes[1]
    world.create(limit("changed", [changed.address4]), limit("deleted", [deleted.address4]))
    world.wait_ready("changed", "deleted")
    alone.disconnect()
    world.edit("changed", egress={"rate": "7Mbit"})
    world.delete("deleted")
    running.wait_rates(changed, 7_000_000, 5_000_000, 7_000_000)
    running.wait_rates(deleted, None, 5_000_000, None)
    world.wait(lambda: world.conditions("changed")["Ready"]["message"].startswith("1 of 3 nodes"), "one is behind")
    assert world.ready("changed") == "Pending"
    alone.connect()
    world.wait(lambda: world.in_force("changed", 2), "all nodes have the edit")
    running.wait_rates(changed, 7_000_000, 7_000_000, 7_000_000)
    running.wait_rates(deleted, None, None, None)


def test_what_the_nodes_report(running: Running) -> None:
    """Each node reports itself, small, with how its uplink is shaped; its Node owns the report."""
    world = running.world
    world.create(*(limit(f"a-{n:03d}", [f"198.51.100.{n}"]) for n in range(1, 31)))
    world.wait_ready(*(f"a-{n:03d}" for n in range(1, 31)))
    for node in running.nodes:
        item = world.get(f"{STATES}/{node.name}")
        status = item["status"]
        counted = {"desired": 30, "programmed": 30, "failed": 0, "verified": 0, "bypassed": 0}
        assert status["limits"] == counted
        assert (status["state"], status["planComplete"], status["retired"]) == ("InForce", True, False)
        assert [(i["name"], i["placement"]) for i in status["interfaces"]] == [("eth0", "ifb")]
        assert status["classifier"] == "mark"
        assert len(json.dumps(status)) < 2_048
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("Node", node.name)
        assert node.page("/healthz")[0] == node.page("/readyz")[0] == 200
    assert "InForce" in world.plane.kubectl("get", "nodebandwidthstates").stdout
