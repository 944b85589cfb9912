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

from bandwidth_agent.kernel import model, netlink, objects
from bandwidth_agent.kernel.linux.rtnl import leaves, tcmsg
from bandwidth_api import names

_PARAMETERS, _RATE64, _CEIL64 = 1, 6, 7
_SPEC = tcmsg.RATE_SPEC

# tcmsg; kind; options, parameters (rate, ceil, buffer, cbuffer, quantum, level, priority), 64-bit rate and ceil
_CLASS = struct.Struct(f"=BxxxiIII HH4s HH HH{_SPEC}{_SPEC}IIIII HHQ HHQ")

# The same as the kernel reports it: what never differs as bytes, and between them the numbers.
_KIND = netlink.text_attribute(tcmsg.KIND, "htb")
_SPEC_HEAD = struct.pack("=BBHhH", 0, tcmsg.ETHERNET, 0, 0, 0)
_OPTIONS_HEAD = netlink.ATTRIBUTE.pack(48, _PARAMETERS) + _SPEC_HEAD
# handle, parent, handle of the leaf; kind; length of the options
_BEGINNING = "=4x4xIII8sH2x"
# parameters: rate, ceil, burst, cburst, quantum, priority
_CLASS_TOLD = struct.Struct(f"{_BEGINNING}{len(_OPTIONS_HEAD)}sI{len(_SPEC_HEAD)}sIIII4xI")
_OPTIONS_LENGTH = 52
# header of the basic statistics, bytes, packets; of the queue's, backlog, drops, overlimits; of HTB's, lended, borrowed
_COUNTERS_TOLD = struct.Struct(f"{_BEGINNING}48x 4x4sQI4x 4s4xII4xI 4sII12x")
_APP_HEAD = netlink.ATTRIBUTE.pack(24, tcmsg.STATS_APP)

_PUT = netlink.CREATE
_MAJOR = names.HTB_MAJOR << 16


def observe(channel: netlink.Socket, ifindex: int, leaf_of: Mapping[int, objects.Leaf]) -> dict[int, objects.HtbClass]:
    """Read all classes of our HTB on a device, by minor; `leaf_of`: the leaves found, by minor of their class."""
    observed: dict[int, objects.HtbClass] = {}
    unpack = _CLASS_TOLD.unpack_from
    for buffer, starts in _dump(channel, ifindex):
        for start in starts:
            handle, parent, leaf_handle, kind, length, head, rate, spec, ceil, *rest = unpack(buffer, start)
            if kind != _KIND:
                raise OSError(errno.EBADMSG, "HTB reported a class of another kind")
            minor = handle & 0xFFFF
            burst, cburst, quantum, priority = rest
            if length != _OPTIONS_LENGTH or head != _OPTIONS_HEAD or spec != _SPEC_HEAD or priority:
                rate, ceil, burst, cburst, quantum = _unusual(buffer, start)
            leaf = (leaf_of.get(minor) or leaves.unknown("")) if leaf_handle else None
            above = 0 if parent == tcmsg.ROOT else parent & 0xFFFF
            observed[minor] = objects.HtbClass(above, rate, ceil, burst, cburst, quantum, leaf)
    return observed


def _dump(channel: netlink.Socket, ifindex: int) -> list[tuple[bytes, list[int]]]:
    return channel.dump_pieces(tcmsg.GET_CLASS, tcmsg.header(ifindex, 0, _MAJOR))


def _unusual(buffer: bytes, start: int) -> tuple[int, int, int, int, int]:
    """Decode a class with 64-bit rates; a quantum of -1 marks one that we never write."""
    attributes = netlink.payloads(buffer, start + 20, netlink.end(buffer, start))
    options = netlink.payloads(attributes.get(tcmsg.OPTIONS, b""), 0, len(attributes.get(tcmsg.OPTIONS, b"")))
    parameters = options.get(_PARAMETERS, b"")
    if len(parameters) != 44:
        raise OSError(errno.EBADMSG, "class without parameters")
    spec, rate, other, ceil, burst, cburst, quantum, _, priority = struct.unpack("=8sI8sIIIIII", parameters)
    if spec != _SPEC_HEAD or other != _SPEC_HEAD or priority:
        quantum = -1
    rate64, ceil64 = (int.from_bytes(options.get(kind, b""), sys.byteorder) for kind in (_RATE64, _CEIL64))
    return rate64 or rate, ceil64 or ceil, burst, cburst, quantum


def counters(channel: netlink.Socket, ifindex: int, drops_of: Mapping[int, int]) -> dict[int, model.ClassCounters]:
    """Read the counters of all classes, by minor; `drops_of`: the drops counted under each class.

    The class counts the packets that its leaf refuses, but not those that the leaf drops later. So the larger of the
    two numbers is right, and their sum is not.
    """
    read: dict[int, model.ClassCounters] = {}
    unpack, size, record = _COUNTERS_TOLD.unpack_from, _COUNTERS_TOLD.size, model.ClassCounters
    for buffer, starts in _dump(channel, ifindex):
        room = len(buffer) - size
        for start in starts:
            minor = int.from_bytes(buffer[start + 8 : start + 10], sys.byteorder)
            below = drops_of.get(minor, 0)
            if start <= room:
                (_, _, _, _, length, basic, count, packets, queue, backlog, drops, over, app, lended, borrowed) = (
                    unpack(buffer, start)
                )
                if (
                    length == _OPTIONS_LENGTH
                    and basic == tcmsg.BASIC_HEAD
                    and queue == tcmsg.QUEUE_HEAD
                    and app == _APP_HEAD
                ):
                    drops = below if below > drops else drops
                    read[minor] = record(count, packets, drops, over, backlog, lended, borrowed)
                    continue
            read[minor] = _unusual_counters(buffer, start, below)
    return read


def _unusual_counters(buffer: bytes, start: int, below: int) -> model.ClassCounters:
    """Decode the same from attributes in any order: with 64-bit rates, after 2³² packets, or on a machine that pads."""
    count = packets = drops = overlimits = backlog = lended = borrowed = 0
    attributes = netlink.payloads(buffer, start + 20, netlink.end(buffer, start)).get(tcmsg.STATS2, b"")
    statistics = netlink.payloads(attributes, 0, len(attributes))
    if tcmsg.STATS_BASIC in statistics:
        count, packets = struct.unpack_from("=QI", statistics[tcmsg.STATS_BASIC])
    if tcmsg.STATS_PACKETS64 in statistics:
        (packets,) = struct.unpack_from("=Q", statistics[tcmsg.STATS_PACKETS64])
    if tcmsg.STATS_QUEUE in statistics:
        _, backlog, drops, _, overlimits = tcmsg.QUEUE.unpack_from(statistics[tcmsg.STATS_QUEUE])
    if tcmsg.STATS_APP in statistics:
        lended, borrowed = struct.unpack_from("=II", statistics[tcmsg.STATS_APP])
    return model.ClassCounters(count, packets, max(drops, below), overlimits, backlog, lended, borrowed)


def put_message(ifindex: int, minor: int, wanted: objects.HtbClass) -> netlink.Message:
    """Return the message that creates the class or changes it. Raises struct.error for a number that does not fit."""
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
    """One message for a class, and the errors which mean that nothing had to be done."""

    minor: int
    message: netlink.Message
    harmless: frozenset[int]


_NONE: frozenset[int] = frozenset()
_THERE = frozenset({errno.EEXIST})
_GONE = frozenset({errno.ENOENT})


def put_steps(ifindex: int, minor: int, wanted: objects.HtbClass, observed: objects.HtbClass | None) -> Iterator[Step]:
    """Return the messages that turn the observed class into the desired one, without those for parts that are equal."""
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
        inner = leaves.put_inner(ifindex, minor, leaf) if present is None else None
        if inner is not None:
            yield Step(minor, inner, _THERE)


def put(
    channel: netlink.Socket,
    ifindex: int,
    wanted: Mapping[int, objects.HtbClass],
    observed: Mapping[int, objects.HtbClass],
) -> dict[int, netlink.Refusal]:
    """Create or change classes with their leaves, parents first; return the first refusal of each failed class.

    HTB silently makes a class without its parent a child of the root, so a child is sent only if its parent exists.
    """
    parents = {shape.parent for shape in wanted.values()} - {0}
    failed = _put(channel, ifindex, {minor: wanted[minor] for minor in parents & wanted.keys()}, observed)
    known = {shape.parent for minor, shape in observed.items() if minor in wanted} | wanted.keys() - failed.keys()
    missing = parents - known
    if missing - failed.keys():
        missing -= observe(channel, ifindex, {}).keys() - failed.keys()
    orphans = {minor for minor, shape in wanted.items() if shape.parent in missing}
    failed |= dict.fromkeys(orphans, netlink.Refusal(errno.ENOENT, "its parent class is not there"))
    others = {minor: shape for minor, shape in wanted.items() if minor not in parents and minor not in orphans}
    return failed | _put(channel, ifindex, others, observed)


def _put(
    channel: netlink.Socket,
    ifindex: int,
    wanted: Mapping[int, objects.HtbClass],
    observed: Mapping[int, objects.HtbClass],
) -> dict[int, netlink.Refusal]:
    steps: list[Step] = []
    failed: dict[int, netlink.Refusal] = {}
    for minor, shape in sorted(wanted.items()):
        try:
            steps.extend(put_steps(ifindex, minor, shape, observed.get(minor)))
        except struct.error as error:
            failed[minor] = netlink.Refusal(errno.ERANGE, str(error))
    return _run(channel, steps, failed)


def delete(channel: netlink.Socket, ifindex: int, minors: Iterable[int]) -> dict[int, netlink.Refusal]:
    """Delete classes with everything under them, children first. A class that does not exist is no failure."""
    ordered = sorted(minors, key=lambda minor: (minor == names.OBSERVE_PARENT, minor))
    return _run(channel, [Step(minor, delete_message(ifindex, minor), _GONE) for minor in ordered], {})


def _run(channel: netlink.Socket, steps: list[Step], failed: dict[int, netlink.Refusal]) -> dict[int, netlink.Refusal]:
    for position, refusal in sorted(channel.execute([step.message for step in steps]).items()):
        step = steps[position]
        if refusal.errno not in step.harmless:
            failed.setdefault(step.minor, refusal)
    return failed
