"""Next hops that are objects of their own (`ip nexthop`), which a route names by number only. Reads only."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import netlink

_GET = 106
_HEADER = struct.Struct("=BBBBI")  # family, scope, protocol, reserved, flags
_ID, _GROUP, _BLACKHOLE, _OIF, _GATEWAY = 1, 2, 4, 5, 6
_MEMBER = struct.Struct("=IBBH")  # number, weight, the rest

# A kernel before 5.3 has none of them.
_UNKNOWN = frozenset({errno.EOPNOTSUPP, errno.EINVAL})


class Way(NamedTuple):
    ifindex: int
    gateway: bytes  # empty without one


class Objects:
    """All next hop objects at one time, by number."""

    def __init__(self, found: dict[int, dict[int, bytes]]) -> None:
        self._found = found

    def ways(self, number: int) -> tuple[Way, ...] | None:
        """Return the next hops of an object or a group, none for one that drops; None if it is not understood."""
        fields = self._found.get(number)
        if fields is None:
            return None
        ways: list[Way] = []
        for each in _members(fields[_GROUP]) if _GROUP in fields else [number]:
            member = self._found.get(each, {})
            if _OIF in member:
                ways.append(Way(int.from_bytes(member[_OIF], "little"), member.get(_GATEWAY, b"")))
            elif _BLACKHOLE not in member:
                return None
        return tuple(ways)


class Lazy:
    """All next hop objects, read when a route first names one."""

    def __init__(self, channel: netlink.Socket) -> None:
        self._channel = channel
        self._objects: Objects | None = None

    def read(self) -> Objects:
        if self._objects is None:
            self._objects = read(self._channel)
        return self._objects


def read(channel: netlink.Socket) -> Objects:
    """Read every next hop object of the namespace."""
    try:
        parts = channel.dump(_GET, _HEADER.pack(0, 0, 0, 0, 0))
    except OSError as error:
        if error.errno in _UNKNOWN:
            return Objects({})
        raise
    fields = [netlink.payloads(buffer, start + _HEADER.size, end) for buffer, start, end in parts]
    return Objects({int.from_bytes(each[_ID], "little"): each for each in fields if _ID in each})


def _members(group: bytes) -> Iterator[int]:
    return (number for number, *_ in _MEMBER.iter_unpack(group[: len(group) // _MEMBER.size * _MEMBER.size]))
