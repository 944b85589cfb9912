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
import sys
from collections.abc import Iterator, Sequence

from bandwidth_lab import ebpf
from bandwidth_lab.ebpf import R0, R1, R2, R3, R4, R5, R6, STACK
from bandwidth_lab.namespaces import Namespace
from bandwidth_lab.topology import SERVER4, SERVER6, Host, Network, star

NODE_PORT, POD_PORT = 30993, 8080
POD4, POD6 = "10.9.0.2", "fd00:9::2"
_NEXT4, _NEXT6 = "169.254.1.1", "fe80::1"  # the pod's gateway: the node, whatever its addresses

_LOAD_BYTES, _STORE_BYTES, _L3_CHECKSUM, _L4_CHECKSUM, _REDIRECT_NEIGH = 26, 9, 10, 11, 152
_PSEUDO_HEADER, _MANGLED_0 = 1 << 4, 1 << 5
_PROTOCOL_FIELD = 16  # of struct __sk_buff
_TCP, _UDP = 6, 17
_READ, _WRITE = -16, -32  # places on the stack


@dataclasses.dataclass(frozen=True)
class _Family:
    """Where things are in a packet with an Ethernet header and no options."""

    ether_type: bytes
    protocol: int
    addresses: tuple[int, int]  # source, destination
    header_checksum: int | None
    ports: int


_V4 = _Family(b"\x08\x00", 23, (26, 30), 24, 34)
_V6 = _Family(b"\x86\xdd", 20, (22, 38), None, 54)


@dataclasses.dataclass(frozen=True)
class DatapathNode:
    """A node of which the pod's traffic is carried by eBPF alone. A client dials `dial(family)` and reaches `pod`."""

    network: Network
    pod: Host
    pod_device: str

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
        return (SERVER4 if family == 4 else SERVER6), NODE_PORT


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
) -> Iterator[DatapathNode]:
    """A star whose server has a pod behind such a datapath. `names`: of the filters from the pod, from and to the net.

    `ends_walk`: the program on the way to the net lets no later program or filter see the packet. `leaves_by`: the
    uplink by which the pod's packets go; clients dial the first one.
    """
    with star(clients, uplinks=uplinks, prefix=prefix) as network, contextlib.ExitStack() as stack:
        node = network.server.namespace
        pod = _pod(network, pod_device)
        made = DatapathNode(network, Host(pod, "eth0", POD4, POD6), pod_device)
        uplink, behind = (node.call(lambda n=name: socket.if_nametoindex(n)) for name in (leaves_by, pod_device))  # type: ignore[misc]
        if way == "cls_bpf":
            node.tc(*(f"qdisc add dev {name} clsact" for name in sorted({"eth0", leaves_by, pod_device})))
        programs: tuple[tuple[str, ebpf.Side, bytes], ...] = (
            (pod_device, "ingress", translated(source=True, onto=uplink)),
            ("eth0", "ingress", translated(source=False, onto=behind)),
            (leaves_by, "egress", ebpf.verdict(ebpf.PASS if ends_walk else ebpf.NEXT)),
        )
        for (device, side, program), name in zip(programs, names, strict=True):
            stack.enter_context(ebpf.attached(node, device, side, program, way=way, name=name))
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


def translated(*, source: bool, onto: int) -> bytes:
    """The program that translates pod:port as source to node:node port, or node:node port as destination back.

    What it translates it sends out of the interface with the index `onto`; all else goes on as it is.
    """
    made = ebpf.Program()
    made.copy(R6, R1)
    made.load(R2, R6, _PROTOCOL_FIELD, 4)
    made.if_equal(R2, _native(_V4.ether_type), "v4")
    made.if_equal(R2, _native(_V6.ether_type), "v6")
    made.go("other")
    for label, family, af in (("v4", _V4, socket.AF_INET), ("v6", _V6, socket.AF_INET6)):
        made.label(label)
        pod, node = (socket.inet_pton(af, a) for a in ((POD4, SERVER4) if label == "v4" else (POD6, SERVER6)))
        old, new = (pod, node) if source else (node, pod)
        ports = (POD_PORT, NODE_PORT) if source else (NODE_PORT, POD_PORT)
        at_address, at_port = family.addresses[0 if source else 1], family.ports + (0 if source else 2)
        _read(made, at_address, len(old))
        for start in range(0, len(old), 4):
            made.load(R2, STACK, _READ + start, 4)
            made.unless_equal(R2, _native(old[start : start + 4]), "other")
        _read(made, at_port, 2)
        made.load(R2, STACK, _READ, 2)
        made.unless_equal(R2, _native(ports[0].to_bytes(2, "big")), "other")
        _read(made, family.protocol, 1)
        made.load(R2, STACK, _READ, 1)
        made.if_equal(R2, _TCP, f"{label} tcp")
        made.unless_equal(R2, _UDP, "other")
        _correct_transport(made, family.ports + 6, _MANGLED_0, old, new, ports)
        made.go(f"{label} store")
        made.label(f"{label} tcp")
        _correct_transport(made, family.ports + 16, 0, old, new, ports)
        made.label(f"{label} store")
        if family.header_checksum is not None:
            _correct(made, _L3_CHECKSUM, family.header_checksum, _native(old), _native(new), 4)
        _store(made, at_address, new)
        _store(made, at_port, ports[1].to_bytes(2, "big"))
        made.go("send")
    made.label("send")
    made.move(R1, onto)
    for register in (R2, R3, R4):
        made.move(register, 0)
    made.call(_REDIRECT_NEIGH)
    made.leave()
    made.label("other")
    made.leave(ebpf.PASS)
    return made.assembled()


def _read(made: ebpf.Program, offset: int, size: int) -> None:
    """Copy bytes of the packet to the stack; a packet that is too short goes on as it is."""
    made.copy(R1, R6)
    made.move(R2, offset)
    made.copy(R3, STACK)
    made.add(R3, _READ)
    made.move(R4, size)
    made.call(_LOAD_BYTES)
    made.unless_equal(R0, 0, "other")


def _store(made: ebpf.Program, offset: int, data: bytes) -> None:
    made.put(_WRITE, data)
    made.copy(R1, R6)
    made.move(R2, offset)
    made.copy(R3, STACK)
    made.add(R3, _WRITE)
    made.move(R4, len(data))
    made.move(R5, 0)
    made.call(_STORE_BYTES)


def _correct_transport(
    made: ebpf.Program, offset: int, flags: int, old: bytes, new: bytes, ports: tuple[int, int]
) -> None:
    """Make the checksum of TCP or UDP right for another address and another port."""
    before, after = (_native(port.to_bytes(2, "big")) for port in ports)
    if len(old) == 4:
        _correct(made, _L4_CHECKSUM, offset, _native(old), _native(new), flags | _PSEUDO_HEADER | 4)
    else:
        _correct(made, _L4_CHECKSUM, offset, 0, _difference(old, new), flags | _PSEUDO_HEADER)
    _correct(made, _L4_CHECKSUM, offset, before, after, flags | 2)


def _correct(made: ebpf.Program, helper: int, offset: int, before: int, after: int, flags: int) -> None:
    made.copy(R1, R6)
    for register, number in ((R2, offset), (R3, before), (R4, after), (R5, flags)):
        made.move(register, number)
    made.call(helper)


def _difference(old: bytes, new: bytes) -> int:
    """What the sum of 32-bit words changes by, as the kernel's checksums add."""
    total = 0
    for start in range(0, len(old), 4):
        total += ~_native(old[start : start + 4]) & 0xFFFF_FFFF
        total += _native(new[start : start + 4])
    while total >> 32:
        total = (total & 0xFFFF_FFFF) + (total >> 32)
    return total


def _native(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)
