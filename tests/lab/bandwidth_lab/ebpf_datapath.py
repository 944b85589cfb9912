"""A node with an eBPF datapath, as Cilium's and Calico's in what matters: netfilter never sees a packet of its pod.

    client ── router ── eth0 ┬ from the net: node:node port → pod:port ──redirect──▶ pod0 ── eth0 pod
                             └ to the net: the walk ends  ◀──redirect── from the pod: pod:port → node:node port

Services are translated by programs at the interfaces, IPv4 and IPv6, TCP and UDP; `bpf_redirect_neigh` takes a packet
from one interface to the other. The programs are at TCX, or filters of clsact at preference 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
from collections.abc import Iterator, Sequence

from bandwidth_lab import ebpf, ebpf_translation
from bandwidth_lab.ebpf_translation import End, Translation
from bandwidth_lab.namespaces import Namespace
from bandwidth_lab.topology import SERVER4, SERVER6, Host, Network, star

NODE_PORT, POD_PORT = 30993, 8080
SERVICE4, SERVICE6 = "192.0.2.77", "2001:db8:0:1::77"  # the pod's own too, where it answers directly
POD4, POD6 = "10.9.0.2", "fd00:9::2"
_NEXT4, _NEXT6 = "169.254.1.1", "fe80::1"  # the pod's gateway: the node, whatever its addresses


@dataclasses.dataclass(frozen=True)
class DatapathNode:
    """A node of which the pod's traffic is carried by eBPF alone. A client dials `dial(family)` and reaches `pod`."""

    network: Network
    pod: Host
    pod_device: str
    direct: bool = False  # the pod answers under the address that was dialled

    @property
    def port(self) -> int:
        """Where the pod listens."""
        return NODE_PORT if self.direct else POD_PORT

    @property
    def node(self) -> Namespace:
        """The node itself, where the agent runs."""
        return self.network.server.namespace

    @property
    def clients(self) -> Sequence[Host]:
        """The clients of the node."""
        return self.network.clients

    def dial(self, family: int) -> tuple[str, int]:
        """The address and port under which clients reach the pod."""
        four, six = (SERVICE4, SERVICE6) if self.direct else (SERVER4, SERVER6)
        return (four if family == 4 else six), NODE_PORT


@contextlib.contextmanager
def datapath_node(
    clients: int = 1,
    *,
    prefix: str = "lab-",
    pod_device: str = "pod0",
    way: ebpf.Way = "tcx",
    names: tuple[str, str, str] = ("", "", ""),
    ends_walk: bool = True,
    uplinks: int = 1,
    leaves_by: str = "eth0",
    direct: bool = False,
    pref: int = 1,
) -> Iterator[DatapathNode]:
    """A star whose server has a pod behind such a datapath. `names`: of the filters from the pod, from and to the net.

    `ends_walk`: the program on the way to the net lets no later program or filter see the packet. `leaves_by`: the
    uplink by which the pod's packets go; clients dial the first one. `direct`: nothing is translated, the pod has the
    address of the service itself (direct server return). `pref`: of the filters.
    """
    with star(clients, uplinks=uplinks, prefix=prefix) as network, contextlib.ExitStack() as stack:
        node = network.server.namespace
        pod = _pod(network, pod_device)
        made = DatapathNode(network, Host(pod, "eth0", POD4, POD6), pod_device, direct)
        if direct:
            _share_address(made)
        uplink, behind = (node.call(lambda n=name: socket.if_nametoindex(n)) for name in (leaves_by, pod_device))  # type: ignore[misc]
        if way == "cls_bpf":
            node.tc(*(f"qdisc add dev {name} clsact" for name in sorted({"eth0", leaves_by, pod_device})))
        programs: tuple[tuple[str, ebpf.Side, bytes], ...] = (
            (pod_device, "ingress", translated(source=True, onto=uplink, direct=direct)),
            ("eth0", "ingress", translated(source=False, onto=behind, direct=direct)),
            (leaves_by, "egress", ebpf.verdict(ebpf.PASS if ends_walk else ebpf.NEXT)),
        )
        for (device, side, program), name in zip(programs, names, strict=True):
            stack.enter_context(ebpf.attached(node, device, side, program, way=way, name=name, pref=pref))
        yield made


def _pod(network: Network, device: str) -> Namespace:
    node, pod = network.server.namespace, network.lab.namespace("pod")
    network.lab.link(pod, "eth0", node, device)
    near, far = _hardware_address(node, device), _hardware_address(pod, "eth0")
    pod.ip(
        f"address add {POD4}/32 dev eth0",
        f"address add {POD6}/128 dev eth0 nodad",
        f"route add {_NEXT4} dev eth0",
        f"route add default via {_NEXT4}",
        f"neighbour add {_NEXT4} lladdr {near} dev eth0 nud permanent",
        f"neighbour add {_NEXT6} lladdr {near} dev eth0 nud permanent",
        f"route add default via {_NEXT6} dev eth0",
    )
    node.ip(
        f"route add {POD4} dev {device}",
        f"route add {POD6} dev {device}",
        f"neighbour add {POD4} lladdr {far} dev {device} nud permanent",
        f"neighbour add {POD6} lladdr {far} dev {device} nud permanent",
    )
    return pod


def _hardware_address(namespace: Namespace, device: str) -> str:
    return str(json.loads(namespace.run(["ip", "-j", "link", "show", device]).stdout)[0]["address"])


def _share_address(made: DatapathNode) -> None:
    """Give the pod the address of the service, and have the router send it to the node."""
    assert made.network.router is not None
    uplink, far = _hardware_address(made.node, "eth0"), _hardware_address(made.pod.namespace, "eth0")
    made.pod.namespace.ip("link set lo up")
    for address, length in ((SERVICE4, 32), (SERVICE6, 128)):
        made.pod.namespace.ip(f"address add {address}/{length} dev lo")
        made.network.router.ip(f"neighbour add {address} lladdr {uplink} dev uplink0 nud permanent")
        made.node.ip(
            f"route add {address}/{length} dev {made.pod_device}",
            f"neighbour add {address} lladdr {far} dev {made.pod_device} nud permanent",
        )


def translated(*, source: bool, onto: int, direct: bool = False) -> bytes:
    """The program that translates pod:port as source to node:node port, or node:node port as destination back.

    What it translates it sends out of the interface with the index `onto`; all else goes on as it is. `direct`: both
    are the service's own address and port.
    """
    every = []
    inside_port = NODE_PORT if direct else POD_PORT
    ends4, ends6 = ((SERVICE4, SERVICE4), (SERVICE6, SERVICE6)) if direct else ((POD4, SERVER4), (POD6, SERVER6))
    for family, af, (pod, node) in ((4, socket.AF_INET, ends4), (6, socket.AF_INET6, ends6)):
        inside = End(socket.inet_pton(af, pod), inside_port)
        outside = End(socket.inet_pton(af, node), NODE_PORT)
        if source:
            every.append(Translation(family, inside, End(), onto, new_source=outside))
        else:
            every.append(Translation(family, End(), outside, onto, new_destination=inside))
    return ebpf_translation.assembled(every)
