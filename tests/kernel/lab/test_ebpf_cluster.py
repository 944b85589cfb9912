"""The eBPF datapath of the end-to-end tests, in namespaces: two nodes, a pod on each, and a client of one of them.

Each node runs the program that a pod of the DaemonSet runs, from the files that are carried into it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import bandwidth_agent
from bandwidth_lab import Host, Namespace, TcpFlow, WireMeter, ebpf, ebpf_nodes
from bandwidth_lab.ebpf_cluster import Cluster
from bandwidth_lab.ebpf_nodes import NODE_PORTS, POD_PORT, Nodes
from bandwidth_lab.kind import datapath

pytestmark = pytest.mark.root

PLENTY = 5_000_000  # bits per second: a connection that is cut off brings none
READY_SECONDS = 20.0


@pytest.fixture(scope="module", params=[False, True], ids=["by the dialled node", "direct"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with ebpf_nodes.nodes(prefix="kc-", direct=request.param) as nodes:
        folder = _carried(tmp_path_factory.mktemp("carried"), nodes.described)
        running = [_started(folder, role, host.namespace) for role, host in nodes.nodes.items()]
        yield nodes
        for process in running:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=READY_SECONDS) == 0
        assert nodes.nodes["front"].namespace.call(lambda: ebpf.at_tcx("eth0", "egress")) == []


def _carried(folder: pathlib.Path, described: Cluster) -> pathlib.Path:
    for name, text in datapath.carried().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "cluster.json").write_text(json.dumps(described.as_json()))
    return folder


def _started(folder: pathlib.Path, role: str, node: Namespace) -> subprocess.Popen[str]:
    ready = folder / f"{role}-ready"
    libraries = pathlib.Path(bandwidth_agent.__file__).parents[1]
    environment = {**os.environ, "NODE_NAME": role, "PYTHONPATH": f"{folder}:{libraries}"}
    words = [sys.executable, "-SBu", str(folder / datapath.PROGRAM), str(folder / "cluster.json"), str(ready)]
    process = node.start(words, env=environment)
    deadline = time.monotonic() + READY_SECONDS
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ready.exists(), process.communicate(timeout=5)[0] if process.poll() is not None else "it does not get ready"
    return process


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("pod", ["front", "back"])
@pytest.mark.parametrize("dialled", ["front", "back"])
def test_a_node_port_reaches_its_pod_past_netfilter(made: Nodes, pod: str, family: int, dialled: str) -> None:
    """On either node, whichever was dialled; the answer comes from that one, or from the pod's where it is direct."""
    with made.flow(pod, family, dialled=dialled), WireMeter(made.clients[0]) as meter:
        before = {role: _sent_bytes(host) for role, host in made.nodes.items()}
        assert meter.measure(0.3) > PLENTY
        sent = {role: _sent_bytes(host) - before[role] for role, host in made.nodes.items()}
    if pod != dialled:  # a node that does not answer sends on what the client acknowledges, and no more
        assert (sent[dialled] < sent[pod] / 4) == made.described.direct, sent


def test_nodes_and_their_own_pods_speak_as_ever(made: Nodes) -> None:
    """A probe of the node, and what is asked of a node by another one, are not translated."""
    node, pod = made.nodes["front"], made.pods["front"]
    for family in (4, 6):
        with TcpFlow(pod, node, family=family, port=POD_PORT, dial=(pod.address(family), POD_PORT)):
            assert _arrives(node, "pod0")
        with TcpFlow(node, made.nodes["back"], family=family, port=NODE_PORTS["front"]):
            assert _arrives(made.nodes["back"], "eth0")


def test_the_programs_at_tcx_are_counted(made: Nodes) -> None:
    """One to the net ends the walk there; another one behind it is told after it."""
    node = made.nodes["front"].namespace
    (ours,) = node.call(lambda: ebpf.at_tcx("eth0", "egress"))
    with ebpf.attached(node, "eth0", "egress", ebpf.verdict(ebpf.NEXT)):
        first, _ = node.call(lambda: ebpf.at_tcx("eth0", "egress"))
        assert first == ours
    assert node.call(lambda: ebpf.at_tcx("eth0", "egress")) == [ours]


def _sent_bytes(host: Host) -> int:
    devices = host.namespace.call(lambda: pathlib.Path("/proc/thread-self/net/dev").read_text())
    return next(int(line.split()[9]) for line in devices.splitlines() if line.split()[0] == "eth0:")


def _arrives(host: Host, interface: str) -> bool:
    with WireMeter(dataclasses.replace(host, interface=interface)) as meter:
        return meter.measure(0.3) > PLENTY
