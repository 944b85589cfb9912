"""What nftables' own rules do with the packet mark, decoded from the kernel's list of rules.

Owns that one question, for nodes whose rules were not written by iptables. Read from the kernel because `nft` is
often not installed, and its listing takes seconds on nodes with many rules. Must never change a rule.

A rule is a little program over registers; this follows the mark through them:

    [ meta load mark => reg 1 ] [ bitwise reg 1 = (reg 1 & 0xffffbfff) ^ 0x4000 ] [ meta set mark with reg 1 ]
      all bits in register 1      touches what is not in the mask, and the xor        written: bit 0x4000
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import netlink, nfnetlink

ALL_BITS = 0xFFFFFFFF

_GET_RULE = 10 << 8 | 7
_TABLE, _CHAIN, _HANDLE, _EXPRESSIONS = 1, 2, 3, 4
_NAME, _DATA = 1, 2
_META_DESTINATION, _META_KEY, _META_SOURCE, _MARK = 1, 2, 3, 3
_BITWISE_SOURCE, _BITWISE_DESTINATION, _BITWISE_MASK, _BITWISE_XOR, _BITWISE_OPERATION = 1, 2, 4, 5, 6
_VALUE = 1
_COMPAT_NAME = 1

# In the bytes of a rule: an expression `meta` whose first number is the key of the mark, or an extension of iptables
# that has to do with marks. Nearly all rules have neither and are not decoded.
_CANDIDATE = re.compile(
    rb"meta\0{4}.{8}\0\0\0\x03|target\0\0.{8}(?:MARK|CONNMARK|HMARK|TPROXY|SET)\0|match\0{3}.{8}(?:mark|socket)\0",
    re.DOTALL,
)
_COMPAT_WITH_MARK = frozenset({"mark", "socket", "MARK", "CONNMARK", "HMARK", "TPROXY", "SET"})

_FAMILY_WORDS = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


class MarkedRule(NamedTuple):
    """A rule that reads or writes the mark."""

    family: int  # NFPROTO_*
    table: str
    chain: str
    handle: int
    bits: int

    def __str__(self) -> str:
        word = _FAMILY_WORDS.get(self.family, str(self.family))
        return f"nft {word} table {self.table} chain {self.chain} handle {self.handle}"


def with_marks(family: int, table: str) -> Iterator[MarkedRule]:
    """Every rule of a table that reads or writes packet marks."""
    question = nfnetlink.message(_GET_RULE, 0, family, netlink.text_attribute(_TABLE, table))
    with nfnetlink.connection() as kernel:
        parts = kernel.dump(question.type, question.body)
    for part in parts:
        if not _CANDIDATE.search(part.buffer, part.start, part.end):
            continue
        rule = nfnetlink.fields(part)
        bits = mark_bits(rule.get(_EXPRESSIONS, b""))
        if bits:
            chain, handle = netlink.text(rule[_CHAIN]), int.from_bytes(rule[_HANDLE], "big")
            yield MarkedRule(family, table, chain, handle, bits)


def mark_bits(expressions: bytes) -> int:
    """The bits of the mark that a rule with these expressions reads or writes."""
    bits = 0
    masks: dict[bytes, tuple[int, int]] = {}  # register that holds the mark → (and, xor) done to it
    for name, data in _decoded(expressions):
        source = data.get(_META_SOURCE, b"")
        if name == "meta" and _big(data.get(_META_KEY)) == _MARK and not source:
            masks[data.get(_META_DESTINATION, b"")] = (ALL_BITS, 0)
        elif name == "meta" and _big(data.get(_META_KEY)) == _MARK:
            kept, flipped = masks.pop(source, (0, ALL_BITS))
            bits |= ~kept | flipped
        elif name == "bitwise" and data.get(_BITWISE_SOURCE) in masks:
            del masks[data[_BITWISE_SOURCE]]
            masks[data.get(_BITWISE_DESTINATION, b"")] = _and_xor(data)
        elif name in ("match", "target"):
            bits |= ALL_BITS if netlink.text(data.get(_COMPAT_NAME, b"")) in _COMPAT_WITH_MARK else 0
        elif name not in ("counter", "immediate"):
            bits |= _read(masks)  # compared, looked up or stored, if it is the mark that this expression takes
    return (bits | _read(masks)) & ALL_BITS


def _read(masks: dict[bytes, tuple[int, int]]) -> int:
    bits = 0
    for kept, _ in masks.values():
        bits |= kept
    return bits


def _and_xor(data: dict[int, bytes]) -> tuple[int, int]:
    """What a bitwise expression does; of one that is no plain and-xor, that it may do anything."""
    if _big(data.get(_BITWISE_OPERATION)) or not {_BITWISE_MASK, _BITWISE_XOR} <= data.keys():
        return ALL_BITS, ALL_BITS
    mask, xor = (_inner(data[kind]).get(_VALUE, b"") for kind in (_BITWISE_MASK, _BITWISE_XOR))
    return int.from_bytes(mask, sys.byteorder), int.from_bytes(xor, sys.byteorder)


def _decoded(expressions: bytes) -> Iterator[tuple[str, dict[int, bytes]]]:
    """Each expression of a rule: its name and its attributes."""
    for _, start, end in netlink.attributes(expressions, 0, len(expressions)):
        expression = netlink.payloads(expressions, start, end)
        yield netlink.text(expression[_NAME]), _inner(expression.get(_DATA, b""))


def _inner(value: bytes) -> dict[int, bytes]:
    return netlink.payloads(value, 0, len(value))


def _big(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")
