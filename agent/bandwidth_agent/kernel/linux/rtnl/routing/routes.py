"""Reads the node's addresses, its routes, and the results of its route look-ups."""

from __future__ import annotations

import errno
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.rtnl.routing import nexthops
from bandwidth_api.plan import Prefix

_GET_ADDRESS, _GET_ROUTE = 22, 26
_INET, _INET6 = 2, 10
_FAMILY = {_INET: 4, _INET6: 6}

_ADDRESS_HEADER = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, interface index
_IFA_ADDRESS, _IFA_LOCAL = 1, 2

# family, destination length, source length, tos, table, protocol, scope, type, flags
_ROUTE_HEADER = struct.Struct("=BBBBBBBBI")
_DESTINATION, _OIF, _GATEWAY, _MULTIPATH, _TABLE, _VIA, _NEXT_HOP_ID = 1, 4, 5, 9, 15, 18, 30
_MAIN_TABLE = 254
_UNICAST = 1
_CACHED = 0x200
_FIB_MATCH = 0x2000
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, hops, interface index

_QUESTIONS = {
    number: _ROUTE_HEADER.pack(family, 8 * octets, 0, 0, 0, 0, 0, 0, _FIB_MATCH)
    + netlink.ATTRIBUTE.pack(4 + octets, _DESTINATION)
    for number, family, octets in ((4, _INET, 4), (6, _INET6, 16))
}

# What the kernel answers for a family that it was built or booted without, or a table that it has not made.
_NO_FAMILY = frozenset({errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP})


class NextHop(NamedTuple):
    """One next hop of a default route; without an interface if its form is not understood."""

    ifindex: int | None
    gateway: Prefix | None


_ONE_OF = {_OIF, _MULTIPATH}
_UNCLEAR = (NextHop(None, None),)


def addresses(channel: netlink.Socket) -> Iterator[tuple[int, Prefix]]:
    """Return the node's own addresses with their interface index."""
    for buffer, start, end in channel.dump(_GET_ADDRESS, _ADDRESS_HEADER.pack(0, 0, 0, 0, 0)):
        family, _, _, _, index = _ADDRESS_HEADER.unpack_from(buffer, start)
        fields = netlink.payloads(buffer, start + _ADDRESS_HEADER.size, end)
        address = fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS)
        if family in _FAMILY and address:
            yield index, _single(address)


def default_next_hops(channel: netlink.Socket) -> Iterator[NextHop]:
    """Return every next hop of every default route in the main table, of both families."""
    objects = nexthops.Lazy(channel)
    for family in (_INET, _INET6):
        body = _ROUTE_HEADER.pack(family, 0, 0, 0, _MAIN_TABLE, 0, 0, 0, 0)
        try:
            parts = channel.dump(_GET_ROUTE, body + netlink.int_attribute(_TABLE, _MAIN_TABLE))
        except OSError as error:
            if error.errno in _NO_FAMILY:
                continue
            raise
        for part in parts:
            if part.buffer[part.start + 1]:  # its length: a node may hold a million routes that are no default
                continue
            route = decode(part, objects)
            if route.table == _MAIN_TABLE and route.hops is not None:
                yield from route.hops


class Route(NamedTuple):
    """A route, or the result of a look-up."""

    destination: Prefix
    table: int
    hops: tuple[NextHop, ...] | None  # None: no packet leaves by it


def decode(part: netlink.Part, objects: nexthops.Lazy) -> Route:
    """Decode one route message."""
    family, length, _, _, table, _, _, kind, flags = _ROUTE_HEADER.unpack_from(part.buffer, part.start)
    fields = netlink.payloads(part.buffer, part.start + _ROUTE_HEADER.size, part.end)
    table = int.from_bytes(fields[_TABLE], "little") if _TABLE in fields else table
    bits = 32 if family == _INET else 128
    address = int.from_bytes(fields.get(_DESTINATION, b""), "big")
    destination = Prefix(4 if family == _INET else 6, address >> (bits - length) << (bits - length), length)
    leaves = kind == _UNICAST and not flags & _CACHED
    return Route(destination, table, tuple(_hops(fields, objects)) if leaves else None)


def _hops(fields: dict[int, bytes], objects: nexthops.Lazy) -> Iterable[NextHop]:
    if _NEXT_HOP_ID in fields:  # whatever stands beside it is a copy, and not on every host
        ways = objects.read().ways(int.from_bytes(fields[_NEXT_HOP_ID], "little"))
        return _UNCLEAR if ways is None else itertools.starmap(_from_object, ways)
    return _next_hops(fields) if _ONE_OF & fields.keys() else _UNCLEAR


def dump(channel: netlink.Socket, family: int, at_most: int) -> list[Route] | None:
    """Return the routes of all tables of one family (4 or 6); None if there are too many."""
    body = _ROUTE_HEADER.pack(_INET if family == 4 else _INET6, 0, 0, 0, 0, 0, 0, 0, 0)
    try:
        parts = channel.dump(_GET_ROUTE, body)
    except OSError as error:
        if error.errno in _NO_FAMILY:
            return []
        raise
    if len(parts) > at_most:
        return None
    objects = nexthops.Lazy(channel)
    return [decode(part, objects) for part in parts]


def look_up(channel: netlink.Socket, addresses: Sequence[Prefix]) -> list[Route | None]:
    """Look up the route of each of these addresses; None: no packet reaches it from here.

    The destination of a result is that of the route that applies.
    """
    objects = nexthops.Lazy(channel)
    asked = [netlink.Message(_GET_ROUTE, 0, _question(address)) for address in addresses]
    decoded: dict[bytes, Route] = {}  # thousands of addresses have one route, and one answer
    found: list[Route | None] = []
    for answer in channel.ask_all(asked):
        if isinstance(answer, netlink.Refusal):
            found.append(None)
            continue
        content = answer.buffer[answer.start : answer.end]
        route = decoded.get(content)
        if route is None:
            route = decoded[content] = decode(answer, objects)
        found.append(route)
    return found


def _question(address: Prefix) -> bytes:
    return _QUESTIONS[address.family] + address.network.to_bytes(address.length // 8, "big")


def _from_object(ifindex: int, gateway: bytes) -> NextHop:
    return NextHop(ifindex, _single(gateway) if gateway else None)


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
