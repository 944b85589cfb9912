"""An eBPF datapath over several nodes: NodePorts reach their pods past netfilter, on this node or on another one.

    client ── eth0 of the dialled node ──┬── pod here: dialled:node port → pod:port, and back
                                         └── eth0 of the pod's node ── pod     the client's network gets a stand-in,
                                                                              one for each dialled node, so that
                                                                              answers come back by it
No packet of it meets a routing decision or a rule on any node; `bpf_redirect_neigh` takes each on. What pods and nodes
say to each other goes its usual way. Nothing is stored: stand-ins are prefixes of the length of the clients' network.

Pure but for `attached`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Self

from bandwidth_lab import ebpf, ebpf_translation
from bandwidth_lab.ebpf_translation import End, Translation

UPLINK = "eth0"
_STAND_INS = {4: bytes((100, 64)), 6: bytes((0xFD, 0xCB, 0, 0, 0, 0, 0, 0))}  # the last byte grows with the node
_STAND_IN_BYTES = {4: 2, 6: 8}  # of the clients' network, which is at least so long: /16, /64


@dataclasses.dataclass(frozen=True)
class Service:
    """A NodePort and its one pod, on `node`; addresses by family."""

    node: str
    node_port: int
    pod: Mapping[int, str]
    pod_port: int


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Nodes and networks of clients, with addresses by family; nodes may be in the clients' network."""

    nodes: Mapping[str, Mapping[int, str]]
    clients: Mapping[int, str]  # networks such as 172.18.0.0/16
    services: tuple[Service, ...]
    direct: bool = False  # the node of a pod answers clients itself, whichever node they dialled (DSR)

    def as_json(self) -> dict[str, Any]:
        """The same for `read`."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """What `as_json` became in a file."""
        return cls(
            {name: _by_family(addresses) for name, addresses in data["nodes"].items()},
            _by_family(data["clients"]),
            tuple(Service(**{**one, "pod": _by_family(one["pod"])}) for one in data["services"]),
            data["direct"],
        )


def _by_family(data: Mapping[str, str]) -> dict[int, str]:
    return {int(family): text for family, text in data.items()}


def translations(
    cluster: Cluster, node: str, pods: Mapping[int, str], numbers: Mapping[str, int]
) -> dict[str, list[Translation]]:
    """What a node's programs translate of what arrives, by interface.

    `pods`: the device of each pod that is here, by its node port. `numbers`: of these devices and the uplink.
    """
    made: dict[str, list[Translation]] = {UPLINK: [], **{device: [] for device in pods.values()}}
    for service in cluster.services:
        device = pods.get(service.node_port)
        for family in cluster.clients:
            hop = _Hop(cluster, service, family)
            made[UPLINK] += hop.of_nodes(node)
            if device is None:
                made[UPLINK] += hop.to_another(node, numbers[UPLINK])
            else:
                made[UPLINK] += hop.to_pod(node, numbers[device])
                made[device] += hop.from_pod(node, numbers[UPLINK])
    return made


class _Hop:
    """One service in one family, seen from a node."""

    def __init__(self, cluster: Cluster, service: Service, family: int) -> None:
        self._cluster, self._service, self._family = cluster, service, family
        network = ipaddress.ip_network(cluster.clients[family])
        self._clients = End(network.network_address.packed[: _STAND_IN_BYTES[family]])
        self._pod = End(_packed(service.pod[family]), service.pod_port)

    def _dialled(self, node: str) -> End:
        return End(_packed(self._cluster.nodes[node][self._family]), self._service.node_port)

    def _stand_in(self, node: str) -> End:
        base = _STAND_INS[self._family]
        return End(base[:-1] + bytes((base[-1] + sorted(self._cluster.nodes).index(node),)))

    def of_nodes(self, node: str) -> Iterator[Translation]:
        """What nodes ask of this one is left to the usual way."""
        for addresses in self._cluster.nodes.values():
            yield Translation(self._family, End(_packed(addresses[self._family])), self._dialled(node))

    def to_pod(self, node: str, pod: int) -> Iterator[Translation]:
        """A client dialled this node, or another one, which sends on what it got."""
        yield Translation(self._family, self._clients, self._dialled(node), pod, new_destination=self._pod)
        for other in self._others(node):
            yield Translation(self._family, self._stand_in(other), self._pod, pod)

    def from_pod(self, node: str, uplink: int) -> Iterator[Translation]:
        """Answers to clients, but not to nodes, whose probes came another way; and back to nodes that were dialled."""
        for addresses in self._cluster.nodes.values():
            yield Translation(self._family, self._pod, End(_packed(addresses[self._family])))
        yield Translation(self._family, self._pod, self._clients, uplink, new_source=self._dialled(node))
        for other in self._others(node):
            stand_in, dialled = self._stand_in(other), self._dialled(other)
            if self._cluster.direct:
                yield Translation(self._family, self._pod, stand_in, uplink, dialled, self._clients)
            else:
                via = _packed(self._cluster.nodes[other][self._family])
                yield Translation(self._family, self._pod, stand_in, uplink, via=via)

    def to_another(self, node: str, uplink: int) -> Iterator[Translation]:
        """A client dialled this node, and the pod is on another one: there, and the answer back to the client."""
        dialled, stand_in, pod = self._dialled(node), self._stand_in(node), self._pod
        via = _packed(self._cluster.nodes[self._service.node][self._family])
        yield Translation(self._family, self._clients, dialled, uplink, stand_in, pod, via)
        yield Translation(self._family, pod, stand_in, uplink, dialled, self._clients)

    def _others(self, node: str) -> Iterator[str]:
        return (other for other in sorted(self._cluster.nodes) if other != node)


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


@contextlib.contextmanager
def attached(place: ebpf.Place, cluster: Cluster, node: str, pods: Mapping[int, str]) -> Iterator[None]:
    """The datapath of one node while this lasts: programs at TCX, of which the one to the net ends the walk there."""
    numbers = {device: place.call(lambda d=device: socket.if_nametoindex(d)) for device in (UPLINK, *pods.values())}  # type: ignore[misc]
    with contextlib.ExitStack() as stack:
        for device, made in translations(cluster, node, pods, numbers).items():
            stack.enter_context(ebpf.attached(place, device, "ingress", ebpf_translation.assembled(made)))
        stack.enter_context(ebpf.attached(place, UPLINK, "egress", ebpf.verdict(ebpf.PASS)))
        yield
