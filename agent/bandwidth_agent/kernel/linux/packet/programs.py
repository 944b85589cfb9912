"""The classic BPF programs of packet sockets: which packets are taken, and how much of each. Pure.

They see a packet from its IP header on (SOCK_DGRAM). What they return is how many bytes are copied, headers only; its
last two bits say under which period a packet was taken, so that no clock is needed to know it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

INSTRUCTION_BYTES = 8
GENERATIONS = 4  # 24 + 3 and 44 + 3 are less than the shortest UDP packet: the bits are in every one of TCP and UDP
HEADERS_BYTES = 96  # as much as a capture, or a sample with extension headers, copies at most

V4_BYTES, V6_BYTES = 24, 44  # a header and the ports behind it

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_BYTE, _LOAD_LENGTH = 0x20, 0x30, 0x80
_LOAD_HEADER_LENGTH_X = 0xB1  # X = 4 × (low half of the byte)
_AND, _ADD, _SHIFT_RIGHT, _A_TO_X, _X_TO_A = 0x54, 0x04, 0x74, 0x07, 0x87
_IF_EQUAL, _IF_LONGER_THAN_X = 0x15, 0x2D
_RETURN, _RETURN_A = 0x06, 0x16

_ANCILLARY = 0xFFFF_F000
_PROTOCOL, _PACKET_TYPE, _RANDOM = _ANCILLARY, _ANCILLARY + 4, _ANCILLARY + 56

_OUTGOING = 4
_IPV4, _IPV6 = 0x0800, 0x86DD
_VLANS = (0x8100, 0x88A8)  # a tag that is in the frame; the IP header is found all the same
_NEXT_HEADER_OFFSET = 6  # in an IPv6 header
PLAIN = (6, 17, 58)  # TCP, UDP, ICMPv6: in an IPv6 header, that no extension header follows
_END = "drop"


class _Line(NamedTuple):
    """One instruction; jumps name the label where to go on, "" for the next line."""

    code: int
    constant: int
    yes: str = ""
    no: str = ""
    label: str = ""


def sample(period: int, generation: int) -> bytes:
    """Return the program that takes an outgoing IP packet with probability length ÷ period, a power of two.

    `generation` is told by the two last bits of the copied length.
    """
    return _assembled(
        _Line(_LOAD_WORD, _PACKET_TYPE),
        _Line(_IF_EQUAL, _OUTGOING, no=_END),
        _Line(_LOAD_WORD, _RANDOM),
        _Line(_AND, period - 1),
        _Line(_A_TO_X, 0),
        _Line(_LOAD_LENGTH, 0),
        _Line(_IF_LONGER_THAN_X, 0, no=_END),
        *_by_family(),
        _Line(_LOAD_HEADER_LENGTH_X, 0, label="v4"),
        _Line(_X_TO_A, 0),
        _Line(_ADD, V4_BYTES - 20 + generation),
        _Line(_RETURN_A, 0),
        _Line(_LOAD_BYTE, _NEXT_HEADER_OFFSET, label="v6"),
        *(_Line(_IF_EQUAL, protocol, yes="plain") for protocol in PLAIN),
        _Line(_RETURN, HEADERS_BYTES + generation),
        _Line(_RETURN, V6_BYTES + generation, label="plain"),
    )


def every() -> bytes:
    """Return the program that takes the headers of every outgoing IP packet."""
    return _assembled(
        _Line(_LOAD_WORD, _PACKET_TYPE),
        _Line(_IF_EQUAL, _OUTGOING, no=_END),
        *_by_family(),
        _Line(_RETURN, HEADERS_BYTES, label="v4"),
        _Line(_RETURN, HEADERS_BYTES, label="v6"),
    )


def none() -> bytes:
    """Return the program that takes nothing."""
    return _assembled()


def _by_family() -> tuple[_Line, ...]:
    """Go to "v4" or "v6"; what is neither ends. Behind a VLAN tag in the frame the header itself says which it is."""
    return (
        _Line(_LOAD_WORD, _PROTOCOL),
        _Line(_IF_EQUAL, _IPV4, yes="v4"),
        _Line(_IF_EQUAL, _IPV6, yes="v6"),
        *(_Line(_IF_EQUAL, tag, yes="tagged") for tag in _VLANS[:-1]),
        _Line(_IF_EQUAL, _VLANS[-1], yes="tagged", no=_END),
        _Line(_LOAD_BYTE, 0, label="tagged"),
        _Line(_SHIFT_RIGHT, 4),
        _Line(_IF_EQUAL, 4, yes="v4"),
        _Line(_IF_EQUAL, 6, yes="v6", no=_END),
    )


def _assembled(*lines: _Line) -> bytes:
    """Labels become distances; the end, which takes nothing, is behind the last line."""
    whole = (*lines, _Line(_RETURN, 0, label=_END))
    at = {line.label: position for position, line in enumerate(whole) if line.label}

    def distance(label: str, position: int) -> int:
        return at[label] - position - 1 if label else 0

    return b"".join(
        _INSTRUCTION.pack(line.code, distance(line.yes, n), distance(line.no, n), line.constant)
        for n, line in enumerate(whole)
    )
