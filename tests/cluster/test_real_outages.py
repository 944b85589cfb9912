"""Real agents that lose the API server, the plan or their kernel: what was in force stays in force, on the wire too."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator

import pytest

from bandwidth_kube import client
from bandwidth_lab import TcpFlow, WireMeter
from bandwidth_lab.fleet import Fleet, fleet
from cluster.wire import assert_held
from cluster.world import SLICES, World, get, limit

pytestmark = pytest.mark.root

OUTAGE_SECONDS = 60.0


@pytest.fixture
def network() -> Iterator[Fleet]:
    """Three nodes and two clients."""
    with fleet(3, 2, prefix="ra-") as made:
        yield made


@pytest.mark.long
def test_a_minute_without_the_api_server(world: World, network: Fleet) -> None:
    """Agents that go on, start again, or start on a node just booted enforce the plan from their disks and end what
    expires; the operator waits; when the API server is back all go on, and miss nothing."""
    _, restarted, booted = nodes = [world.real_node(f"node-{n}", host) for n, host in enumerate(network.nodes)]
    one, other = (host.address4 for host in network.clients)
    operator = world.operator("operator", "--metrics-address", "127.0.0.1:0")
    world.start(*nodes)
    ends_at = int(time.time()) + 30
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends_at))
    world.create(limit("stays", [one], "10Mbit"), limit("ends", [other], "10Mbit", expiresAt=ends))
    world.wait_ready("stays", "ends")
    port = re.findall(r'"port": (\d+)', operator.log)[0]

    with world.outage():
        began = time.monotonic()
        restarted.kill()
        assert restarted.kernel.rate_of(one) == 10_000_000
        restarted.start()
        booted.kill()
        booted.move(network.reboot(2))
        assert booted.kernel.rate_of(one) is None
        booted.start()
        booted.kernel.until_rate(one, 10_000_000)
        with TcpFlow(booted.host, network.clients[0], congestion="cubic"), WireMeter(network.clients[0]) as meter:
            meter.measure(1.0)
            assert_held([meter], 10_000_000)
        for node in nodes:
            node.kernel.until_rate(other, None)
            assert time.time() >= ends_at
            assert node.kernel.rate_of(one) == 10_000_000
        world.wait(lambda: get(port, "/readyz")[0] == 503, "the operator is not ready")
        assert get(port, "/healthz")[0] == 200
        world.wait(lambda: time.monotonic() - began > OUTAGE_SECONDS, "the outage lasted", 2 * OUTAGE_SECONDS)
        for node in nodes:
            assert node.process.poll() is None
            assert node.page("/healthz")[0] == 200
            assert node.kernel.rate_of(one) == 10_000_000

    world.delete("stays")  # before a program watches again
    world.create(limit("new", [other], "7Mbit"))
    for node in nodes:
        node.kernel.until_rate(one, None)
        node.kernel.until_rate(other, 7_000_000)
    world.wait_ready("new")
    world.wait(lambda: get(port, "/readyz")[0] == 200, "the operator is ready")
    assert operator.process.poll() is None


def test_what_is_missing_or_not_understood_lifts_nothing(world: World, network: Fleet) -> None:
    """A slice that vanished, one of a schema to come, a head that vanished: what they held stays in force, over a
    restart too, and the node says what is wrong; a node that never held them does what it can and lifts nothing."""
    client_a, client_b = (host.address4 for host in network.clients)
    node, late = (world.real_node(f"node-{n}", network.nodes[n]) for n in range(2))
    node.start()
    operator = world.operator()
    names = [f"a-{n:03d}" for n in range(100)]
    world.create(
        limit("a-000", [client_a]), *(limit(name, [f"198.51.100.{n + 1}"]) for n, name in enumerate(names[1:]))
    )
    world.wait_ready(*names)
    world.create(limit("b", [client_b]))  # the hundred and first is in a slice of its own
    world.wait_ready("b")
    assert [s["metadata"]["name"] for s in world.items(SLICES)] == ["plan", "plan-00000", "plan-00001"]
    operator.stop()

    def both() -> list[int | None]:
        return [node.kernel.rate_of(each) for each in (client_a, client_b)]

    world.api.request("DELETE", f"{SLICES}/plan-00000")
    world.wait(lambda: "plan-00000 is missing" in world.state("node-0")["message"], "the node says what is missing")
    assert both() == [5_000_000] * 2
    merge = {"content_type": client.MERGE_PATCH}
    world.api.request("PATCH", f"{SLICES}/plan-00001", body={"spec": {"schema": 9}}, **merge)
    world.wait(lambda: "its schema is 9" in world.state("node-0")["message"], "the node says what it cannot read")
    assert both() == [5_000_000] * 2
    node.kill()
    node.start()
    world.api.request("DELETE", f"{SLICES}/plan")
    world.wait(lambda: "head" in world.state("node-0")["message"], "the node says that the head is missing")
    assert both() == [5_000_000] * 2

    # Without what it kept on its disk the agent knows nothing, and takes nothing away.
    node.kill()
    shutil.rmtree(node.kernel.state)
    node.start()
    world.wait(lambda: world.state("node-0")["planComplete"] is False, "the node says that its plan is incomplete")
    assert both() == [5_000_000] * 2
    late.start()
    world.wait(lambda: world.state("node-1").get("planComplete") is False, "a new node says so too")

    world.operator("successor")
    world.wait(lambda: world.state("node-1")["state"] == "InForce", "everything is whole again")
    world.wait_ready("a-000", "b")
    assert both() == [5_000_000] * 2
    assert late.kernel.rate_of(client_a) == late.kernel.rate_of(client_b) == 5_000_000
    world.wait(lambda: world.state("node-0")["message"] == "", "the node has nothing to complain of")


def test_an_agent_of_another_node_is_refused(world: World, network: Fleet) -> None:
    """With a token of another node an agent limits as it should, and cannot report for a node that is not its own."""
    node, wrong = (world.real_node(f"node-{n}", network.nodes[n]) for n in range(2))
    wrong.follow(world.agent_kubeconfig("node-0"))
    node.start()
    wrong.start()
    world.operator()
    world.create(limit("a", [network.clients[0].address4]))
    for each in (node, wrong):
        each.kernel.until_rate(network.clients[0].address4, 5_000_000)
    world.wait_ready("a")
    world.wait(lambda: "own-node" in wrong.log, "the agent tells why it is refused")
    assert world.state("node-1") == {}
    assert world.state("node-0")["state"] == "InForce"
    assert wrong.process.poll() is None
