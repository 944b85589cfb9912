"""Addresses of the node, and the default routes of its main table. Reads only."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import netlink
from bandwidth_api.plan import Prefix

_GET_ADDRESS, _GET_ROUTE = 22, 26
_INET, _INET6 = 2, 10
_FAMILY = {_INET: 4, _INET6: 6}

_ADDRESS_HEADER = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, interface index
_IFA_ADDRESS, _IFA_LOCAL = 1, 2

# family, destination length, source length, tos, table, protocol, scope, type, flags
_ROUTE_HEADER = struct.Struct("=BBBBBBBBI")
_OIF, _GATEWAY, _MULTIPATH, _TABLE, _VIA = 4, 5, 9, 15, 18
_MAIN_TABLE = 254
_UNICAST = 1
_CACHED = 0x200
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, hops, interface index

# What the kernel answers for a family that it was built or booted without, or a table that it has not made.
_NO_FAMILY = frozenset({errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP})


class NextHop(NamedTuple):
    """One way out of a default route."""

    ifindex: int
    gateway: Prefix | None


def addresses(channel: netlink.Socket) -> Iterator[tuple[int, Prefix]]:
    """The node's own addresses with their interface index."""
    for buffer, start, end in channel.dump(_GET_ADDRESS, _ADDRESS_HEADER.pack(0, 0, 0, 0, 0)):
        family, _, _, _, index = _ADDRESS_HEADER.unpack_from(buffer, start)
        fields = netlink.payloads(buffer, start + _ADDRESS_HEADER.size, end)
        address = fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS)
        if family in _FAMILY and address:
            yield index, _single(address)


def default_next_hops(channel: netlink.Socket) -> Iterator[NextHop]:
    """Every next hop of every default route in the main table, both families."""
    for family in (_INET, _INET6):
        body = _ROUTE_HEADER.pack(family, 0, 0, 0, _MAIN_TABLE, 0, 0, 0, 0)
        try:
            parts = channel.dump(_GET_ROUTE, body + netlink.int_attribute(_TABLE, _MAIN_TABLE))
        except OSError as error:
            if error.errno in _NO_FAMILY:
                continue
            raise
        for buffer, start, end in parts:
            if buffer[start + 1]:  # the destination's length: a node may hold a million routes that are no default
                continue
            _, _, _, _, table, _, _, kind, flags = _ROUTE_HEADER.unpack_from(buffer, start)
            fields = netlink.payloads(buffer, start + _ROUTE_HEADER.size, end)
            table = int.from_bytes(fields[_TABLE], "little") if _TABLE in fields else table
            if table == _MAIN_TABLE and kind == _UNICAST and not flags & _CACHED:
                yield from _next_hops(fields)


def _next_hops(fields: dict[int, bytes]) -> Iterator[NextHop]:
    if _OIF in fields:
        yield NextHop(int.from_bytes(fields[_OIF], "little"), _gateway(fields))
    hops = fields.get(_MULTIPATH, b"")
    start = 0
    while start + _NEXT_HOP.size <= len(hops):
        length, _, _, index = _NEXT_HOP.unpack_from(hops, start)
        if length < _NEXT_HOP.size:
            break
        yield NextHop(index, _gateway(netlink.payloads(hops, start + _NEXT_HOP.size, start + length)))
        start += (length + 3) & ~3


def _gateway(fields: dict[int, bytes]) -> Prefix | None:
    if _GATEWAY in fields:
        return _single(fields[_GATEWAY])
    via = fields.get(_VIA, b"")  # a gateway of the other family: its family (16 bits), then the address
    return _single(via[2:]) if len(via) in (6, 18) else None


def _single(address: bytes) -> Prefix:
    return Prefix(4 if len(address) == 4 else 6, int.from_bytes(address, "big"), 8 * len(address))
