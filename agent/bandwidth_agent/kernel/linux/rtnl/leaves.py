"""The queue under a class, to and from the kernel: a TBF that only cuts or bounds, or a bfifo.

Owns the shape of our leaves. A leaf of any other shape is read as a value that equals none of ours.

A TBF compares the time that a packet takes at its rate with its burst, as time. At our rate both are 0 ns, so it can
never delay, whatever the packet. At a merely high rate (400 Gbit was tried) it can: a packet larger than the burst,
queued before the burst became one frame, then waits at the head for ever and the class with it.

The kernel returns a TBF's burst only as time, not in bytes. A TBF without a peak rate stores the number `mtu` without
using it, so we write the burst there too.
"""

from __future__ import annotations

import struct

from bandwidth_agent.kernel import netlink, objects
from bandwidth_agent.kernel.linux.rtnl import tcmsg
from bandwidth_api import names

RATE_BYTES_PER_SECOND = 10**15  # a packet of up to 1 MB takes 0 ns
INNER_FLOWS = 128  # 1024, the default, cost 70 KiB of kernel memory per class

_TBF_OPTIONS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_FQ_CODEL_FLOWS = 5

_TBF = struct.Struct(f"=BxxxiIII HH4s HH HH{tcmsg.RATE_SPEC}{tcmsg.RATE_SPEC}III HHQ HHI")
_FIFO = struct.Struct("=BxxxiIII HH8s HHI")
_FQ_CODEL = struct.Struct("=BxxxiIII HH12s HH HHI")
_NO_RATE = (0, 0, 0, 0, 0, 0)
_RATE = (0, tcmsg.ETHERNET, 0, 0, 0, tcmsg.RATE32_MAX)

# The same as the kernel reports it: what never differs as bytes, and between them limit, ticks and our burst.
_TBF_HEAD = struct.pack(f"=HH{tcmsg.RATE_SPEC}{tcmsg.RATE_SPEC}", 40, _TBF_OPTIONS, *_RATE, *_NO_RATE)
_TBF_TAIL = struct.pack("=HHQ", 12, _TBF_RATE64, RATE_BYTES_PER_SECOND)
_TBF_SHAPE = struct.Struct(f"={len(_TBF_HEAD)}sIII{len(_TBF_TAIL)}s")

_PUT = netlink.CREATE | netlink.REPLACE


def handle(minor: int) -> int:
    return minor << 16


def inner_handle(minor: int) -> int:
    return (names.INNER_MAJOR | minor) << 16


def put(ifindex: int, minor: int, leaf: objects.Leaf) -> netlink.Message:
    """Return the message that creates or changes the leaf under class `minor`; `put_inner` puts the queue inside it."""
    where = (0, ifindex, handle(minor), names.HTB_MAJOR << 16 | minor, 0)
    if leaf.kind == "bfifo":
        body = _FIFO.pack(*where, 10, tcmsg.KIND, b"bfifo", 8, tcmsg.OPTIONS, leaf.limit_bytes)
    else:
        body = _TBF.pack(
            *where,
            *(8, tcmsg.KIND, b"tbf"),
            *(64, tcmsg.OPTIONS | netlink.NESTED),
            *(40, _TBF_OPTIONS, *_RATE, *_NO_RATE, leaf.limit_bytes, 0, leaf.burst_bytes),
            *(12, _TBF_RATE64, RATE_BYTES_PER_SECOND),
            *(8, _TBF_BURST, leaf.burst_bytes),
        )
    return netlink.Message(tcmsg.NEW_QDISC, _PUT, body)


def put_inner(ifindex: int, minor: int, leaf: objects.Leaf) -> netlink.Message | None:
    """Return the message that puts an fq_codel into the TBF of class `minor`; EEXIST if it has a visible queue.

    Returns None if the kernel itself makes the inner queue.
    """
    if leaf.inner != "fq_codel":
        return None
    body = _FQ_CODEL.pack(
        *(0, ifindex, inner_handle(minor), handle(minor) | 1, 0),
        *(13, tcmsg.KIND, b"fq_codel"),
        *(12, tcmsg.OPTIONS | netlink.NESTED, 8, _FQ_CODEL_FLOWS, INNER_FLOWS),
    )
    return netlink.Message(tcmsg.NEW_QDISC, netlink.CREATE | netlink.EXCLUSIVE, body)


def delete(ifindex: int, minor: int) -> netlink.Message:
    """Return the message that deletes the leaf of class `minor`, of whatever kind."""
    body = tcmsg.header(ifindex, 0, names.HTB_MAJOR << 16 | minor)
    return netlink.Message(tcmsg.DELETE_QDISC, 0, body)


def decode(minor: int, leaf: tcmsg.Qdisc, inner: tcmsg.Qdisc | None) -> objects.Leaf:
    """Decode the leaf of class `minor` and what is visible inside it."""
    if leaf.handle == handle(minor):
        if leaf.kind == "tbf":
            shape = _decode_tbf(leaf)
            if shape is not None:
                return objects.Leaf("tbf", *shape, _inner(minor, inner))
        elif leaf.kind == "bfifo" and leaf.behind - leaf.options == 4 and inner is None:
            return objects.Leaf("bfifo", 0, struct.unpack_from("=I", leaf.buffer, leaf.options)[0], "")
    return unknown(leaf.kind)


def unknown(kind: str) -> objects.Leaf:
    """Return a leaf that equals none of ours."""
    return objects.Leaf(f"{kind}?", 0, 0, "")


def _inner(minor: int, inner: tcmsg.Qdisc | None) -> str:
    if inner is None:
        return "bfifo"  # TBF's own, which the kernel does not show
    if inner.kind == "fq_codel" and inner.handle == inner_handle(minor):
        return "fq_codel"
    return f"{inner.kind}?"


def _decode_tbf(leaf: tcmsg.Qdisc) -> tuple[int, int] | None:
    """Decode burst and limit, in bytes, of a TBF of ours; None if it is not as we write it."""
    if leaf.behind - leaf.options != _TBF_SHAPE.size:
        return None
    head, limit, buffer, burst, tail = _TBF_SHAPE.unpack_from(leaf.buffer, leaf.options)
    ticks = burst * 1_000_000_000 // RATE_BYTES_PER_SECOND // objects.TICK_NS
    if head != _TBF_HEAD or tail != _TBF_TAIL or buffer != ticks:
        return None
    return burst, limit
