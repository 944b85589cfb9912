"""IP packets as bytes, with what a program has to go past: options, extension headers, fragments."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

TCP, UDP, ICMP = 6, 17, 1
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60

SERVER4, SERVER6 = "192.0.2.10", "2001:db8:0:1::10"


def v4(
    destination: str | bytes,
    protocol: int = UDP,
    port: int = 9,
    *,
    options: int = 0,
    offset: int = 0,
    more: bool = False,
    payload: bytes = bytes(16),
) -> bytes:
    """A packet from this port. `options`: their bytes, a multiple of 4; `offset`: of a fragment, in units of 8."""
    behind = _transport(protocol, port, payload, whole=not offset)
    length = 20 + options
    head = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x40 | length // 4, 0, length + len(behind), 1, offset | (0x2000 if more else 0), 64, protocol, 0),
        *(socket.inet_aton(SERVER4), _packed(destination)),
    )
    head += b"\x01" * options
    return head[:10] + _sum(head) + head[12:] + behind


def v6(
    destination: str | bytes,
    protocol: int = UDP,
    port: int = 9,
    *,
    extensions: Sequence[tuple[int, int]] = (),
    offset: int = 0,
    payload: bytes = bytes(16),
) -> bytes:
    """A packet from this port. `extensions`: kinds of headers with their lengths; `offset`: as for `v4`."""
    behind = _transport(protocol, port, payload, whole=not offset)
    following = protocol
    for kind, length in reversed(extensions):
        behind = extension(kind, length, following, offset) + behind
        following = kind
    ends = socket.inet_pton(socket.AF_INET6, SERVER6) + _packed(destination)
    return struct.pack("!IHBB", 6 << 28, len(behind), following, 64) + ends + behind


def extension(kind: int, length: int, following: int, offset: int = 0) -> bytes:
    """One header; `length` as it stands in it, in the unit of its kind, which a fragment's has not."""
    if kind == FRAGMENT:
        return struct.pack("!BBHI", following, 0, offset << 3, 1)
    size = 4 * (length + 2) if kind == AUTHENTICATION else 8 * (length + 1)
    # padding options, as long as they can be
    return bytes((following, length)) + b"\x01" * (size - 2)


def _transport(protocol: int, port: int, payload: bytes, *, whole: bool) -> bytes:
    if not whole or protocol not in (TCP, UDP):
        return payload
    if protocol == TCP:
        return struct.pack("!HHIIBBHHH", port, 40_000, 0, 0, 0x50, 0x10, 1000, 0, 0) + payload
    return struct.pack("!HHHH", port, 40_000, 8 + len(payload), 0) + payload


def _packed(destination: str | bytes) -> bytes:
    if isinstance(destination, bytes):
        return destination
    return socket.inet_pton(socket.AF_INET6 if ":" in destination else socket.AF_INET, destination)


def _sum(header: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
