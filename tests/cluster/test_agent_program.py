"""`bandwidth-agent run` as a node of a cluster: how it begins, how it ends, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from bandwidth_api.crds import node_state
from bandwidth_lab.cluster_node import ClusterNode
from bandwidth_lab.fleet import Fleet, fleet
from bandwidth_lab.node import PROGRAM
from cluster.world import SLICES, STATES, Object, World, limit

pytestmark = pytest.mark.root

# The program with a bug in what one of its threads runs.
BROKEN = """
from bandwidth_agent{module} import {name}
def broken(*_, **__): raise ZeroDivisionError("a bug")
{name}.{function} = broken
from bandwidth_agent import cli
raise SystemExit(cli.main())
"""


@pytest.fixture
def network() -> Iterator[Fleet]:
    """One node and one client."""
    with fleet(1, 1, prefix="cs-") as made:
        yield made


@pytest.fixture
def node(world: World, network: Fleet) -> ClusterNode:
    """A node whose agent does not run yet."""
    return world.real_node("node-0", network.nodes[0])


@pytest.fixture
def planned(world: World, network: Fleet, node: ClusterNode) -> str:
    """The address of a client with a limit in the plan."""
    address = network.clients[0].address4
    world.operator()
    world.create(limit("a", [address]))
    world.wait(lambda: any(s["spec"].get("entries") for s in world.items(SLICES)), "the plan is written")
    return address


def state(world: World) -> Object:
    return dict(world.get(f"{STATES}/node-0")["status"])


def run(
    node: ClusterNode, *words: str, env: Mapping[str, str] | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """The program in the node's namespace, to its end."""
    environment = {"PATH": os.environ["PATH"], **(env or {})}
    done = node.host.namespace.run([str(PROGRAM), "run", *words], check=False, timeout=90, env=environment)
    assert done.returncode == code, done.stderr
    return done


def words(node: ClusterNode) -> tuple[str, ...]:
    return ("--kubeconfig", str(node.kubeconfig), "--node-name", node.name, "--state-dir", str(node.kernel.state))


def test_once_is_one_list_one_pass_and_one_report(world: World, node: ClusterNode, planned: str) -> None:
    """Its report is printed and in the cluster; a second run changes nothing and writes nothing."""
    node.connect()
    told = json.loads(run(node, *words(node), "--once", "-o", "json").stdout)
    assert told["limits"] == {"desired": 1, "programmed": 1, "failed": 0}
    assert node.rates([planned]) == [5_000_000]
    assert state(world)["state"] == "InForce"
    before = world.get(f"{STATES}/node-0")["metadata"]["resourceVersion"]
    assert json.loads(run(node, *words(node), "--once", "-o", "json").stdout)["changes"] == 0
    assert world.get(f"{STATES}/node-0")["metadata"]["resourceVersion"] == before


def test_once_without_an_api_server_changes_nothing(network: Fleet, node: ClusterNode, planned: str) -> None:
    """It says why, and what is in the kernel stays."""
    node.connect()
    run(node, *words(node), "--once")
    node.disconnect()
    assert "the plan cannot be read" in run(node, *words(node), "--once", code=1).stderr
    assert node.rates([planned]) == [5_000_000]


def test_what_is_missing_is_told(node: ClusterNode, tmp_path: pathlib.Path) -> None:
    """No name of the Node, no cluster, a kubeconfig that is none: one line, and exit code 1."""
    kubeconfig = ("--kubeconfig", str(node.kubeconfig))
    assert "--node-name" in run(node, *kubeconfig, code=1).stderr
    assert "--kubeconfig" in run(node, "--node-name", "node-0", code=1).stderr
    broken = tmp_path / "kubeconfig"
    broken.write_text("{}")
    told = run(node, "--kubeconfig", str(broken), env={"NODE_NAME": "node-0"}, code=1).stderr
    assert str(broken) in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("module", "name", "function"),
    [
        (".limits.cluster", "plan_source", "decoded"),
        (".reporting", "node_report", "same"),
        (".reporting", "node_report", "state"),
        (".limits.cluster", "stored_plan", "_line"),
    ],
)
def test_a_bug_in_any_thread_ends_the_program_and_lifts_nothing(
    node: ClusterNode, planned: str, tmp_path: pathlib.Path, module: str, name: str, function: str
) -> None:
    """Whoever started it sees that it ended, and starts it again; the limits stay in force meanwhile."""
    node.connect()
    run(node, *words(node), "--once")
    (node.kernel.state / "plan.json").unlink()
    script = BROKEN.format(module=module, name=name, function=function)
    done = node.host.namespace.run(
        [sys.executable, "-c", script, "run", *words(node)],
        check=False,
        timeout=90,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 1
    assert "a bug" in done.stderr
    assert node.rates([planned]) == [5_000_000]


def test_a_disk_that_keeps_nothing_is_told(world: World, node: ClusterNode, planned: str) -> None:
    """The limits are in force all the same, and the node's state says what a start without the API would lack."""
    node.kernel.state.parent.mkdir(parents=True, exist_ok=True)
    node.kernel.state.write_text("in the way")
    node.start()
    world.wait_ready("a")
    assert node.rates([planned]) == [5_000_000]
    world.wait(lambda: "a start without the API server" in state(world)["message"], "it is told")


def test_a_state_that_somebody_deletes_is_there_again_at_once(world: World, node: ClusterNode, planned: str) -> None:
    """Long before the next report is due, with all that the node had said; again and again."""
    node.start()
    world.wait_ready("a")
    for _ in range(2):
        world.settled()
        before = world.get(f"{STATES}/node-0")["metadata"]["uid"]
        world.api.request("DELETE", STATES)
        world.wait(lambda before=before: world.get(f"{STATES}/node-0")["metadata"]["uid"] != before, "it is there", 20)  # type: ignore[misc]
        world.wait(lambda: state(world)["state"] == "InForce", "it says what it said", 20)
    assert node.rates([planned]) == [5_000_000]


def test_a_stop_is_a_stop(world: World, node: ClusterNode, planned: str) -> None:
    """SIGTERM ends it at once with 0, whatever its watches wait for, and leaves everything as it is but for two words
    in its state, which say that no agent looks after the node."""
    node.start()
    world.wait_ready("a")
    before = state(world)
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    assert node.rates([planned]) == [5_000_000]
    assert state(world) == before | node_state.STOPPED
