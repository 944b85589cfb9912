"""bpf(2): the system call, the few commands of it that we use, and what is pinned in a bpf file system.

Owns the encoding of the commands, and errno; knows no map and no program of ours. All that is opened here is a file
descriptor, which a program that is started does not inherit.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "s390x": 351, "ppc64le": 361}

_MAP_CREATE, _PROG_LOAD, _OBJ_PIN, _OBJ_GET, _PROG_QUERY, _OBJ_GET_INFO = 0, 5, 6, 7, 16, 15
_LINK_CREATE, _LINK_UPDATE, _LINK_DETACH = 28, 29, 34

TCX_EGRESS = 47
_CLASSIFIER = 3  # BPF_PROG_TYPE_SCHED_CLS
_BEFORE = 1 << 3
_LICENCE = b"Apache-2.0\0"
_LOG_BYTES = 1 << 16
_MOST_PROGRAMS = 64  # that the kernel lets attach at one place
_MOST_MAPS = 8

_MAP_ATTRIBUTES = struct.Struct("=IIIIIII16s")  # kind, key, value, most entries, flags, inner map, NUMA node, name
_LOAD_ATTRIBUTES = struct.Struct("=IIQQIIQII16sII")
_PATH_ATTRIBUTES = struct.Struct("=QII")  # path, file descriptor, flags
_INFO_ATTRIBUTES = struct.Struct("=IIQ")  # file descriptor, length, where
_LINK_ATTRIBUTES = struct.Struct("=IIIII4xQ")  # program, interface, place, flags, relative to which, revision
_UPDATE_ATTRIBUTES = struct.Struct("=IIII")  # link, program, flags, the program that is there
# interface, place, flags, flags; program ids, their number; flags by program, links, flags by link; revision
_QUERY_ATTRIBUTES = struct.Struct("=IIII QI4x QQQ Q")

# kind, id, tag, sizes, codes, load time, user, number of maps, where their ids go, name
_PROGRAM_INFO = struct.Struct("=II8sIIQQQIIQ16s")
_MAP_INFO = struct.Struct("=IIIIII16s")  # kind, id, key, value, most entries, flags, name
_LINK_INFO = struct.Struct("=III4xII")  # kind, id, program; interface, place


class ProgramInfo(NamedTuple):
    id: int
    name: str
    maps: frozenset[int]  # the ids of those that it looks into


class MapInfo(NamedTuple):
    kind: int
    id: int
    key_bytes: int
    value_bytes: int
    most_entries: int
    flags: int


class LinkInfo(NamedTuple):
    id: int
    program: int
    interface: int  # index; 0: it is gone, and the link leads nowhere


_libc = ctypes.CDLL(None, use_errno=True)


def attempt(number: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    """Make the call; return its result, or the errno as a negative number. The kernel may write into the attributes."""
    call = _NUMBERS.get(os.uname().machine)
    if call is None:
        return -errno.ENOSYS
    result = int(_libc.syscall(call, number, attributes, len(attributes)))
    return result if result >= 0 else -ctypes.get_errno()


def command(number: int, attributes: bytes) -> tuple[int, bytes]:
    """Make the call; return its result, and the attributes as the kernel left them. Raises OSError."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = attempt(number, buffer)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result, buffer.raw


def create_map(kind: int, key_bytes: int, value_bytes: int, most_entries: int, flags: int, name: str) -> int:
    attributes = _MAP_ATTRIBUTES.pack(kind, key_bytes, value_bytes, most_entries, flags, 0, 0, name.encode())
    return command(_MAP_CREATE, attributes)[0]


def load(code: bytes, name: str) -> int:
    """Load a program for traffic control. Raises OSError; where the kernel says why, its last words are in the text."""
    try:
        return _load(code, name, None)
    except OSError as refusal:
        if refusal.errno not in (errno.EACCES, errno.EINVAL):  # what the kernel finds when it reads the program
            raise
        log = ctypes.create_string_buffer(_LOG_BYTES)
        try:
            return _load(code, name, log)
        except OSError as again:
            said = log.value.decode(errors="replace").strip().splitlines()[-3:]
            raise OSError(again.errno, "; ".join([again.strerror or "", *said])) from None


def _load(code: bytes, name: str, log: ctypes.Array[ctypes.c_char] | None) -> int:
    program, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(_LICENCE)
    logged = (1, _LOG_BYTES, ctypes.addressof(log)) if log is not None else (0, 0, 0)
    where = ctypes.addressof(program), ctypes.addressof(licence)
    # No kernel version, no flags, no interface, no place: the same program attaches at TCX and as a filter.
    attributes = _LOAD_ATTRIBUTES.pack(_CLASSIFIER, len(code) // 8, *where, *logged, 0, 0, name.encode(), 0, 0)
    return command(_PROG_LOAD, attributes)[0]


def pin(descriptor: int, path: str) -> None:
    """Give a map, program or link a name in a bpf file system, which keeps it when this process ends."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    command(_OBJ_PIN, _PATH_ATTRIBUTES.pack(ctypes.addressof(name), descriptor, 0))


def open_pinned(path: str) -> int:
    """Open what has this name. Raises OSError: ENOENT where nothing has."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return command(_OBJ_GET, _PATH_ATTRIBUTES.pack(ctypes.addressof(name), 0, 0))[0]


def map_info(descriptor: int) -> MapInfo:
    return MapInfo(*_MAP_INFO.unpack(_info(descriptor, _MAP_INFO.size))[:6])


def program_info(descriptor: int) -> ProgramInfo:
    maps = (ctypes.c_uint32 * _MOST_MAPS)()
    asked = _PROGRAM_INFO.pack(0, 0, b"", 0, 0, 0, 0, 0, 0, _MOST_MAPS, ctypes.addressof(maps), b"")
    fields = _PROGRAM_INFO.unpack(_info(descriptor, len(asked), asked))
    return ProgramInfo(fields[1], fields[-1].rstrip(b"\0").decode(errors="replace"), frozenset(maps[: fields[9]]))


def link_info(descriptor: int) -> LinkInfo:
    _, number, program, interface, _ = _LINK_INFO.unpack(_info(descriptor, _LINK_INFO.size))
    return LinkInfo(number, program, interface)


def _info(descriptor: int, size: int, asked: bytes = b"") -> bytes:
    buffer = ctypes.create_string_buffer(asked, size)
    command(_OBJ_GET_INFO, _INFO_ATTRIBUTES.pack(descriptor, size, ctypes.addressof(buffer)))
    return buffer.raw


def link_first(program: int, interface: int) -> int:
    """Attach a program to the way out of an interface (by index), before all others at TCX; return the link."""
    return command(_LINK_CREATE, _LINK_ATTRIBUTES.pack(program, interface, TCX_EGRESS, _BEFORE, 0, 0))[0]


def update_link(link: int, program: int) -> None:
    """Put another program in the place of a link's, between two packets."""
    command(_LINK_UPDATE, _UPDATE_ATTRIBUTES.pack(link, program, 0, 0))


def detach_link(link: int) -> None:
    """Take a link's program away from where it is; the link leads nowhere from now on."""
    command(_LINK_DETACH, struct.pack("=I", link))


def attached(interface: int) -> tuple[int, ...]:
    """Return the ids of the programs at TCX on the way out of an interface, in their order. Raises OSError.

    EINVAL: this kernel has no TCX.
    """
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    asked = _QUERY_ATTRIBUTES.pack(interface, TCX_EGRESS, 0, 0, ctypes.addressof(ids), _MOST_PROGRAMS, 0, 0, 0, 0)
    try:
        answer = command(_PROG_QUERY, asked)[1]
    except OSError as error:
        if error.errno == errno.ENOENT:  # no program was ever there
            return ()
        raise
    return tuple(ids[: _QUERY_ATTRIBUTES.unpack(answer)[5]])
