"""HTB classes, to and from the kernel, thousands at a time.

Owns the shape of our classes and the order of the messages that put them: class, then its leaf, then what is inside
the leaf. A class of any other shape is read as a value that equals none of ours.

Rates are bytes per second with 64 bits, buffers are ticks of 64 ns, and both come back from the kernel as written.
The link layer is always given: without one the kernel asks for a rate table and rounds by it.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import leaves, model, netlink, tcmsg
from bandwidth_api import names

_PARAMETERS, _RATE64, _CEIL64 = 1, 6, 7
_SPEC = tcmsg.RATE_SPEC

# tcmsg; kind; options, parameters (rate, ceil, buffer, cbuffer, quantum, level, priority), 64-bit rate and ceil
_CLASS = struct.Struct(f"=BxxxiIII HH4s HH HH{_SPEC}{_SPEC}IIIII HHQ HHQ")

# The same as the kernel tells it: what never differs as bytes, and between them the numbers.
_SPEC_HEAD = struct.pack("=BBHhH", 0, tcmsg.ETHERNET, 0, 0, 0)
_SHAPE_HEAD = netlink.ATTRIBUTE.pack(48, _PARAMETERS) + _SPEC_HEAD
_SHAPE = struct.Struct(f"={len(_SHAPE_HEAD)}sI{len(_SPEC_HEAD)}sIIIIII")
# length of the message, handle, parent, handle of the leaf; kind; header of the options
_BEGINNING = struct.Struct("=I12x4x4xIII4x4s HH")
# what follows the options: header of the basic ones, bytes, packets; header of the queue's,
# backlog, drops, overlimits; header of HTB's own, lended, borrowed
_STATISTICS = struct.Struct("=4x4sQI4x 4s4xII4xI 4sII12x")
_APP_HEAD = netlink.ATTRIBUTE.pack(24, tcmsg.STATS_APP)

_PUT = netlink.CREATE
_MAJOR = names.HTB_MAJOR << 16


class Record(NamedTuple):
    """One class of a dump. Its options are in `buffer` from `options` to `behind`; statistics follow up to `end`."""

    minor: int
    parent: int  # as a handle
    leaf: int  # handle of the leaf qdisc; 0: none, or one that the kernel made
    buffer: bytes
    options: int
    behind: int
    end: int


def dump(channel: netlink.Socket, ifindex: int) -> list[Record]:
    """All classes of our HTB on a device."""
    found: list[Record] = []
    unpack, size = _BEGINNING.unpack_from, _BEGINNING.size
    for buffer, starts in channel.dump_pieces(tcmsg.GET_CLASS, tcmsg.header(ifindex, 0, _MAJOR)):
        for start in starts:
            message, handle, parent, leaf, kind, length, _ = unpack(buffer, start - 16)
            if kind != b"htb\0" or handle >> 16 != names.HTB_MAJOR:
                raise OSError(errno.EBADMSG, "the kernel told of a class that was not asked for")
            options = start - 16 + size
            found.append(
                Record(handle & 0xFFFF, parent, leaf, buffer, options, options - 4 + length, start - 16 + message)
            )
    return found


def decode(records: Iterable[Record], leaf_of: Mapping[int, model.Leaf]) -> dict[int, model.HtbClass]:
    """Classes by minor; `leaf_of` maps the minor of a class to the leaf found under it."""
    decoded: dict[int, model.HtbClass] = {}
    for record in records:
        minor, parent = record.minor, record.parent
        leaf = leaf_of.get(minor) or leaves.unknown("") if record.leaf else None
        decoded[minor] = model.HtbClass(0 if parent == tcmsg.ROOT else parent & 0xFFFF, *_decode_options(record), leaf)
    return decoded


def _decode_options(record: Record) -> tuple[int, int, int, int, int]:
    """Rate, ceil, burst, cburst, quantum; a quantum of -1 marks a class of a shape that we never write."""
    rate = ceil = 0
    if record.behind - record.options == _SHAPE.size:
        fields = _SHAPE.unpack_from(record.buffer, record.options)
    else:
        parts = netlink.payloads(record.buffer, record.options, record.behind)
        rate, ceil = (int.from_bytes(parts.get(kind, b""), sys.byteorder) for kind in (_RATE64, _CEIL64))
        fields = _SHAPE.unpack(netlink.attribute(_PARAMETERS, parts.get(_PARAMETERS, b"")))
    head, rate32, between, ceil32, burst, cburst, quantum, _, priority = fields
    if head != _SHAPE_HEAD or between != _SPEC_HEAD or priority:
        quantum = -1
    return rate or rate32, ceil or ceil32, burst, cburst, quantum


def decode_counters(record: Record, leaf_drops: int) -> model.ClassCounters:
    """The counters of one class. A packet that a leaf drops at once is counted by class and leaf: not the sum."""
    if record.end - record.behind >= _STATISTICS.size:
        fields = _STATISTICS.unpack_from(record.buffer, record.behind)
        basic, count, packets, queue, backlog, drops, overlimits, app, lended, borrowed = fields
        if basic == tcmsg.BASIC_HEAD and queue == tcmsg.QUEUE_HEAD and app == _APP_HEAD:
            drops = leaf_drops if leaf_drops > drops else drops
            return model.ClassCounters(count, packets, drops, overlimits, backlog, lended, borrowed)
    return _decode_counters_slowly(record, leaf_drops)


def _decode_counters_slowly(record: Record, leaf_drops: int) -> model.ClassCounters:
    """The same from attributes in any order: after 2³² packets, or on a machine that pads."""
    count = packets = drops = overlimits = backlog = lended = borrowed = 0
    outer = netlink.payloads(record.buffer, record.behind, record.end)
    statistics = netlink.payloads(outer.get(tcmsg.STATS2, b""), 0, len(outer.get(tcmsg.STATS2, b"")))
    if tcmsg.STATS_BASIC in statistics:
        count, packets = struct.unpack_from("=QI", statistics[tcmsg.STATS_BASIC])
    if tcmsg.STATS_PACKETS64 in statistics:
        (packets,) = struct.unpack_from("=Q", statistics[tcmsg.STATS_PACKETS64])
    if tcmsg.STATS_QUEUE in statistics:
        _, backlog, drops, _, overlimits = tcmsg.QUEUE.unpack_from(statistics[tcmsg.STATS_QUEUE])
    if tcmsg.STATS_APP in statistics:
        lended, borrowed = struct.unpack_from("=II", statistics[tcmsg.STATS_APP])
    return model.ClassCounters(count, packets, max(drops, leaf_drops), overlimits, backlog, lended, borrowed)


def put_message(ifindex: int, minor: int, wanted: model.HtbClass) -> netlink.Message:
    """Create the class or change it in place. Raises struct.error on a number that the kernel has no room for."""
    parent = _MAJOR | wanted.parent if wanted.parent else _MAJOR
    body = _CLASS.pack(
        *(0, ifindex, _MAJOR | minor, parent, 0),
        *(8, tcmsg.KIND, b"htb"),
        *(76, tcmsg.OPTIONS | netlink.NESTED),
        *(48, _PARAMETERS),
        *(0, tcmsg.ETHERNET, 0, 0, 0, min(wanted.rate, tcmsg.RATE32_MAX)),
        *(0, tcmsg.ETHERNET, 0, 0, 0, min(wanted.ceil, tcmsg.RATE32_MAX)),
        *(wanted.burst_ticks, wanted.cburst_ticks, wanted.quantum, 0, 0),
        *(12, _RATE64, wanted.rate),
        *(12, _CEIL64, wanted.ceil),
    )
    return netlink.Message(tcmsg.NEW_CLASS, _PUT, body)


def delete_message(ifindex: int, minor: int) -> netlink.Message:
    return netlink.Message(tcmsg.DELETE_CLASS, 0, tcmsg.header(ifindex, _MAJOR | minor, 0))


class Step(NamedTuple):
    """One message on the way to a class, and the errors that mean it was there, or gone, already."""

    minor: int
    message: netlink.Message
    harmless: frozenset[int]


_NONE: frozenset[int] = frozenset()
_THERE = frozenset({errno.EEXIST})
_GONE = frozenset({errno.ENOENT})


def put_steps(ifindex: int, minor: int, wanted: model.HtbClass, observed: model.HtbClass | None) -> Iterator[Step]:
    """The messages that lead from the observed class to the wanted one, without touching what is right already."""
    if observed is not None and observed.parent != wanted.parent:  # a class cannot change its parent
        yield Step(minor, delete_message(ifindex, minor), _GONE)
        observed = None
    if observed is None or observed._replace(leaf=wanted.leaf) != wanted:
        yield Step(minor, put_message(ifindex, minor, wanted), _NONE)
    leaf, present = wanted.leaf, observed.leaf if observed is not None else None
    if leaf == present:
        return
    if present is not None and (leaf is None or (present.kind, present.inner) != (leaf.kind, leaf.inner)):
        yield Step(minor, leaves.delete(ifindex, minor), _GONE)  # a qdisc cannot change its kind
        present = None
    if leaf is not None:
        yield Step(minor, leaves.put(ifindex, minor, leaf), _NONE)
        if leaf.inner == "fq_codel" and present is None:
            yield Step(minor, leaves.put_inner(ifindex, minor), _THERE)


def put(
    channel: netlink.Socket,
    ifindex: int,
    wanted: Mapping[int, model.HtbClass],
    observed: Mapping[int, model.HtbClass],
) -> dict[int, netlink.Refusal]:
    """Create or change classes with their leaves; parents first. Returns the first refusal of each failed class."""
    steps: list[Step] = []
    failed: dict[int, netlink.Refusal] = {}
    for minor in sorted(wanted, key=lambda minor: (wanted[minor].parent, minor)):
        try:
            steps.extend(put_steps(ifindex, minor, wanted[minor], observed.get(minor)))
        except struct.error as error:
            failed[minor] = netlink.Refusal(errno.ERANGE, str(error))
    return _run(channel, steps, failed)


def delete(channel: netlink.Socket, ifindex: int, minors: Iterable[int]) -> dict[int, netlink.Refusal]:
    """Delete classes with all that is under them, children first. What is not there is no failure."""
    ordered = sorted(minors, key=lambda minor: (minor == names.OBSERVE_PARENT, minor))
    return _run(channel, [Step(minor, delete_message(ifindex, minor), _GONE) for minor in ordered], {})


def _run(channel: netlink.Socket, steps: list[Step], failed: dict[int, netlink.Refusal]) -> dict[int, netlink.Refusal]:
    for position, refusal in sorted(channel.execute([step.message for step in steps]).items()):
        step = steps[position]
        if refusal.errno not in step.harmless:
            failed.setdefault(step.minor, refusal)
    return failed
