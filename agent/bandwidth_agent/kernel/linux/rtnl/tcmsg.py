"""The constants of the kernel's traffic control messages, their handles, and the record of a qdisc.

Owns the encoding that classes, leaves, roots and filters share. Decides nothing.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from bandwidth_agent.kernel import netlink

NEW_QDISC, DELETE_QDISC, GET_QDISC = 36, 37, 38
NEW_CLASS, DELETE_CLASS, GET_CLASS = 40, 41, 42
NEW_FILTER, DELETE_FILTER, GET_FILTER = 44, 45, 46

KIND, OPTIONS, STATS2 = 1, 2, 7
_HW_OFFLOAD = 12
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

# what the dump of a qdisc begins with: length of the message; index, handle, parent; kind; header of the options
_QDISC = struct.Struct("=I12x4xiII4xH2x4sHH")
_KINDS = {b"tbf\0": "tbf", b"htb\0": "htb"}
BASIC_HEAD, QUEUE_HEAD = netlink.ATTRIBUTE.pack(20, STATS_BASIC), netlink.ATTRIBUTE.pack(24, STATS_QUEUE)
_OFFLOAD_HEAD = netlink.ATTRIBUTE.pack(5, _HW_OFFLOAD)
# what follows its options: headers of hardware offload, of the basic statistics, of the queue's; drops
_STATISTICS = struct.Struct("=4s4x 4x4s16x 4s8xI8x")
QUEUE = struct.Struct("=IIIII")  # queue length, backlog, drops, requeues, overlimits


def header(index: int, handle: int, parent: int, info: int = 0) -> bytes:
    return HEADER.pack(0, index, handle, parent, info)


def make_clsact(ifindex: int) -> netlink.Message:
    """Return the message that makes the clsact qdisc; refused with EEXIST where one, or an ingress qdisc, is there."""
    body = header(ifindex, CLSACT_HANDLE, CLSACT) + netlink.text_attribute(KIND, "clsact")
    return netlink.Message(NEW_QDISC, netlink.CREATE | netlink.EXCLUSIVE, body)


def delete_clsact(ifindex: int) -> netlink.Message:
    body = header(ifindex, CLSACT_HANDLE, CLSACT) + netlink.text_attribute(KIND, "clsact")
    return netlink.Message(DELETE_QDISC, 0, body)


class Qdisc(NamedTuple):
    """One qdisc of a dump. Its options are in `buffer` from `options` to `behind`; the rest follows up to `end`."""

    ifindex: int
    handle: int
    parent: int
    kind: str
    buffer: bytes
    options: int
    behind: int
    end: int


def qdiscs(channel: netlink.Socket) -> list[Qdisc]:
    """Return every qdisc of every device, except those that the kernel does not list (noop, inner default fifos)."""
    found: list[Qdisc] = []
    unpack, size = _QDISC.unpack_from, _QDISC.size
    for buffer, starts in channel.dump_pieces(GET_QDISC, header(0, 0, 0)):
        for start in starts:
            start -= 16
            length, ifindex, handle, parent, kind_length, word, options_length, options_type = unpack(buffer, start)
            if kind_length == 8 and options_type & 0x3FFF == OPTIONS:  # htb and tbf: nearly all that there are
                kind = _KINDS.get(word) or netlink.text(word)
                options, behind = start + size, start + size - 4 + options_length
            else:
                kind = netlink.text(buffer[start + 40 : start + 36 + kind_length])
                options, behind = _find_options(buffer, start + 36, start + length)
            found.append(Qdisc(ifindex, handle, parent, kind, buffer, options, behind, start + length))
    return found


def _find_options(buffer: bytes, first: int, end: int) -> tuple[int, int]:
    """Return where the options are; an empty range for a qdisc without options."""
    for kind, start, behind in netlink.attributes(buffer, first, end):
        if kind == OPTIONS:
            return start, behind
    return first, first


def drops(qdisc: Qdisc) -> int:
    """Return the number of packets that a qdisc dropped."""
    behind = (qdisc.behind + 3) & ~3
    if qdisc.end - behind >= _STATISTICS.size:
        offload, basic, queue, dropped = _STATISTICS.unpack_from(qdisc.buffer, behind)
        if offload == _OFFLOAD_HEAD and basic == BASIC_HEAD and queue == QUEUE_HEAD:
            return int(dropped)
    rest = netlink.payloads(qdisc.buffer, behind, qdisc.end).get(STATS2, b"")
    queue = netlink.payloads(rest, 0, len(rest)).get(STATS_QUEUE, b"")
    return int(QUEUE.unpack_from(queue)[2]) if len(queue) >= QUEUE.size else 0
