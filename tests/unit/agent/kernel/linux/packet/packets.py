"""Packets as bytes, from the IP header on, made field by field."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

TCP, UDP, ICMP6 = 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, OPTIONS = 0, 43, 44, 51, 60

DIALLING_PORT = 50_000  # of the client


def ports(source: int, payload: int = 100) -> bytes:
    """The first bytes of TCP or UDP, and what follows."""
    return struct.pack("!HH", source, DIALLING_PORT) + bytes(4 + payload)


def v4(to: str, protocol: int, behind: bytes, *, options: int = 0, fragment: int = 0) -> bytes:
    """`options`: 32-bit words; `fragment`: flags and offset."""
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | 5 + options,
        0,
        20 + 4 * options + len(behind),
        0,
        fragment,
        64,
        protocol,
        0,
        bytes(4),
        ipaddress.IPv4Address(to).packed,
    )
    return header + bytes(4 * options) + behind


def v6(to: str, protocol: int, behind: bytes, extensions: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """`extensions`: the kind of each, and its bytes from the second on."""
    kinds = [kind for kind, _ in extensions] + [protocol]
    body = b"".join(bytes([kinds[n + 1]]) + rest for n, (_, rest) in enumerate(extensions)) + behind
    address = ipaddress.IPv6Address(to).packed
    return struct.pack("!IHBB16s16s", 6 << 28, len(body), kinds[0], 64, bytes(16), address) + body


def extension(kind: int, words: int = 0) -> tuple[int, bytes]:
    """Hop-by-hop, routing or destination options, of 8 bytes and `words` times 8."""
    return kind, bytes([words]) + bytes(6 + 8 * words)


def authentication(words: int = 4) -> tuple[int, bytes]:
    """Of 8 bytes and `words` times 4."""
    return AUTHENTICATION, bytes([words]) + bytes(6 + 4 * words)


def fragment(offset: int) -> tuple[int, bytes]:
    """`offset`: in units of 8 bytes."""
    return FRAGMENT, bytes([0]) + struct.pack("!HI", offset << 3 | 1, 7)
