"""Reads what came out of our classes and what waits before interfaces: few requests, and no dump of all leaves.

Reads only.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable

from bandwidth_agent.kernel import model, netlink
from bandwidth_agent.kernel.linux.rtnl import classes, links, tcmsg

_ECHO = 0x8  # kernels before 6.7 answer only with it
# EINVAL: the device has no queue, or its qdisc is none that the kernel lists.
_NOTHING = (errno.ENODEV, errno.ENOENT, errno.EINVAL)


def read(channel: netlink.Socket, devices: Iterable[str], interfaces: Iterable[str]) -> model.QueueReading:
    """Return the counters of the classes of these devices, and of these interfaces; what is gone is left out."""
    at = time.monotonic()
    by_device: dict[str, dict[int, model.ClassCounters]] = {}
    for name in devices:
        link = links.find(channel, name)
        if link is not None:
            by_device[name] = classes.counters(channel, link.ifindex, {})
    uplinks = {
        name: model.UplinkCounters(sent, _backlog(channel, index))
        for name, (index, sent) in sent_bytes(channel, interfaces).items()
    }
    return model.QueueReading(at, by_device, uplinks)


def sent_bytes(channel: netlink.Socket, interfaces: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return the index of each interface and the bytes that it has sent; what is gone is left out."""
    found: dict[str, tuple[int, int]] = {}
    for name in interfaces:
        try:
            found[name] = links.sent_bytes(channel, name)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
    return found


def _backlog(channel: netlink.Socket, ifindex: int) -> int:
    """Return the bytes that wait in the root qdisc of a device."""
    try:
        part = channel.ask(netlink.Message(tcmsg.GET_QDISC, _ECHO, tcmsg.header(ifindex, 0, tcmsg.ROOT)))
    except OSError as error:
        if error.errno in _NOTHING:
            return 0
        raise
    statistics = netlink.payloads(part.buffer, part.start + tcmsg.HEADER.size, part.end).get(tcmsg.STATS2, b"")
    queue = netlink.payloads(statistics, 0, len(statistics)).get(tcmsg.STATS_QUEUE, b"")
    return int(tcmsg.QUEUE.unpack_from(queue)[1]) if len(queue) >= tcmsg.QUEUE.size else 0
