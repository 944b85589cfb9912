"""The words of the kernel's traffic control: message and attribute numbers, handles, and the record of a qdisc.

Owns the encoding that classes, leaves, roots and filters share. Decides nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import netlink

NEW_QDISC, DELETE_QDISC, GET_QDISC = 36, 37, 38
NEW_CLASS, DELETE_CLASS, GET_CLASS = 40, 41, 42
NEW_FILTER, DELETE_FILTER, GET_FILTER = 44, 45, 46

KIND, OPTIONS, STATS2 = 1, 2, 7
STATS_BASIC, STATS_QUEUE, STATS_APP, STATS_PACKETS64 = 1, 3, 4, 8

ROOT = 0xFFFF_FFFF
CLSACT = 0xFFFF_FFF1  # parent of the clsact or ingress qdisc
CLSACT_HANDLE = 0xFFFF_0000
INGRESS_HOOK = 0xFFFF_FFF2
EGRESS_HOOK = 0xFFFF_FFF3

HEADER = struct.Struct("=BxxxiIII")  # family, interface index, handle, parent, info
MESSAGE = struct.Struct("=iIII")  # the same behind the family
RATE_SPEC = "BBHhHI"  # cell log, link layer, overhead, cell align, smallest packet, rate
ETHERNET = 1  # a link layer that needs no rate table
RATE32_MAX = 0xFFFF_FFFF

QUEUE = struct.Struct("=IIIII")  # queue length, backlog, drops, requeues, overlimits


def header(index: int, handle: int, parent: int, info: int = 0) -> bytes:
    return HEADER.pack(0, index, handle, parent, info)


class Qdisc(NamedTuple):
    """One qdisc of a dump; `options` and `statistics` are undecoded attribute payloads."""

    ifindex: int
    handle: int
    parent: int
    kind: str
    options: bytes
    statistics: bytes


def qdiscs(channel: netlink.Socket) -> Iterator[Qdisc]:
    """Every qdisc of every device; those that the kernel keeps to itself (noop, inner default fifos) are not told."""
    unpack, head = MESSAGE.unpack_from, netlink.ATTRIBUTE.unpack_from
    kinds: dict[bytes, str] = {}
    for buffer, start, end in channel.dump(GET_QDISC, header(0, 0, 0)):
        index, handle, parent, _ = unpack(buffer, start + 4)
        kind = options = statistics = b""
        offset = start + 20
        while offset + 4 <= end:
            length, name = head(buffer, offset)
            name &= 0x3FFF
            if name == KIND:
                kind = buffer[offset + 4 : offset + length]
            elif name == OPTIONS:
                options = buffer[offset + 4 : offset + length]
            elif name == STATS2:
                statistics = buffer[offset + 4 : offset + length]
                break  # the last that we read, and most of the message comes behind it
            offset += (max(length, 4) + 3) & ~3
        if kind not in kinds:
            kinds[kind] = netlink.text(kind)
        yield Qdisc(index, handle, parent, kinds[kind], options, statistics)


def drops(statistics: bytes) -> int:
    """The drops in the statistics of a qdisc."""
    for kind, start, end in netlink.attributes(statistics, 0, len(statistics)):
        if kind == STATS_QUEUE and end - start >= QUEUE.size:
            return int(QUEUE.unpack_from(statistics, start)[2])
    return 0
