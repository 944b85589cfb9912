"""A namespace with two interfaces whose far ends are in it too, so that what leaves by each is seen as it arrives."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence

from bandwidth_agent.kernel import objects
from bandwidth_lab.namespaces import Lab, Namespace
from kernel.bpf.node import Node, table
from kernel.tc import shapes

CLIENTS = {4: "198.51.100.7", 6: "2001:db8:5::7"}
CLASS = 7
_EVERY = 0x0003
_MARKER = b"a datagram of this test "


@contextlib.contextmanager
def host() -> Iterator[Namespace]:
    with Lab("ku-") as lab:
        made = lab.namespace("host")
        for name in ("eth0", "eth1"):
            made.ip(f"link add {name} type veth peer name far-{name}", f"link set far-{name} up")
        made.ip("link set eth0 up", "link set eth1 up")
        yield made


def addressed(where: Namespace, device: str) -> None:
    """The clients are neighbours on this device."""
    where.ip(
        f"address add 198.51.100.1/24 dev {device}",
        f"address add 2001:db8:5::1/64 dev {device} nodad",
        *(f"neigh replace {client} lladdr 02:00:00:00:00:01 dev {device} nud permanent" for client in CLIENTS.values()),
    )


def limited(node: Node, interfaces: Sequence[str]) -> None:
    """One class for both clients, and the program on these interfaces."""
    node.apply(objects.PutPair(0), *shapes.tree_on("cblv0", {CLASS: shapes.enforce(1_000_000_000, shapes.WHOLE)}))
    node.put(*(table(family, {client: CLASS}) for family, client in CLIENTS.items()))
    node.apply(*(objects.PutProgram(name, objects.Program(0), None) for name in interfaces))


def assert_each_is_limited_once(node: Node, far: str, count: int = 5) -> None:
    """Of datagrams to both clients each arrives at this far end, once, and was counted once by their class."""
    before = _counted(node)
    with node.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY)) as arriving:
        arriving.bind((far, _EVERY))
        arriving.settimeout(10.0)
        for number in range(count):
            for family, client in CLIENTS.items():
                kind = socket.AF_INET if family == 4 else socket.AF_INET6
                with node.namespace.socket(kind, socket.SOCK_DGRAM) as sender:
                    sender.sendto(_MARKER + bytes([family, number]), (client, 9))
        wanted = sorted((family, number) for family in CLIENTS for number in range(count))
        found: list[tuple[int, int]] = []
        while len(found) < len(wanted):
            _, marker, rest = arriving.recv(1 << 16).partition(_MARKER)
            if marker:
                found.append((rest[0], rest[1]))
        assert sorted(found) == wanted
    assert _counted(node) - before == len(wanted)


def _counted(node: Node) -> int:
    return node.control.counters()[0]["cblv0"][CLASS].packets
