"""Questions about traffic with the real API server, the real operator and real agents: their life, answer and death."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bandwidth_kube import client, connection
from bandwidth_lab import TcpFlow, simulated_sight
from bandwidth_lab.fleet import Fleet, fleet
from bandwidth_lab.simulated_agents import SimulatedAgent
from bandwidth_lab.simulated_sight import SimulatedSight, Ticker
from cluster.world import QUERIES, SLICES, STATES, TRAFFIC, Object, World, limit

pytestmark = pytest.mark.root

FIRST_ROWS_SECONDS = 4.0
LIFE_SECONDS = 60.0
SLACK_SECONDS = 6.0  # for what is heard, written and deleted after that


@pytest.fixture
def network() -> Iterator[Fleet]:
    """Three nodes and two clients."""
    with fleet(3, 2, prefix="qu-") as made:
        yield made


def ask(world: World, name: str = "look", **spec: Any) -> float:
    """Create a question; returns the monotonic time of that."""
    body = {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientTrafficQuery",
        "metadata": {"name": name},
        "spec": spec,
    }
    world.api.request("POST", QUERIES, body=body)
    return time.monotonic()


def renew(world: World, name: str = "look") -> float:
    body = {"spec": {"renewal": time.time_ns() >> 20}}
    world.api.request("PATCH", f"{QUERIES}/{name}", body=body, content_type=client.MERGE_PATCH)
    return time.monotonic()


def answer(world: World, name: str = "look") -> Object:
    return dict(world.get(f"{QUERIES}/{name}").get("status") or {})


def rows(world: World, name: str = "look") -> dict[str, Object]:
    return {row["client"]: row for row in answer(world, name).get("rows", ())}


def reason(world: World, name: str = "look") -> str:
    return next((str(c["reason"]) for c in answer(world, name).get("conditions", ())), "")


def looks(nodes: list[Any]) -> list[bool]:
    """Whether a packet socket is open in the namespace of each node."""
    lines = [node.host.namespace.run(["cat", "/proc/net/packet"]).stdout.splitlines() for node in nodes]
    return [len(each) > 1 for each in lines]


def test_who_gets_how_much(world: World, network: Fleet) -> None:
    """Within 4 s a question names the client, its rate, port, nodes and limit; another node has its label; killed, the
    asker costs a minute at most: no socket, no report and no question are left, and the plan was never written."""
    nodes = [world.real_node(f"node-{n}", host) for n, host in enumerate(network.nodes)]
    addresses = [{"type": "InternalIP", "address": host.address4} for host in network.nodes]
    for node, address in zip(nodes, addresses, strict=True):
        body = {"status": {"addresses": [address]}}
        world.api.request("PATCH", f"/api/v1/nodes/{node.name}/status", body=body, content_type=client.MERGE_PATCH)
    world.operator()
    world.start(*nodes)
    greedy, other = network.clients
    world.create(limit("slow", [other.address4], "8Mbit"))
    world.wait_ready("slow")
    world.settled()
    assert looks(nodes) == [False] * 3
    before = [s["spec"] for s in world.items(SLICES)]
    with (
        TcpFlow(network.nodes[0], greedy, port=993, rate_bits_per_second=40e6),
        TcpFlow(network.nodes[1], greedy, port=993, rate_bits_per_second=20e6),
        TcpFlow(network.nodes[1], other, port=443),
        TcpFlow(network.nodes[2], network.nodes[0], port=8080, rate_bits_per_second=10e6),
    ):
        time.sleep(1.0)  # the flows have their rates
        began = ask(world)
        world.wait(lambda: greedy.address4 in rows(world), "the client has a row")
        first = time.monotonic() - began
        print(f"first rows after {first:.2f} s")
        assert first <= FIRST_ROWS_SECONDS
        world.wait(lambda: answer(world)["nodes"]["answered"] == 3, "all nodes answer")
        world.wait(lambda: answer(world)["seconds"] >= 11, "ten seconds were seen")
        said = answer(world)
        assert looks(nodes) == [True] * 3
    found = {row["client"]: row for row in said["rows"]}
    row = found[greedy.address4]
    assert 0.9 * 60e6 < row["bitsPerSecond"][1] < 1.15 * 60e6, row
    assert row["ports"] == ["TCP:993"]
    assert (row["nodes"], row["node"]) == (2, "node-0")
    assert found[other.address4]["limits"] == ["slow"]
    assert found[other.address4]["bitsPerSecond"][1] < 10e6
    assert found[network.nodes[0].address4]["label"] == "node node-0"
    assert next(iter(found)) == greedy.address4
    reports = world.items(TRAFFIC)
    assert {r["metadata"]["name"] for r in reports} == {"node-0", "node-1", "node-2"}

    # The asker is dead; everything ends by itself.
    world.wait(
        lambda: not world.items(QUERIES) and not world.items(TRAFFIC) and looks(nodes) == [False] * 3,
        "nothing is left",
        LIFE_SECONDS + SLACK_SECONDS,
    )
    took = time.monotonic() - began
    print(f"nothing left after {took:.1f} s")
    assert took <= LIFE_SECONDS + SLACK_SECONDS
    assert [s["spec"] for s in world.items(SLICES)] == before


@pytest.mark.long
def test_operator_and_agent_die_and_others_go_on(world: World, network: Fleet) -> None:
    """A question outlives the operator and an agent; when operator and asker are dead, each node ends by its own clock
    and empties its report; the next operator takes away what is left."""
    nodes = [world.real_node(f"node-{n}", host) for n, host in enumerate(network.nodes[:2])]
    one = nodes[0]
    operator = world.operator("first")
    world.start(*nodes)
    world.wait(lambda: any(i["metadata"]["name"] == "plan" for i in world.items(SLICES)), "there is a plan")
    client_of_one = network.clients[0]
    with TcpFlow(network.nodes[0], client_of_one, port=993, rate_bits_per_second=20e6):
        ask(world)
        world.wait(lambda: client_of_one.address4 in rows(world), "the client has a row")

        one.kill()
        assert looks(nodes)[0] is False
        one.start()
        world.wait(lambda: world.state("node-0"), "node-0 reports")
        operator.kill()
        second = world.operator("second")
        world.wait(lambda: world.holder().startswith("second"), "the second operator leads")
        renew(world)
        world.wait(lambda: looks(nodes) == [True, True], "the agent that started again looks")
        generation = world.get(f"{QUERIES}/look")["metadata"]["generation"]
        world.wait(
            lambda: answer(world)["observedGeneration"] == generation and answer(world)["nodes"]["answered"] == 2,
            "the second operator answers",
        )

        second.kill()
        last = renew(world)  # which no operator hands on
        world.wait(lambda: looks(nodes) == [False, False], "nobody looks", LIFE_SECONDS + SLACK_SECONDS)
        assert time.monotonic() - last <= LIFE_SECONDS
    world.wait(
        lambda: all(not report.get("status") for report in world.items(TRAFFIC)),
        "the reports are empty",
        2 * SLACK_SECONDS,
    )
    third = world.operator("third")
    world.wait(lambda: not world.items(QUERIES) and not world.items(TRAFFIC), "nothing is left", LIFE_SECONDS)
    head = next(i for i in world.items(SLICES) if i["metadata"]["name"] == "plan")
    assert "traffic" not in head["spec"]
    assert third.process.poll() is None


@pytest.mark.long
def test_the_api_server_dies_while_somebody_asks(world: World, network: Fleet) -> None:
    """Without an API server each node looks no longer than a minute; when it is back all is taken away, and a new
    question is answered."""
    node = world.real_node("node-0", network.nodes[0])
    world.operator()
    world.start(node)
    world.wait(lambda: any(i["metadata"]["name"] == "plan" for i in world.items(SLICES)), "there is a plan")
    asked_at = ask(world)
    world.wait(lambda: answer(world)["nodes"]["answered"] == 1, "the node answers")
    with world.outage():
        world.wait(lambda: looks([node]) == [False], "nobody looks", LIFE_SECONDS + SLACK_SECONDS)
        assert time.monotonic() - asked_at <= LIFE_SECONDS + 1
    world.wait(lambda: not world.items(QUERIES) and not world.items(TRAFFIC), "nothing is left", LIFE_SECONDS)
    with TcpFlow(network.nodes[0], network.clients[0], rate_bits_per_second=20e6):
        ask(world, "again")
        world.wait(lambda: network.clients[0].address4 in rows(world, "again"), "the client has a row")
        world.api.request("DELETE", f"{QUERIES}/again")
        world.wait(lambda: looks([node]) == [False], "nobody looks", SLACK_SECONDS)
        ask(world, "short", seconds=5)
        world.wait(lambda: reason(world, "short") == "Ended", "it ends after five seconds")
        world.wait(lambda: looks([node]) == [False], "nobody looks", SLACK_SECONDS)
        assert rows(world, "short")


NODES_OF_A_FLEET = 100


@pytest.fixture
def sights() -> Iterator[list[SimulatedSight]]:
    """What 100 nodes send: 4,000 clients by Zipf's law, each from two nodes."""
    made = simulated_sight.by_zipf(NODES_OF_A_FLEET, 4000, 4e9, random.Random(1))
    ticker = Ticker(made)
    yield made
    ticker.close()


def test_the_top_twenty_of_a_hundred_nodes(world: World, sights: list[SimulatedSight]) -> None:
    """The merged top 20 of 100 nodes is the true one, each rate within 5 %; no report has more than 1.5 KB, no status
    more than 8 KB; the nodes report 50 times a second at most; and all is gone when nobody asks any more."""
    world.operator()
    names = [f"node-{n:03d}" for n in range(NODES_OF_A_FLEET)]
    world.nodes(*names)
    for name, sight in zip(names, sights, strict=True):
        where = connection.load(world.plane.kubeconfig("agent", token=world.agent_token(name)))
        world.agents[name] = SimulatedAgent(where, name, sight=sight)
        world.agents[name].start()
    world.wait(lambda: len(world.items(STATES)) == NODES_OF_A_FLEET, "all nodes report")
    world.settled()
    assert not any(sight.open for sight in sights)
    began = ask(world, top=20)
    world.wait(lambda: rows(world), "there are rows")
    print(f"first rows after {time.monotonic() - began:.2f} s")
    world.wait(lambda: answer(world)["nodes"]["answered"] == NODES_OF_A_FLEET, "all nodes answer")
    print(f"all nodes after {time.monotonic() - began:.2f} s")
    counted = reports_written(world, 6.0)
    print(f"{counted / 6.0:.1f} reports a second")
    assert counted / 6.0 <= 50 * 1.1
    said = world.wait(lambda: whole_answer(world), "ten seconds of all nodes were seen")
    truth = simulated_sight.largest(sights, 20)
    assert {row["client"] for row in said["rows"]} == truth.keys()
    worst = max(abs(row["bitsPerSecond"][1] / truth[row["client"]] - 1) for row in said["rows"])
    sizes = [size_of(item["status"]) for item in world.items(TRAFFIC)]
    print(f"worst error {worst:.2%}, largest report {max(sizes)} B, status {size_of(said)} B")
    assert worst <= 0.05
    assert max(sizes) <= 1500
    assert size_of(said) <= 8000
    world.api.request("DELETE", f"{QUERIES}/look")
    world.wait(lambda: not any(sight.open for sight in sights), "nobody looks", SLACK_SECONDS)
    world.wait(lambda: not world.items(TRAFFIC), "no report is left")
    assert not [error for agent in world.agents.values() for error in agent.errors]


def whole_answer(world: World) -> Object | None:
    """The answer if it is of ten seconds and of all nodes: on a busy machine one may be late."""
    said = answer(world)
    return said if said["seconds"] >= 14 and said["nodes"]["answered"] == NODES_OF_A_FLEET else None


def reports_written(world: World, seconds: float) -> int:
    """How many reports all nodes write in so many seconds."""
    version = world.api.listed(TRAFFIC).resource_version
    until = time.monotonic() + seconds
    count = 0
    for event in world.api.watch(TRAFFIC, version, query={"timeoutSeconds": str(int(seconds))}):
        count += event["type"] in ("ADDED", "MODIFIED") and time.monotonic() <= until
    return count


def size_of(status: Object) -> int:
    return len(json.dumps(status, separators=(",", ":")).encode())
