"""`bandwidth-operator clean`: a node that the agents' DaemonSet leaves out is told of, and ended with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bandwidth_lab import node
from bandwidth_lab.fleet import Fleet, fleet
from cluster.world import NAMESPACE, STATES, World, limit

pytestmark = pytest.mark.root

DAEMONSET = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/client-bandwidth-agent"


@pytest.fixture
def network() -> Iterator[Fleet]:
    """Two nodes and a client."""
    with fleet(2, 1, prefix="cl-") as made:
        yield made


def clean(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it with the operator's rights."""
    kubeconfig = world.plane.kubeconfig("operator", token=world.operator_token())
    command = (sys.executable, "-m", "bandwidth_operator.cli", "clean", "--kubeconfig", str(kubeconfig), *words)
    environment = {"PATH": os.environ["PATH"], "POD_NAMESPACE": NAMESPACE}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.long
def test_a_node_that_is_left_out_is_named_and_cleaned_by_one_command(world: World, network: Fleet) -> None:
    """Its limits stay in its kernel and statuses name it; the Pod that the command prints is one that the API server
    takes, its words leave nothing of ours on the node, and statuses count the others alone."""
    client = network.clients[0].address4
    nodes = [world.real_node(f"node-{n}", host, "--report-interval", "10") for n, host in enumerate(network.nodes)]
    before = nodes[1].kernel.snapshot()
    world.operator()
    world.start(*nodes)
    world.create(limit("a", [client]))
    world.wait_ready("a")
    nodes[1].stop()
    assert world.state("node-1")["state"] == "Stopped"
    world.wait_ready("a", reason="NodeNotReporting", seconds=90)
    message = world.conditions("a")["Ready"]["message"]
    assert "node-1" in message
    assert "bandwidth-operator clean node-1" in message
    assert nodes[1].kernel.rate_of(client) == 5_000_000
    done = clean(world, "node-1")
    assert done.returncode == 0, done.stderr
    world.plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=done.stdout)
    pod = json.loads(done.stdout)
    assert pod["spec"]["nodeName"] == "node-1"
    selected = world.get(DAEMONSET)["spec"]["selector"]["matchLabels"]
    assert not selected.items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    words = [w for w in container["args"] if not w.startswith("--state-dir")]
    program = (str(node.PROGRAM), *words, "--state-dir", str(nodes[1].kernel.state))
    nodes[1].host.namespace.run(program)
    assert nodes[1].kernel.snapshot() == before
    world.wait_ready("a")
    assert world.conditions("a")["Ready"]["message"] == "in force on the one node"
    assert [item["metadata"]["name"] for item in world.items(STATES)] == ["node-0"]
    assert nodes[0].kernel.rate_of(client) == 5_000_000


def test_what_cannot_be_cleaned_is_said(world: World) -> None:
    """A node or a DaemonSet that is not there; and nothing is taken away then."""
    world.agent("node-0")
    done = clean(world, "node-7")
    assert done.returncode == 1
    assert 'nodes "node-7" not found' in done.stderr
    done = clean(world, "node-0", "--daemonset", "another")
    assert done.returncode == 1
    assert "daemonsets" in done.stderr
    assert (done.stdout, world.state("node-0") == {}) == ("", False)
