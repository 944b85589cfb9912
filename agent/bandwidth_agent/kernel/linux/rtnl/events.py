"""Events of the network namespace: a socket that becomes readable when the kernel state may have changed.

Owns the subscription, and a filter in the kernel that drops events which do not matter: those of our own requests, and
of routes that are no default route. Never reads state: an event only means that something has changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import socket
import struct
from collections.abc import Iterable

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.rtnl import links

_GROUPS = (1, 4, 5, 7, 9, 11)  # LINK, TC, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE
_NEXT_HOP_GROUP = 32  # NEXTHOP, since Linux 5.3
_LINK = (16, 17)
_ADDRESS = (20, 21)
_ROUTE = (24, 25)
_NEXT_HOP = (104, 105)
_TC = range(36, 48)

_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER
_RECEIVE_BUFFER_BYTES = 1 << 20
_RECEIVE_BYTES = 1 << 16

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_JUMP_IF_EQUAL, _RETURN = 0x15, 0x06
_KEEP = (_RETURN, 0, 0, 0xFFFF_FFFF)
_DROP = (_RETURN, 0, 0, 0)
_TYPE_OFFSET, _PORT_OFFSET, _DESTINATION_LENGTH_OFFSET = 4, 12, 17


@dataclasses.dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds of events since the last call; all False or empty: none that concerns us."""

    tc: bool = False
    links: bool = False
    routes: bool = False
    addresses: bool = False
    lost: bool = False  # more came than the socket could hold: anything may have changed
    lost_links: frozenset[str] = frozenset()  # devices that went away or down, or were made and are not up yet

    def __bool__(self) -> bool:
        return self.tc or self.links or self.routes or self.addresses or self.lost


class Events:
    """A subscription in the network namespace of the calling thread.

    `ignore`: port ids of our own request sockets. The kernel puts the port id of the requester into the event, so our
    own changes of qdiscs, classes and filters cause no wake-up; their consequences (a device that comes up) still do.
    """

    def __init__(self, ignore: Iterable[int] = ()) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        try:
            netlink.enlarge_receive_buffer(self._socket, _RECEIVE_BUFFER_BYTES)
            self._attach(_program(ignore))
            self._socket.bind((0, 0))
            for group in _GROUPS:
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
            with contextlib.suppress(OSError):  # a kernel without it has no such routes either
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NEXT_HOP_GROUP)
        except BaseException:
            self._socket.close()
            raise

    def _attach(self, program: bytes) -> None:
        buffer = ctypes.create_string_buffer(program, len(program))
        description = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, description)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def drain(self) -> Kinds:
        """Read all events that have arrived, without waiting, and return their kinds."""
        seen: set[int] = set()
        lost_links: set[str] = set()
        lost = False
        while True:
            try:
                buffer = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            _read(buffer, seen, lost_links)
        return Kinds(
            tc=not seen.isdisjoint(_TC),
            links=not seen.isdisjoint(_LINK),
            routes=not seen.isdisjoint((*_ROUTE, *_NEXT_HOP)),
            addresses=not seen.isdisjoint(_ADDRESS),
            lost=lost,
            lost_links=frozenset(lost_links),
        )


def _read(buffer: bytes, seen: set[int], lost_links: set[str]) -> None:
    offset = 0
    while offset + 16 <= len(buffer):
        length, kind, _, _, _ = netlink.HEADER.unpack_from(buffer, offset)
        if length < 16:
            return
        seen.add(kind)
        if kind in _LINK:
            name = links.name_if_lost(buffer, offset + 16, offset + length, deleted=kind == links.DELETE_LINK)
            if name:
                lost_links.add(name)
        offset += (length + 3) & ~3


def _program(ignore: Iterable[int]) -> bytes:
    """Return the BPF program that drops the events of our own ports, and those of routes with a destination."""
    instructions: list[tuple[int, int, int, int]] = [(_LOAD_WORD, 0, 0, _PORT_OFFSET)]
    for port in ignore:
        instructions += [(_JUMP_IF_EQUAL, 0, 1, _as_loaded("I", port)), _DROP]
    instructions.append((_LOAD_HALF, 0, 0, _TYPE_OFFSET))
    for kind in _ROUTE:
        instructions += [
            (_JUMP_IF_EQUAL, 0, 4, _as_loaded("H", kind)),
            (_LOAD_BYTE, 0, 0, _DESTINATION_LENGTH_OFFSET),
            (_JUMP_IF_EQUAL, 0, 1, 0),
            _KEEP,
            _DROP,
        ]
    instructions.append(_KEEP)
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)


def _as_loaded(form: str, value: int) -> int:
    """Convert a value to network byte order, in which BPF loads what netlink writes in the machine's order."""
    return int(struct.unpack(f"!{form}", struct.pack(f"={form}", value))[0])
