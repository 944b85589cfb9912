"""`bandwidth-operator check`: what `helm test` runs, on installations that work and on such that do not."""

from __future__ import annotations

import os
import subprocess
import sys

from bandwidth_kube import client
from cluster.world import NAMESPACE, NODES, SLICES, World, limit

DEADLINE_SECONDS = 120.0
DAEMONSET = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/client-bandwidth-agent"


def check(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it with the operator's rights."""
    kubeconfig = world.plane.kubeconfig("operator", token=world.operator_token())
    command = (sys.executable, "-m", "bandwidth_operator.cli", "check", "--kubeconfig", str(kubeconfig), *words)
    environment = {"PATH": os.environ["PATH"], "POD_NAMESPACE": NAMESPACE}
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, env=environment)


def should_run_on(world: World, nodes: int) -> None:
    """Have the DaemonSet's status say what its controller would."""
    counts = {
        "desiredNumberScheduled": nodes,
        "currentNumberScheduled": nodes,
        "numberReady": 0,
        "numberMisscheduled": 0,
    }
    world.api.request("PATCH", f"{DAEMONSET}/status", body={"status": counts}, content_type=client.MERGE_PATCH)


def test_an_installation_that_works(world: World) -> None:
    """It waits until every node of the DaemonSet is at the plan, and says how many there are."""
    should_run_on(world, 2)
    world.operator()
    world.create(limit("a"))
    world.agent("node-0")
    world.agent("node-1")
    done = check(world, "--timeout", "100", "--daemonset", "client-bandwidth-agent")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 limits, 2 nodes, all at the plan" in done.stdout


def test_a_cluster_without_an_operator(world: World) -> None:
    """There is no plan, and no operator acts."""
    done = check(world, "--timeout", "1")
    assert done.returncode == 1
    assert "leases" in done.stderr
    assert "not found" in done.stderr


def test_a_node_without_an_agent(world: World) -> None:
    """The DaemonSet knows of one more than have reported."""
    should_run_on(world, 2)
    world.operator()
    world.agent("node-0")
    world.create(limit("a"))
    world.wait_ready("a", seconds=DEADLINE_SECONDS)
    done = check(world, "--timeout", "1", "--daemonset", "client-bandwidth-agent")
    assert done.returncode == 1
    assert "2 nodes should run an agent, 1 have reported" in done.stderr


def test_a_node_that_is_behind_and_one_that_is_not_ready(world: World) -> None:
    """Both are named."""
    world.operator()
    for name in ("node-0", "node-1", "node-2"):
        world.agent(name)
    world.create(limit("a"))
    world.wait_ready("a", seconds=DEADLINE_SECONDS)
    world.agents["node-1"].pause()
    status = {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}]}}
    world.api.request("PATCH", f"{NODES}/node-2/status", body=status, content_type=client.MERGE_PATCH)
    world.edit("a", egress={"rate": "9Mbit"})
    world.wait(lambda: "9000000" in str(world.items(SLICES)), "the edit is published", DEADLINE_SECONDS)
    world.wait(lambda: world.agents["node-0"].limits == {"a": 9_000_000}, "node-0 follows", DEADLINE_SECONDS)
    done = check(world, "--timeout", "20")
    assert done.returncode == 1
    assert "node-1: has not brought its kernel to the plan yet" in done.stderr
    assert "node-2: the node is not Ready" in done.stderr
    assert "node-0" not in done.stderr


def test_a_limit_that_fails_is_told_and_fails_nothing(world: World) -> None:
    """The installation works all the same; what a node says cannot steer a terminal."""
    world.operator()
    agent = world.agent("node-0")
    agent.fail("a", message="no \x1b[2J\nmemory")
    world.create(limit("a"))
    world.wait_ready("a", reason="KernelRefused", seconds=DEADLINE_SECONDS)
    done = check(world)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"node-0: 1 of 1 limits are not in force: a: no \x1b[2J\nmemory" in done.stdout
