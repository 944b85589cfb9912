"""Real agents under operators that die and freeze, in any order of starts, and until everything is retired."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from bandwidth_lab import TcpFlow, WireMeter
from bandwidth_lab.cluster_node import ClusterNode
from bandwidth_lab.fleet import Fleet, fleet
from cluster import test_retire
from cluster.wire import assert_held
from cluster.world import EVENTS, LIMITS, STATES, World, limit

pytestmark = pytest.mark.root


@pytest.fixture
def network() -> Iterator[Fleet]:
    """Two nodes and two clients."""
    with fleet(2, 2, prefix="ra-") as made:
        yield made


@pytest.mark.long
def test_operators_that_die_and_freeze_while_limits_change(
    world: World, network: Fleet, nodes: list[ClusterNode]
) -> None:
    """After kill -9 and after a freeze of the leader another brings the edits to the nodes and rewrites nothing else;
    the limit holds all along, and a leader that wakes turns nothing back."""
    client = network.clients[0]
    for node in nodes:
        node.start()
    first = world.operator("first")
    world.wait(lambda: world.holder().startswith("first_"), "the first leads")
    second = world.operator("second")
    world.create(limit("a", [client.address4], "5Mbit"), limit("b", [network.clients[1].address4]))
    world.wait_ready("a", "b")
    world.settled()
    untouched = world.get(f"{LIMITS}/b")["metadata"]["resourceVersion"]
    seen: set[int | None] = set()

    def at(rate: int) -> bool:
        rates = {node.kernel.rate_of(client.address4) for node in nodes}
        seen.update(rates)
        return rates == {rate}

    with TcpFlow(nodes[0].host, client, congestion="cubic"), WireMeter(client) as meter:
        first.kill()
        world.edit("a", egress={"rate": "6Mbit"})
        world.wait(lambda: at(6_000_000), "the second brings the edit")
        assert world.holder().startswith("second_")
        assert world.get(f"{LIMITS}/b")["metadata"]["resourceVersion"] == untouched
        world.operator("third")
        second.signal(signal.SIGSTOP)
        world.edit("a", egress={"rate": "7Mbit"})
        world.wait(lambda: at(7_000_000), "the third brings the edit")
        second.signal(signal.SIGCONT)
        world.edit("a", egress={"rate": "8Mbit"})
        world.wait(lambda: at(8_000_000), "the third brings the next one")
        world.wait(lambda: second.log.count("standing by") == 2, "the second stands by")
        world.wait(lambda: world.in_force("a", 4), "the last edit is in force")
        meter.measure(1.0)
        assert_held([meter], 8_000_000, windows=2)
    assert at(8_000_000)
    assert seen == {5_000_000, 6_000_000, 7_000_000, 8_000_000}


def test_any_order_of_starts_and_a_second_start_that_writes_nothing(
    world: World, network: Fleet, nodes: list[ClusterNode]
) -> None:
    """An agent before everything else, one after it, the limit before the operator: all the same in the end; and when
    everything starts once more, no program writes a limit, a slice, an event or the kernel."""
    client = network.clients[0].address4
    before = [node.kernel.snapshot() for node in nodes]
    nodes[0].start()
    world.wait(lambda: world.state("node-0"), "an agent without a plan reports")
    assert world.state("node-0")["planComplete"] is False
    world.create(limit("a", [client]), limit("b", [network.clients[1].address4], mode="Observe"))
    first = world.operator("first")
    nodes[0].kernel.until_rate(client, 5_000_000)
    assert nodes[1].kernel.snapshot() == before[1]
    nodes[1].start()
    nodes[1].kernel.until_rate(client, 5_000_000)
    world.wait(lambda: world.conditions("a")["Ready"]["message"] == "in force on all 2 nodes", "both are counted")
    world.wait_ready("a", "b")

    world.settled()
    written, events = world.versions(), len(world.items(EVENTS))
    states = [_lasting(world, node) for node in nodes]
    kernels = [node.kernel.snapshot() for node in nodes]
    assert first.stop() == 0
    for node in nodes:
        assert node.stop() == 0
    assert [node.kernel.snapshot() for node in nodes] == kernels
    starts = [node.log.count('"started"') for node in nodes]
    for node in nodes:
        node.start()
    second = world.operator("second")
    world.wait(lambda: '"leading"' in second.log, "the second leads")
    for node, count in zip(nodes, starts, strict=True):
        world.wait(lambda node=node, count=count: node.log.count('"started"') > count, "the agent has started")  # type: ignore[misc]
        world.wait(lambda node=node: node.page("/readyz")[0] == 200, "the agent is ready")  # type: ignore[misc]
    world.settled()
    assert world.versions() == written
    assert len(world.items(EVENTS)) == events
    assert [_lasting(world, node) for node in nodes] == states
    assert [node.kernel.snapshot() for node in nodes] == kernels
    world.edit("a", egress={"rate": "6Mbit"})
    for node in nodes:
        node.kernel.until_rate(client, 6_000_000)


@pytest.mark.long
def test_retire_leaves_nothing_behind(world: World, network: Fleet, nodes: list[ClusterNode]) -> None:
    """Told to retire, agents remove everything of ours and stay idle, over a restart too; in a later installation they
    enforce the limits that are still there, whether they were started again or not."""
    client = network.clients[0].address4
    before = [node.kernel.snapshot() for node in nodes]
    operator = world.operator()
    world.start(*nodes)
    world.create(limit("a", [client]))
    world.wait_ready("a")
    assert all(node.kernel.rate_of(client) == 5_000_000 for node in nodes)
    said = test_retire.retire(world, *test_retire.STAND_BY)
    assert (said.code, said.err) == (0, "")
    assert "2 of 2 nodes have retired" in said.out
    assert [node.kernel.snapshot() for node in nodes] == before
    operator.stop()
    nodes[0].stop()
    nodes[0].start()
    world.wait(lambda: nodes[0].page("/healthz")[0] == 200, "the agent runs again")

    world.operator("later")
    world.wait(world.rates, "there is a plan again")
    for node in nodes:
        node.kernel.until_rate(client, 5_000_000)
    world.wait_ready("a")


def _lasting(world: World, node: ClusterNode) -> dict[str, object]:
    """What a node reports, without the time of it."""
    item = world.get(f"{STATES}/{node.name}")
    return {k: v for k, v in item["status"].items() if k != "lastReportTime"}
