"""Our HTB as the root qdisc of a device: put, delete, read.

Owns the root only, not its classes. Never replaces a root of another program: we ask the kernel to create exclusively,
which replaces only its own default qdisc (handle 0). Only on an ifb of ours any other root is removed.
"""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.rtnl import tcmsg
from bandwidth_api import names

_INIT, _DIRECT_QUEUE_LENGTH = 2, 5
_GLOBALS = struct.Struct("=IIIII")  # version, rate to quantum, default class, debug, direct packets
_VERSION, _RATE_TO_QUANTUM = 3, 10
_HANDLE = names.HTB_MAJOR << 16

# HTB takes the length of its direct queue from the device, where 0 means: drop every packet that is in no class.
_DIRECT_QUEUE_MIN = 1000


class Root(NamedTuple):
    default_minor: int
    direct_packets: int


def ours(qdisc: tcmsg.Qdisc) -> bool:
    return qdisc.parent == tcmsg.ROOT and qdisc.handle == _HANDLE and qdisc.kind == "htb"


def decode(qdisc: tcmsg.Qdisc) -> Root:
    glob = netlink.payloads(qdisc.buffer, qdisc.options, qdisc.behind).get(_INIT, b"")
    if len(glob) < _GLOBALS.size:
        raise OSError(errno.EBADMSG, "HTB without its globals")
    _, _, default_minor, _, direct_packets = _GLOBALS.unpack_from(glob)
    return Root(default_minor, direct_packets)


def put(channel: netlink.Socket, ifindex: int, queue_length: int, default_minor: int, *, own_device: bool) -> None:
    """Make our HTB the root of a device whose root the kernel made; with another default class it is replaced.

    `own_device`: the device is an ifb of ours, on which a root of another program may be removed.
    """
    options = netlink.nest(
        tcmsg.OPTIONS,
        netlink.attribute(_INIT, _GLOBALS.pack(_VERSION, _RATE_TO_QUANTUM, default_minor, 0, 0)),
        netlink.int_attribute(_DIRECT_QUEUE_LENGTH, max(queue_length, _DIRECT_QUEUE_MIN)),
    )
    body = tcmsg.header(ifindex, _HANDLE, tcmsg.ROOT) + netlink.text_attribute(tcmsg.KIND, "htb") + options
    create = netlink.Message(tcmsg.NEW_QDISC, netlink.CREATE | netlink.EXCLUSIVE, body)
    refusal = channel.execute([create]).get(0)
    if refusal is not None and own_device and find(channel, ifindex) is None:
        refusal = channel.execute([netlink.Message(tcmsg.NEW_QDISC, netlink.CREATE | netlink.REPLACE, body)]).get(0)
    if refusal is None:
        return
    present = find(channel, ifindex)
    if refusal.errno != errno.EEXIST or present is None:
        raise OSError(refusal.errno, refusal.text)
    if decode(present).default_minor != default_minor:
        channel.demand(_delete_message(ifindex), create)


def delete(channel: netlink.Socket, ifindex: int) -> None:
    """Delete our HTB with everything in it. A root that is not ours, or a device that is gone, is no failure."""
    refusal = channel.execute([_delete_message(ifindex)]).get(0)
    if refusal is None or refusal.errno in (errno.ENOENT, errno.ENODEV):
        return
    if find(channel, ifindex) is not None:
        raise OSError(refusal.errno, refusal.text)


def find(channel: netlink.Socket, ifindex: int) -> tcmsg.Qdisc | None:
    """Return our root on a device; None if there is none."""
    for qdisc in tcmsg.qdiscs(channel):
        if qdisc.ifindex == ifindex and ours(qdisc):
            return qdisc
    return None


def _delete_message(ifindex: int) -> netlink.Message:
    return netlink.Message(tcmsg.DELETE_QDISC, 0, tcmsg.header(ifindex, _HANDLE, tcmsg.ROOT))
