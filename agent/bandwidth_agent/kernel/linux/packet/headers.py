"""What the headers of one packet say: where it goes, what it carries, from which port. Pure.

For the fields that rules of netfilter compare, as they compare them: the destination of the fixed header, the protocol
behind the extension headers, ports only where the packet holds them.
"""

from __future__ import annotations

import struct
from mmap import mmap
from typing import NamedTuple

_TCP, _UDP = 6, 17
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = frozenset({0, 43, 60, _FRAGMENT, _AUTHENTICATION})  # hop-by-hop, routing, destination options
_FRAGMENT_OFFSET = 0x1FFF
_FRAGMENT_OFFSET_V6 = 0xFFF8
_NO_PORTS = (-1, -1)
_PLAIN_FIRST = 0x45  # version 4, a header without options
_PLAIN = struct.Struct("!B5xHxB6xIHH")  # the first byte; fragment, protocol, destination, ports
PLAIN_BYTES = _PLAIN.size


class Headers(NamedTuple):
    """Of one packet. -1: there is none, or the headers that were copied do not show it."""

    destination: bytes  # 4 or 16, as in the header
    protocol: int
    source_port: int
    destination_port: int


def plain(memory: bytes | mmap, start: int) -> tuple[int, int, int, int] | None:
    """Return destination, protocol and ports of an IPv4 packet of TCP or UDP without options, as nearly all are.

    None for any other. There must be PLAIN_BYTES of it; a third of the time of `read`.
    """
    first, fragment, protocol, destination, source_port, destination_port = _PLAIN.unpack_from(memory, start)
    if first != _PLAIN_FIRST or fragment & _FRAGMENT_OFFSET or protocol not in (_TCP, _UDP):
        return None
    return destination, protocol, source_port, destination_port


def read(copied: bytes) -> Headers | None:
    """Return what an IP packet says from its first bytes; None when they do not even hold a destination."""
    version = copied[0] >> 4 if copied else 0
    if version == 4 and len(copied) >= 20:
        later = int.from_bytes(copied[6:8], "big") & _FRAGMENT_OFFSET
        ports = _NO_PORTS if later else _ports(copied, copied[9], 4 * (copied[0] & 15))
        return Headers(copied[16:20], copied[9], *ports)
    if version == 6 and len(copied) >= 40:
        return Headers(copied[24:40], *_behind_extensions(copied))
    return None


def _behind_extensions(copied: bytes) -> tuple[int, int, int]:
    """Protocol and ports of an IPv6 packet."""
    protocol, offset = copied[6], 40
    while protocol in _EXTENSIONS:
        if offset + 8 > len(copied):
            return -1, *_NO_PORTS
        if protocol == _FRAGMENT:
            if int.from_bytes(copied[offset + 2 : offset + 4], "big") & _FRAGMENT_OFFSET_V6:
                return -1 if copied[offset] in _EXTENSIONS else copied[offset], *_NO_PORTS
            length = 8
        elif protocol == _AUTHENTICATION:
            length = 4 * (copied[offset + 1] + 2)
        else:
            length = 8 * (copied[offset + 1] + 1)
        protocol, offset = copied[offset], offset + length
    return protocol, *_ports(copied, protocol, offset)


def _ports(copied: bytes, protocol: int, offset: int) -> tuple[int, int]:
    """Source and destination port."""
    if protocol not in (_TCP, _UDP) or offset + 4 > len(copied):
        return _NO_PORTS
    both = int.from_bytes(copied[offset : offset + 4], "big")
    return both >> 16, both & 0xFFFF
