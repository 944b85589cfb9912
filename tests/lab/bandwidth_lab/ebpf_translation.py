"""An eBPF program that translates addresses and ports of TCP and UDP, and sends the packet out of another interface.

It keeps no state: each packet is compared with a list, and the first entry that fits decides. Pure; knows instructions
and layouts of packets, and neither interfaces nor addresses of anybody.
"""

from __future__ import annotations

import dataclasses
import socket
import sys
from collections.abc import Iterable
from typing import NamedTuple

from bandwidth_lab import ebpf
from bandwidth_lab.ebpf import R0, R1, R2, R3, R4, R5, R6, STACK

_LOAD_BYTES, _STORE_BYTES, _L3_CHECKSUM, _L4_CHECKSUM, _REDIRECT_NEIGH = 26, 9, 10, 11, 152
_PSEUDO_HEADER, _MANGLED_0 = 1 << 4, 1 << 5
_PROTOCOL_FIELD = 16  # of struct __sk_buff
_TCP, _UDP = 6, 17
_READ, _WRITE, _NEXT_HOP = -16, -32, -64  # places on the stack
_NEXT_HOP_BYTES = 20  # struct bpf_redir_neigh


class End(NamedTuple):
    """One end of a connection: an address or the first bytes of one, and a port; None and no bytes fit any."""

    address: bytes = b""
    port: int | None = None


@dataclasses.dataclass(frozen=True)
class Translation:
    """Packets between two ends, and the ends that they get instead; of prefixes the rest of an address stays.

    They are sent out of the interface with the index `onto`, to the next hop `via` or to whom the routes name.
    Without `onto` the packet goes on as it is.
    """

    family: int
    source: End
    destination: End
    onto: int | None = None
    new_source: End | None = None
    new_destination: End | None = None
    via: bytes = b""


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where things are in a packet with an Ethernet header and no options."""

    ether_type: bytes
    protocol: int
    addresses: tuple[int, int]  # source, destination
    header_checksum: int | None
    ports: int


_LAYOUTS = {
    4: _Layout(b"\x08\x00", 23, (26, 30), 24, 34),
    6: _Layout(b"\x86\xdd", 20, (22, 38), None, 54),
}


def assembled(translations: Iterable[Translation]) -> bytes:
    """The program that does so; what no translation fits goes on as it is."""
    every = list(translations)
    made = ebpf.Program()
    made.copy(R6, R1)
    made.load(R2, R6, _PROTOCOL_FIELD, 4)
    for family, layout in _LAYOUTS.items():
        made.if_equal(R2, _native(layout.ether_type), f"{family}")
    made.go("leave alone")
    for family, layout in _LAYOUTS.items():
        made.label(f"{family}")
        for number, one in enumerate(t for t in every if t.family == family):
            _translate(made, one, layout, f"{family} {number}")
        made.go("leave alone")
    made.label("leave alone")
    made.leave(ebpf.PASS)
    return made.assembled()


def _translate(made: ebpf.Program, one: Translation, layout: _Layout, name: str) -> None:
    ends = ((one.source, one.new_source), (one.destination, one.new_destination))
    for side, (end, _) in enumerate(ends):
        _compare(made, layout.addresses[side], end.address, f"{name} other")
        if end.port is not None:
            _compare(made, layout.ports + 2 * side, end.port.to_bytes(2, "big"), f"{name} other")
    if one.onto is None:
        made.go("leave alone")
    else:
        _read(made, layout.protocol, 1)
        made.load(R2, STACK, _READ, 1)
        made.if_equal(R2, _TCP, f"{name} tcp")
        made.unless_equal(R2, _UDP, "leave alone")
        _correct_transport(made, layout.ports + 6, _MANGLED_0, ends)
        made.go(f"{name} store")
        made.label(f"{name} tcp")
        _correct_transport(made, layout.ports + 16, 0, ends)
        made.label(f"{name} store")
        _store_ends(made, layout, ends)
        _send(made, one.family, one.onto, one.via)
    made.label(f"{name} other")


_Ends = tuple[tuple[End, End | None], tuple[End, End | None]]


def _correct_transport(made: ebpf.Program, offset: int, flags: int, ends: _Ends) -> None:
    """Make the checksum of TCP or UDP right for other addresses and other ports."""
    for end, new in ends:
        if new is not None and new.address != end.address:
            _correct(made, _L4_CHECKSUM, offset, 0, _difference(end.address, new.address), flags | _PSEUDO_HEADER)
        if new is not None and new.port is not None and end.port is not None:
            before, after = (_native(port.to_bytes(2, "big")) for port in (end.port, new.port))
            _correct(made, _L4_CHECKSUM, offset, before, after, flags | 2)


def _store_ends(made: ebpf.Program, layout: _Layout, ends: _Ends) -> None:
    for side, (end, new) in enumerate(ends):
        if new is None:
            continue
        if new.address != end.address:
            if layout.header_checksum is not None:
                difference = _difference(end.address, new.address)
                _correct(made, _L3_CHECKSUM, layout.header_checksum, 0, difference, 0)
            _store(made, layout.addresses[side], new.address)
        if new.port is not None:
            _store(made, layout.ports + 2 * side, new.port.to_bytes(2, "big"))


def _send(made: ebpf.Program, family: int, onto: int, via: bytes) -> None:
    made.move(R1, onto)
    if via:
        af = socket.AF_INET if family == 4 else socket.AF_INET6
        made.put(_NEXT_HOP, (int(af).to_bytes(4, sys.byteorder) + via).ljust(_NEXT_HOP_BYTES, b"\0"))
        made.copy(R2, STACK)
        made.add(R2, _NEXT_HOP)
        made.move(R3, _NEXT_HOP_BYTES)
    else:
        made.move(R2, 0)
        made.move(R3, 0)
    made.move(R4, 0)
    made.call(_REDIRECT_NEIGH)
    made.leave()


def _compare(made: ebpf.Program, offset: int, wanted: bytes, otherwise: str) -> None:
    """Go to the label unless these bytes are there."""
    for start in range(0, len(wanted), 4):
        part = wanted[start : start + 4]
        _read(made, offset + start, len(part))
        made.load(R2, STACK, _READ, len(part))
        made.unless_equal(R2, _native(part), otherwise)


def _read(made: ebpf.Program, offset: int, size: int) -> None:
    """Copy bytes of the packet to the stack; a packet that is too short goes on as it is."""
    made.copy(R1, R6)
    made.move(R2, offset)
    made.copy(R3, STACK)
    made.add(R3, _READ)
    made.move(R4, size)
    made.call(_LOAD_BYTES)
    made.unless_equal(R0, 0, "leave alone")


def _store(made: ebpf.Program, offset: int, data: bytes) -> None:
    made.put(_WRITE, data)
    made.copy(R1, R6)
    made.move(R2, offset)
    made.copy(R3, STACK)
    made.add(R3, _WRITE)
    made.move(R4, len(data))
    made.move(R5, 0)
    made.call(_STORE_BYTES)


def _correct(made: ebpf.Program, helper: int, offset: int, before: int, after: int, flags: int) -> None:
    made.copy(R1, R6)
    for register, number in ((R2, offset), (R3, before), (R4, after), (R5, flags)):
        made.move(register, number)
    made.call(helper)


def _difference(old: bytes, new: bytes) -> int:
    """What the sum of 32-bit words changes by, as the kernel's checksums add; the bytes begin at an even place."""
    total = 0
    for start in range(0, len(old), 4):
        total += ~_native(old[start : start + 4].ljust(4, b"\0")) & 0xFFFF_FFFF
        total += _native(new[start : start + 4].ljust(4, b"\0"))
    while total >> 32:
        total = (total & 0xFFFF_FFFF) + (total >> 32)
    return total


def _native(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)
