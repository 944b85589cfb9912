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
from bandwidth_lab import Host, Lab, Namespace, TcpFlow, WireMeter, ebpf
from bandwidth_lab.ebpf_cluster import Cluster, Service
from bandwidth_lab.kind import datapath

pytestmark = pytest.mark.root

POD_PORT = 5201
NODE_PORTS = {"front": 30001, "back": 30002}
PLENTY = 5_000_000  # bits per second: a connection that is cut off brings none


@dataclasses.dataclass
class Made:
    """Nodes on one network with a client, whose netfilter drops whatever is forwarded."""

    nodes: dict[str, Host]
    pods: dict[str, Host]
    client: Host

    def flow(self, pod: str, family: int, dialled: str = "front") -> TcpFlow:
        dial = (self.nodes[dialled].address(family), NODE_PORTS[pod])
        return TcpFlow(self.pods[pod], self.client, family=family, port=POD_PORT, dial=dial)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with Lab("kc-") as lab:
        net = lab.namespace("net")
        net.ip("link add name br0 type bridge", "link set br0 up")
        hosts = {role: _host(lab, net, role, number) for number, role in enumerate(("front", "back", "client"), 10)}
        client = hosts.pop("client")
        pods = {role: _pod(lab, host.namespace, number) for number, (role, host) in enumerate(hosts.items(), 1)}
        services = tuple(
            Service(role, NODE_PORTS[role], {4: pod.address4, 6: pod.address6}, POD_PORT) for role, pod in pods.items()
        )
        nodes = {role: {4: host.address4, 6: host.address6} for role, host in hosts.items()}
        cluster = Cluster(nodes, {4: "172.18.0.0/16", 6: "fd00:18::/64"}, services)
        folder = _carried(tmp_path_factory.mktemp("carried"), cluster)
        for host in hosts.values():
            for program in ("iptables", "ip6tables"):
                host.namespace.run([program, "-P", "FORWARD", "DROP"])
        running = [_started(folder, role, host.namespace) for role, host in hosts.items()]
        yield Made(hosts, pods, client)
        for process in running:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
        assert hosts["front"].namespace.call(lambda: ebpf.at_tcx("eth0", "egress")) == []


def _carried(folder: pathlib.Path, cluster: Cluster) -> pathlib.Path:
    for name, text in datapath.carried().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "cluster.json").write_text(json.dumps(cluster.as_json()))
    return folder


def _started(folder: pathlib.Path, role: str, node: Namespace) -> subprocess.Popen[str]:
    ready = folder / f"{role}-ready"
    libraries = pathlib.Path(bandwidth_agent.__file__).parents[1]
    environment = {**os.environ, "NODE_NAME": role, "PYTHONPATH": f"{folder}:{libraries}"}
    words = [sys.executable, "-SBu", str(folder / datapath.PROGRAM), str(folder / "cluster.json"), str(ready)]
    process = node.start(words, env=environment)
    deadline = time.monotonic() + 20
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ready.exists(), process.communicate(timeout=5)[0] if process.poll() is not None else "it does not get ready"
    return process


def _host(lab: Lab, net: Namespace, role: str, number: int) -> Host:
    namespace = lab.namespace(role)
    lab.link(namespace, "eth0", net, role)
    net.ip(f"link set {role} master br0")
    host = Host(namespace, "eth0", f"172.18.0.{number}", f"fd00:18::{number}")
    namespace.ip(f"address add {host.address4}/16 dev eth0", f"address add {host.address6}/64 dev eth0 nodad")
    namespace.sysctl({"ipv4.ip_forward": 1, "ipv6.conf.all.forwarding": 1, "ipv4.conf.all.rp_filter": 1})
    return host


def _pod(lab: Lab, node: Namespace, number: int) -> Host:
    """A pod as the plugin ptp makes it."""
    pod = Host(lab.namespace(f"pod{number}"), "eth0", f"10.244.{number}.2", f"fd00:244:{number}::2")
    lab.link(pod.namespace, "eth0", node, "pod0")
    for address, gateway, bits in (
        (pod.address4, f"10.244.{number}.1", 32),
        (pod.address6, f"fd00:244:{number}::1", 128),
    ):
        nodad = " nodad" if ":" in address else ""
        node.ip(f"address add {gateway}/{bits} dev pod0{nodad}", f"route add {address} dev pod0")
        pod.namespace.ip(f"address add {address}/{bits} dev eth0{nodad}", f"route add {gateway} dev eth0")
        pod.namespace.ip(f"route add default via {gateway} dev eth0")
    return pod


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("pod", ["front", "back"])
@pytest.mark.parametrize("dialled", ["front", "back"])
def test_a_node_port_reaches_its_pod_past_netfilter(made: Made, pod: str, family: int, dialled: str) -> None:
    """On either node, whichever was dialled, though the rules of both drop what is forwarded."""
    with made.flow(pod, family, dialled), WireMeter(made.client) as meter:
        assert meter.measure(0.3) > PLENTY


def test_nodes_and_their_own_pods_speak_as_ever(made: Made) -> None:
    """A probe of the node, and what is asked of a node by another one, are not translated."""
    node, pod = made.nodes["front"], made.pods["front"]
    for family in (4, 6):
        with TcpFlow(pod, node, family=family, port=POD_PORT, dial=(pod.address(family), POD_PORT)):
            assert _arrives(node, "pod0")
        with TcpFlow(node, made.nodes["back"], family=family, port=NODE_PORTS["front"]):
            assert _arrives(made.nodes["back"], "eth0")


def test_the_programs_at_tcx_are_counted(made: Made) -> None:
    """One to the net ends the walk there; another one behind it is told after it."""
    node = made.nodes["front"].namespace
    (ours,) = node.call(lambda: ebpf.at_tcx("eth0", "egress"))
    with ebpf.attached(node, "eth0", "egress", ebpf.verdict(ebpf.NEXT)):
        first, _ = node.call(lambda: ebpf.at_tcx("eth0", "egress"))
        assert first == ours
    assert node.call(lambda: ebpf.at_tcx("eth0", "egress")) == [ours]


def _arrives(host: Host, interface: str) -> bool:
    with WireMeter(dataclasses.replace(host, interface=interface)) as meter:
        return meter.measure(0.3) > PLENTY
