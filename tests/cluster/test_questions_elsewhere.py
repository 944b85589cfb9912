"""Questions about traffic in installations that have not all of it: older kinds, no kinds, agents of two versions."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bandwidth_kube import connection
from bandwidth_lab import control_plane
from bandwidth_lab.fleet import Fleet, fleet
from bandwidth_lab.simulated_agents import SimulatedAgent
from bandwidth_lab.simulated_sight import SimulatedSight, Ticker
from cluster.test_check import check
from cluster.test_questions import answer, ask, reason, rows
from cluster.world import QUERIES, World, limit

pytestmark = pytest.mark.root

ROOT = pathlib.Path(__file__).resolve().parents[2]
KINDS = ("clienttrafficqueries.clientbandwidth.io", "nodeclienttraffics.clientbandwidth.io")
SLICES_CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/bandwidthplanslices.clientbandwidth.io"
GREEDY = bytes([198, 51, 100, 7])


class Elsewhere:
    """A cluster of its own with one node, whose agent sees one client at 80 Mbit/s."""

    def __init__(self, plane: control_plane.ControlPlane, directory: pathlib.Path) -> None:
        self.plane, self.world = plane, World(plane, directory)
        self.sight = SimulatedSight({GREEDY: 80e6}, random.Random(1))
        self._ticker = Ticker([self.sight])

    def start(self) -> None:
        self.world.operator()
        self.world.nodes("node-0")
        where = connection.load(self.plane.kubeconfig("agent", token=self.world.agent_token("node-0")))
        agent = SimulatedAgent(where, "node-0", sight=self.sight)
        self.world.agents["node-0"] = agent
        agent.start()
        self.world.wait(lambda: self.world.state("node-0"), "node-0 reports")

    def close(self) -> None:
        self.world.close()
        self._ticker.close()


@pytest.fixture
def elsewhere(tmp_path: pathlib.Path) -> Iterator[Elsewhere]:
    """Everything of deploy but the kinds of questions."""
    with control_plane.running() as plane:
        documents = list(yaml.safe_load_all((ROOT / "deploy" / "install.yaml").read_text()))
        kept = [each for each in documents if each and each["metadata"]["name"] not in KINDS]
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(kept))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        made = Elsewhere(plane, tmp_path)
        yield made
        made.close()


@pytest.mark.long
def test_the_kinds_come_later(elsewhere: Elsewhere) -> None:
    """Without the CRDs, as after an upgrade by Helm alone, limits work as ever and the log says once what is missing;
    `check` notes it and succeeds; a minute after the CRDs are applied questions are answered."""
    world = elsewhere.world
    elsewhere.start()
    world.create(limit("a"))
    world.wait_ready("a")
    operator = world.operators[0]
    world.wait(lambda: "does not have their kind" in operator.log, "the log says it")
    done = check(world, "--timeout", "60")
    assert done.returncode == 0, done.stderr
    assert "nobody can ask about traffic (kubectl cbl top): the CRDs for it are not installed" in done.stdout
    assert operator.log.count("does not have their kind") == 1
    for name in ("clienttrafficqueries", "nodeclienttraffics"):
        elsewhere.plane.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy" / "crds" / f"{name}.yaml"))
    elsewhere.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    world.wait(lambda: not asked_in_vain(world), "a question is answered", 150.0)
    assert "nobody can ask" not in check(world, "--timeout", "60").stdout


def asked_in_vain(world: World) -> bool:
    """Whether there is no answer to a question yet, which is asked if there is none."""
    if not world.items(QUERIES):
        ask(world)
    return "198.51.100.7" not in rows(world)


def test_an_older_kind_of_the_plan(elsewhere: Elsewhere) -> None:
    """Where the CRD of the slices is older, the question says what to apply, and the plan is written as ever."""
    world = elsewhere.world
    for name in ("clienttrafficqueries", "nodeclienttraffics"):
        elsewhere.plane.kubectl("apply", "--server-side", "-f", str(ROOT / "deploy" / "crds" / f"{name}.yaml"))
    crd = world.get(SLICES_CRD)
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["spec"]["properties"]["traffic"]
    world.api.request("PUT", SLICES_CRD, body=crd)
    elsewhere.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    elsewhere.start()
    world.create(limit("a"))
    world.wait_ready("a")
    ask(world)
    world.wait(lambda: reason(world) == "OldPlanSchema", "the question says so")
    world.create(limit("b", ["203.0.113.8"]))
    world.wait_ready("b")
    assert not elsewhere.sight.open


# ── two versions ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def network() -> Iterator[Fleet]:
    with fleet(2, 1, prefix="qe-") as made:
        yield made


def test_an_older_agent_goes_on_while_somebody_asks(world: World, network: Fleet, before_sight: pathlib.Path) -> None:
    """A node whose agent knows no questions is named as silent, makes no pass for them and follows its limits."""
    old, new = (world.real_node(f"node-{n}", host) for n, host in enumerate(network.nodes))
    old.kernel.program = before_sight / "bandwidth-agent"
    world.operator()
    world.start(old, new)
    greedy = network.clients[0].address4
    world.create(limit("a", [greedy]))
    world.wait_ready("a")
    world.settled()
    ask(world)
    world.wait(lambda: answer(world)["nodes"]["answered"] == 1, "the newer agent answers")
    assert answer(world)["nodes"]["silent"] == ["node-0"]
    world.edit("a", egress={"rate": "7Mbit"})
    world.wait(lambda: world.in_force("a", 2), "the edit is in force on both")
    assert [node.kernel.rate_of(greedy) for node in (old, new)] == [7_000_000] * 2


def test_an_older_operator_and_newer_agents(world: World, network: Fleet, before_sight: pathlib.Path) -> None:
    """An operator that knows no questions answers none; what a newer one left in the head opens nothing for long."""
    node = world.real_node("node-0", network.nodes[0])
    newer = world.operator("newer")
    world.start(node)
    world.create(limit("a", [network.clients[0].address4]))
    world.wait_ready("a")
    ask(world)
    world.wait(lambda: answer(world)["nodes"]["answered"] == 1, "the node answers")
    newer.kill()
    world.operator("older", program=before_sight / "bandwidth-operator")
    world.wait(lambda: world.holder().startswith("older"), "the older operator leads")
    world.edit("a", egress={"rate": "7Mbit"})
    world.wait(lambda: world.in_force("a", 2), "the edit is in force")
    world.wait(lambda: len(packet_sockets(node)) == 0, "nobody looks", 66.0)


def packet_sockets(node: Any) -> list[str]:
    return list(node.host.namespace.run(["cat", "/proc/net/packet"]).stdout.splitlines()[1:])
