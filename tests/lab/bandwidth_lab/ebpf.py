"""eBPF programs made of single instructions, loaded and attached by the bpf system call: no compiler, no library.

Owns the assembler, the loader and the ways to attach a program to an interface: TCX, a filter of clsact, XDP. What the
programs do is the business of whoever makes them (`ebpf_datapath`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from bandwidth_agent.kernel import netlink

Side = Literal["ingress", "egress"]
Way = Literal["tcx", "cls_bpf"]

PASS, NEXT = 0, -1  # what a program says: the walk ends here and the packet goes on; the next program is asked

R0, R1, R2, R3, R4, R5, R6, STACK = 0, 1, 2, 3, 4, 5, 6, 10

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280}[os.uname().machine]
_PROG_LOAD, _PROG_QUERY, _LINK_CREATE = 5, 16, 28
_SCHED_CLS, _XDP = 3, 6
_XDP_PASS = 2
_ATTACH_TYPES: dict[Side, int] = {"ingress": 46, "egress": 47}
_INSTRUCTION = struct.Struct("=BBhi")  # code, registers, offset, number
_LOAD = struct.Struct("=IIQQIIQIIQII")
_LOG_BYTES = 1 << 20
_MANY, _COUNT_AT = 64, 24  # of a query: room for programs, and where it says how many there are

_NEW_FILTER, _EVERY_PROTOCOL = 44, 0x0300
_PARENTS: dict[Side, int] = {"ingress": 0xFFFF_FFF2, "egress": 0xFFFF_FFF3}
_KIND, _OPTIONS, _FD, _NAME, _FLAGS, _DIRECT_ACTION = 1, 2, 6, 7, 8, 1

_SET_LINK, _LINK_XDP, _XDP_FD, _XDP_FLAGS, _XDP_SOFTWARE = 19, 43, 1, 3, 1 << 1

_libc = ctypes.CDLL(None, use_errno=True)


class Place(Protocol):
    """A network namespace: what is called there finds its interfaces."""

    def call(self, function: Callable[[], int], /) -> int: ...


class Program:
    """Instructions in order; a jump names a label, which may follow later."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int | str, int]] = []  # code, registers, offset or label, number
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        self._labels[name] = len(self._lines)

    def move(self, register: int, number: int) -> None:
        """register = number, of up to 64 bits."""
        if -(1 << 31) <= number < 1 << 31:
            self._add(0xB7, register, number=number)
        else:
            low, high = number & 0xFFFF_FFFF, number >> 32
            self._add(0x18, register, number=_signed(low))
            self._add(0, number=_signed(high))

    def copy(self, register: int, source: int) -> None:
        self._add(0xBF, register | source << 4)

    def add(self, register: int, number: int) -> None:
        self._add(0x07, register, number=number)

    def load(self, register: int, base: int, offset: int, size: int) -> None:
        """register = so many bytes (1, 2, 4) at base + offset, as this machine reads them."""
        self._add({4: 0x61, 2: 0x69, 1: 0x71}[size], register | base << 4, offset)

    def put(self, offset: int, data: bytes) -> None:
        """Write these bytes on the stack."""
        for start in range(0, len(data), 2):
            self._add(0x6A, STACK, offset + start, int.from_bytes(data[start : start + 2], sys.byteorder))

    def store(self, base: int, offset: int, register: int, size: int = 4) -> None:
        """Write so many bytes (2, 4) of a register at base + offset."""
        self._add({4: 0x63, 2: 0x6B}[size], base | register << 4, offset)

    def count(self, base: int, offset: int, register: int) -> None:
        """Add a register to the 8 bytes at base + offset, whoever else does so."""
        self._add(0xDB, base | register << 4, offset)

    def value(self, register: int, array: int) -> None:
        """register = where the first value of an array map (by its descriptor) is."""
        self._add(0x18, register | 2 << 4, number=array)
        self._add(0)

    def unless_equal(self, register: int, number: int, label: str) -> None:
        """Go to the label unless the low 32 bits of the register are this number."""
        self._add(0x56, register, label, _signed(number))

    def if_equal(self, register: int, number: int, label: str) -> None:
        self._add(0x16, register, label, _signed(number))

    def go(self, label: str) -> None:
        self._add(0x05, 0, label)

    def call(self, helper: int) -> None:
        self._add(0x85, number=helper)

    def leave(self, verdict: int | None = None) -> None:
        """End with this verdict, or with what the last call returned."""
        if verdict is not None:
            self.move(R0, verdict)
        self._add(0x95)

    def assembled(self) -> bytes:
        return b"".join(
            _INSTRUCTION.pack(
                code, registers, self._labels[to] - at - 1 if isinstance(to, str) else to, _signed(number)
            )
            for at, (code, registers, to, number) in enumerate(self._lines)
        )

    def _add(self, code: int, registers: int = 0, to: int | str = 0, number: int = 0) -> None:
        self._lines.append((code, registers, to, number))


def verdict(number: int) -> bytes:
    """The program that says this of every packet."""
    made = Program()
    made.leave(number)
    return made.assembled()


@contextlib.contextmanager
def attached(
    place: Place, interface: str, side: Side, program: bytes, *, way: Way = "tcx", name: str = "", pref: int = 1
) -> Iterator[None]:
    """A program at an interface while this lasts. With `cls_bpf` at this preference of the clsact qdisc that is there.

    A filter goes with its qdisc: at the end it stays. At TCX it ends at the latest with this process.
    """
    descriptor = _load(program, _ATTACH_TYPES[side] if way == "tcx" else 0)
    try:
        if way == "cls_bpf":
            place.call(lambda: _filter(interface, side, descriptor, name, pref))
            yield
            return
        link = place.call(lambda: _link(interface, side, descriptor))
        try:
            yield
        finally:
            os.close(link)
    finally:
        os.close(descriptor)


def at_tcx(interface: str, side: Side) -> list[int]:
    """The programs at TCX in this namespace, by their numbers in the kernel, the first first."""
    room = (ctypes.c_uint32 * _MANY)()
    query = ctypes.create_string_buffer(
        struct.pack(
            "=IIIIQIIQQQQ",
            *(socket.if_nametoindex(interface), _ATTACH_TYPES[side], 0, 0, ctypes.addressof(room), _MANY, 0),
            *(0, 0, 0, 0),  # nothing is asked about flags, links and their flags
        )
    )
    if _libc.syscall(_SYSCALL, _PROG_QUERY, query, len(query) - 1) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return list(room[: struct.unpack_from("=I", query, _COUNT_AT)[0]])


@contextlib.contextmanager
def xdp(place: Place, interface: str) -> Iterator[None]:
    """A program that sees all that arrives at an interface, and lets it go on, while this lasts."""
    descriptor = _load(verdict(_XDP_PASS), 0, kind=_XDP)
    try:
        place.call(lambda: _set_xdp(interface, descriptor))
        yield
        place.call(lambda: _set_xdp(interface, -1))
    finally:
        os.close(descriptor)


def _set_xdp(interface: str, program: int) -> int:
    attributes = netlink.int_attribute(_XDP_FD, program & 0xFFFF_FFFF) + netlink.int_attribute(
        _XDP_FLAGS, _XDP_SOFTWARE
    )
    body = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(interface), 0, 0) + netlink.nest(_LINK_XDP, attributes)
    channel = netlink.Socket()
    try:
        channel.demand(netlink.Message(_SET_LINK, 0, body))
    finally:
        channel.close()
    return program


def _load(code: bytes, attach_type: int, kind: int = _SCHED_CLS) -> int:
    """Load a program. Raises OSError with the end of what the kernel says of it."""
    program, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    begin = (kind, len(code) // _INSTRUCTION.size, ctypes.addressof(program), ctypes.addressof(licence))
    end = (0, 0, 0, 0, attach_type)  # any kernel version, no flags, name or interface
    try:
        return _bpf(_PROG_LOAD, _LOAD.pack(*begin, 0, 0, 0, *end))
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_BYTES)  # too small for all that is said of a long program
        with contextlib.suppress(OSError):
            os.close(_bpf(_PROG_LOAD, _LOAD.pack(*begin, 1, _LOG_BYTES, ctypes.addressof(log), *end)))
        raise OSError(error.errno, f"{error.strerror}: {log.value.decode()[-2000:]}") from None


def _link(interface: str, side: Side, program: int) -> int:
    where = socket.if_nametoindex(interface)
    return _bpf(_LINK_CREATE, struct.pack("=IIIIIIQ", program, where, _ATTACH_TYPES[side], 0, 0, 0, 0))


def _filter(interface: str, side: Side, program: int, name: str, pref: int) -> int:
    options = netlink.int_attribute(_FD, program) + netlink.int_attribute(_FLAGS, _DIRECT_ACTION)
    options += netlink.text_attribute(_NAME, name or "unnamed")
    body = struct.pack(
        "=BxxxiIII", 0, socket.if_nametoindex(interface), 1, _PARENTS[side], pref << 16 | _EVERY_PROTOCOL
    )
    body += netlink.text_attribute(_KIND, "bpf") + netlink.nest(_OPTIONS, options)
    channel = netlink.Socket()
    try:
        channel.demand(netlink.Message(_NEW_FILTER, netlink.CREATE, body))
    finally:
        channel.close()
    return program


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(_libc.syscall(_SYSCALL, command, buffer, len(attributes)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _signed(number: int) -> int:
    number &= 0xFFFF_FFFF
    return number - (1 << 32) if number >= 1 << 31 else number
