"""Two nodes in namespaces, a pod on each, and clients on their network, as a cluster with an eBPF datapath has them.

    client 0, 1 ──┬── eth0 front ── pod0 ── eth0 pod     the net is one bridge, with a gateway
                  └── eth0 back ─── pod0 ── eth0 pod

The rules of both nodes drop whatever is forwarded: what reaches a pod from a client, netfilter has not seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

from bandwidth_lab import ebpf_cluster
from bandwidth_lab.ebpf_cluster import Cluster, Service
from bandwidth_lab.namespaces import Lab, Namespace
from bandwidth_lab.topology import Host
from bandwidth_lab.traffic import TcpFlow

POD_PORT = 5201
NODE_PORTS = {"front": 30001, "back": 30002}  # by the node of the pod
POD_DEVICE = "pod0"
_CLIENTS = {4: "172.18.0.0/16", 6: "fd00:18::/64"}
_GATEWAYS = {4: "172.18.0.1", 6: "fd00:18::1"}


@dataclasses.dataclass(frozen=True)
class Nodes:
    """Both nodes and their pods by role, and the clients; `described` is what a datapath has to know of them."""

    nodes: Mapping[str, Host]
    pods: Mapping[str, Host]
    clients: tuple[Host, ...]
    described: Cluster

    def flow(self, pod: str, family: int, *, dialled: str = "front", client: int = 0) -> TcpFlow:
        """A transfer from a node's pod to a client, who dialled the pod's node port on a node."""
        dial = (self.nodes[dialled].address(family), NODE_PORTS[pod])
        return TcpFlow(self.pods[pod], self.clients[client], family=family, port=POD_PORT, dial=dial)


@contextlib.contextmanager
def nodes(clients: int = 1, *, prefix: str = "lab-", direct: bool = False) -> Iterator[Nodes]:
    """The nodes without a datapath; `direct` as in `Cluster`."""
    with Lab(prefix) as lab:
        net = lab.namespace("net")
        net.ip(
            "link add name br0 type bridge",
            "link set br0 up",
            f"address add {_GATEWAYS[4]}/16 dev br0",
            f"address add {_GATEWAYS[6]}/64 dev br0 nodad",
        )
        hosts = {role: _host(lab, net, role, number) for number, role in enumerate(NODE_PORTS, 10)}
        for host in hosts.values():
            host.namespace.sysctl({"ipv4.ip_forward": 1, "ipv6.conf.all.forwarding": 1, "ipv4.conf.all.rp_filter": 1})
            for program in ("iptables", "ip6tables"):
                host.namespace.run([program, "-P", "FORWARD", "DROP"])
        pods = {role: _pod(lab, host.namespace, number) for number, (role, host) in enumerate(hosts.items(), 1)}
        services = tuple(
            Service(role, NODE_PORTS[role], {4: pod.address4, 6: pod.address6}, POD_PORT) for role, pod in pods.items()
        )
        addresses = {role: {4: host.address4, 6: host.address6} for role, host in hosts.items()}
        everybody = tuple(_host(lab, net, f"client{number}", 20 + number) for number in range(clients))
        yield Nodes(hosts, pods, everybody, Cluster(addresses, _CLIENTS, services, direct))


@contextlib.contextmanager
def datapath_nodes(clients: int = 1, *, prefix: str = "lab-", direct: bool = False) -> Iterator[Nodes]:
    """The nodes with the datapath of `ebpf_cluster`, at TCX."""
    with nodes(clients, prefix=prefix, direct=direct) as made, contextlib.ExitStack() as stack:
        for role, host in made.nodes.items():
            pods = {NODE_PORTS[role]: POD_DEVICE}
            stack.enter_context(ebpf_cluster.attached(host.namespace, made.described, role, pods))
        yield made


def _host(lab: Lab, net: Namespace, role: str, number: int) -> Host:
    namespace = lab.namespace(role)
    lab.link(namespace, "eth0", net, role)
    net.ip(f"link set {role} master br0")
    host = Host(namespace, "eth0", f"172.18.0.{number}", f"fd00:18::{number}")
    namespace.ip(
        f"address add {host.address4}/16 dev eth0",
        f"address add {host.address6}/64 dev eth0 nodad",
        *(f"route add default via {gateway}" for gateway in _GATEWAYS.values()),
    )
    return host


def _pod(lab: Lab, node: Namespace, number: int) -> Host:
    """A pod as the plugin ptp makes it."""
    pod = Host(lab.namespace(f"pod{number}"), "eth0", f"10.244.{number}.2", f"fd00:244:{number}::2")
    lab.link(pod.namespace, "eth0", node, POD_DEVICE)
    for address, gateway, bits in (
        (pod.address4, f"10.244.{number}.1", 32),
        (pod.address6, f"fd00:244:{number}::1", 128),
    ):
        nodad = " nodad" if ":" in address else ""
        node.ip(f"address add {gateway}/{bits} dev {POD_DEVICE}{nodad}", f"route add {address} dev {POD_DEVICE}")
        pod.namespace.ip(
            f"address add {address}/{bits} dev eth0{nodad}",
            f"route add {gateway} dev eth0",
            f"route add default via {gateway} dev eth0",
        )
    return pod
