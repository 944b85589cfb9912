"""A program of somebody else at TCX, made by the bpf system call alone: a few instructions, no compiler, no library."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from bandwidth_lab import Namespace

PASS, NEXT = 0, -1  # what a program says: the walk ends here and the packet goes on; the next program is asked

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280}[os.uname().machine]
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH = 5, 8, 9
_SCHED_CLS = 3
_TCX_EGRESS = 47
_INSTRUCTION = struct.Struct("=BBhi")  # code, registers, offset, number
_MOVE, _EXIT = 0xB7, 0x95  # r0 = number; return r0
_BEFORE = 1 << 3  # every program that is there already

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(_libc.syscall(_SYSCALL, command, buffer, len(attributes)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _load(verdict: int) -> int:
    """Load a program that says this of every packet; returns its descriptor."""
    code = _INSTRUCTION.pack(_MOVE, 0, 0, verdict) + _INSTRUCTION.pack(_EXIT, 0, 0, 0)
    program, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    return _bpf(
        _PROG_LOAD,
        struct.pack(
            "=IIQQIIQIIQII",
            *(_SCHED_CLS, len(code) // _INSTRUCTION.size, ctypes.addressof(program), ctypes.addressof(licence)),
            *(0, 0, 0, 0, 0),  # no log, any kernel version, no flags
            *(0, 0, _TCX_EGRESS),  # name, interface
        ),
    )


@contextmanager
def egress(namespace: Namespace, interface: str, verdict: int) -> Iterator[None]:
    """Somebody's program on the egress of an interface, while this lasts."""
    program = _load(verdict)

    def order(command: int) -> None:
        _bpf(command, struct.pack("=IIIIIIQ", socket.if_nametoindex(interface), program, _TCX_EGRESS, 0, 0, 0, 0))

    try:
        namespace.call(lambda: order(_PROG_ATTACH))
        try:
            yield
        finally:
            namespace.call(lambda: order(_PROG_DETACH))
    finally:
        os.close(program)
