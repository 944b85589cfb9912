"""Asks by bpf(2) whether programs are attached at TCX on the way out of an interface. Reads only.

Answered to CAP_NET_ADMIN since Linux 6.6, unless a seccomp profile forbids the system call, as those of container
runtimes do without CAP_BPF.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Container, Iterable

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "s390x": 351, "ppc64le": 361}
_PROG_QUERY = 16
_TCX_EGRESS = 47
_MOST = 64  # programs that the kernel lets attach at one place
# interface, place, flags, flags; program ids, their number; flags by program, links, flags by link; revision
_QUERY = struct.Struct("=IIII QI4x QQQ Q")


def attached(interfaces: Iterable[int], ours: Container[int] = ()) -> frozenset[int]:
    """Return those of these interfaces (by index) that have programs there; none where that may not be asked.

    `ours`: the ids of programs that do not count.
    """
    number = _NUMBERS.get(os.uname().machine)
    if number is None:
        return frozenset()
    call = ctypes.CDLL(None, use_errno=True).syscall
    ids = (ctypes.c_uint32 * _MOST)()
    found = set()
    for index in interfaces:
        fields = index, _TCX_EGRESS, 0, 0, ctypes.addressof(ids), _MOST, 0, 0, 0, 0
        asked = ctypes.create_string_buffer(_QUERY.pack(*fields), _QUERY.size)
        if call(number, _PROG_QUERY, asked, _QUERY.size) == 0:
            if any(program not in ours for program in ids[: _QUERY.unpack(asked.raw)[5]]):
                found.add(index)
        elif ctypes.get_errno() not in (errno.ENOENT, errno.ENODEV):  # no program ever; the device is gone
            break  # not allowed, or not known to this kernel: for no interface
    return frozenset(found)
