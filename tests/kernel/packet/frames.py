"""Packets put on an interface as bytes, and what is seen of them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from bandwidth_agent.kernel import traffic
from bandwidth_lab.namespaces import Namespace

IPV4, IPV6 = 0x0800, 0x86DD
SOMEBODY = bytes.fromhex("020000000001")


class Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


@contextlib.contextmanager
def opened(namespace: Namespace, make: Callable[[], T]) -> Iterator[T]:
    """What is made in a namespace and used outside of it."""
    with contextlib.closing(namespace.call(make)) as made:
        yield made


def put(namespace: Namespace, interface: str, *packets: bytes) -> None:
    """IP packets on an interface, with the link header that it has."""
    with namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sender:
        for packet in packets:
            protocol = IPV4 if packet[0] >> 4 == 4 else IPV6
            sender.sendto(packet, (interface, protocol, 0, 0, SOMEBODY))


def put_raw(namespace: Namespace, interface: str, *frames: bytes) -> None:
    """Whole frames with their link headers."""
    with namespace.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        for frame in frames:
            sender.sendto(frame, (interface, int.from_bytes(frame[12:14], "big")))


def unicast(packets: list[traffic.Packet]) -> list[traffic.Packet]:
    """Without what a host says to all its neighbours."""
    return [p for p in packets if not (p.family == 6 and p.destination >> 112 == 0xFF02)]


def windows(namespace: Namespace) -> list[str]:
    """The packet sockets of a namespace, as the kernel lists them."""
    return namespace.run(["cat", "/proc/net/packet"]).stdout.splitlines()[1:]
