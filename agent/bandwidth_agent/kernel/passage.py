"""What an egress hook of ours counts, and what its interface counts: whether packets come to us at all. Reads only.

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

from bandwidth_agent.kernel import hooks, links, model, netlink, tcmsg

_ECHO = 0x8  # kernels before 6.7 answer only with it
_STATISTICS64 = 23
_LINK_COUNTERS = struct.Struct("=24xQ")  # packets received and sent, bytes received; bytes sent
_BASIC = struct.Struct("=QI")  # bytes, packets
_GONE = (errno.ENODEV, errno.ENOENT, errno.ENODATA)  # the last: the clsact qdisc was deleted a moment ago


def read(channel: netlink.Socket, interfaces: Iterable[str]) -> dict[str, model.HookPassage]:
    """By interface; one that is gone, or has no clsact qdisc any more, is left out."""
    found: dict[str, model.HookPassage] = {}
    for name in interfaces:
        try:
            found[name] = _of(channel, name)
        except OSError as error:
            if error.errno not in _GONE:
                raise
    return found


def _of(channel: netlink.Socket, name: str) -> model.HookPassage:
    # A packet comes to the hook, is redirected and leaves, in this order. Read the other way round, one that passes
    # between two of these requests can only make it look as if more had come to the hook.
    index, left_bytes = _link(channel, name)
    redirects = hooks.read(channel, index).redirects.values()
    reached_bytes = _clsact_bytes(channel, index)
    return model.HookPassage(
        index=index,
        left_bytes=left_bytes,
        reached_bytes=reached_bytes,
        redirected_bytes=sum(redirect.acted_bytes for redirect in redirects),
        redirected_packets=sum(redirect.acted_packets for redirect in redirects),
    )


def _link(channel: netlink.Socket, name: str) -> tuple[int, int]:
    """The index of a device, and the bytes that it has sent."""
    request = links.HEADER.pack(0, 0, 0, 0, 0) + netlink.text_attribute(links.NAME, name)
    part = channel.ask(netlink.Message(links.GET_LINK, 0, request))
    told = netlink.payloads(part.buffer, part.start + links.HEADER.size, part.end).get(_STATISTICS64, b"")
    (count,) = _LINK_COUNTERS.unpack_from(told) if len(told) >= _LINK_COUNTERS.size else (0,)
    return links.HEADER.unpack_from(part.buffer, part.start)[2], count


def _clsact_bytes(channel: netlink.Socket, ifindex: int) -> int:
    part = channel.ask(netlink.Message(tcmsg.GET_QDISC, _ECHO, tcmsg.header(ifindex, 0, tcmsg.CLSACT)))
    fields = netlink.payloads(part.buffer, part.start + tcmsg.HEADER.size, part.end)
    statistics = fields.get(tcmsg.STATS2, b"")
    basic = netlink.payloads(statistics, 0, len(statistics)).get(tcmsg.STATS_BASIC, b"")
    return int(_BASIC.unpack_from(basic)[0]) if len(basic) >= _BASIC.size else 0
