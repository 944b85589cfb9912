"""Reads the counters of our egress hooks and of their interfaces, which show whether packets reach our filters.

    packet ──▶ TCX programs ──next──▶ clsact: counts it ──▶ our filters ──mark──▶ mirred: counts it ──▶ ifb ─┐
                   │ pass                                        │ none                                      │
                   └─────────────────────────────────────────────┴──▶ root qdisc ──▶ interface: counts it    │
               ▲                                                                                             │
               └────────────── the same once more, but that our filters let it pass ─────────────────────────┘

Three small requests per interface, whatever the number of classes.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable

from bandwidth_agent.kernel import model, netlink
from bandwidth_agent.kernel.linux.rtnl import hooks, links, tcmsg

_ECHO = 0x8  # kernels before 6.7 answer only with it
_BASIC = struct.Struct("=QI")  # bytes, packets
_GONE = (errno.ENODEV, errno.ENOENT, errno.ENODATA)  # the last: the clsact qdisc was deleted a moment ago


def read(channel: netlink.Socket, interfaces: Iterable[str]) -> dict[str, model.HookCounters]:
    """Return the counters by interface, without interfaces that are gone or have no clsact qdisc."""
    found: dict[str, model.HookCounters] = {}
    for name in interfaces:
        try:
            found[name] = _of(channel, name)
        except OSError as error:
            if error.errno not in _GONE:
                raise
    return found


def _of(channel: netlink.Socket, name: str) -> model.HookCounters:
    # A packet comes to the hook, is redirected and leaves, in this order. Read the other way round, one that passes
    # between two of these requests can only make it look as if more had come to the hook.
    index, left_bytes = links.sent_bytes(channel, name)
    redirects = hooks.read(channel, index).redirects.values()
    reached_bytes = _clsact_bytes(channel, index)
    return model.HookCounters(
        index=index,
        left_bytes=left_bytes,
        reached_bytes=reached_bytes,
        redirected_bytes=sum(redirect.acted_bytes for redirect in redirects),
        redirected_packets=sum(redirect.acted_packets for redirect in redirects),
    )


def _clsact_bytes(channel: netlink.Socket, ifindex: int) -> int:
    part = channel.ask(netlink.Message(tcmsg.GET_QDISC, _ECHO, tcmsg.header(ifindex, 0, tcmsg.CLSACT)))
    fields = netlink.payloads(part.buffer, part.start + tcmsg.HEADER.size, part.end)
    statistics = fields.get(tcmsg.STATS2, b"")
    basic = netlink.payloads(statistics, 0, len(statistics)).get(tcmsg.STATS_BASIC, b"")
    return int(_BASIC.unpack_from(basic)[0]) if len(basic) >= _BASIC.size else 0
