"""Finds what the rules of nftables do with the packet mark, decoded from the kernel's own list.

For rules of nft and of iptables-nft alike. Read from the kernel because `nft` is often not installed, because
iptables-save prints nothing of a table when one rule in it is newer than itself, and because a rule that is not decoded
here takes a microsecond only. Must never change a rule.

A rule is a small program over registers; this follows the mark through them:

    [ meta load mark => reg 1 ] [ bitwise reg 1 = (reg 1 & 0xffffbfff) ^ 0x4000 ] [ meta set mark with reg 1 ]
      all bits in register 1      touches what is not in the mask, and the xor        written: bit 0x4000
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.netfilter import nfnetlink

ALL_BITS = 0xFFFFFFFF

_GET_RULE = 10 << 8 | 7
_TABLE, _CHAIN, _HANDLE, _EXPRESSIONS = 1, 2, 3, 4
_NAME, _DATA = 1, 2
_META_DESTINATION, _META_KEY, _META_SOURCE = 1, 2, 3
_PRIORITY, _MARK = 2, 3
_BITWISE_SOURCE, _BITWISE_DESTINATION, _BITWISE_MASK, _BITWISE_XOR, _BITWISE_OPERATION = 1, 2, 4, 5, 6
_FIB_FLAGS, _FIB_WITH_MARK = 3, 1 << 2
_VALUE = 1
WAY_BACK = "fib mark"  # `by` of a rule that looks up a route with the mark, as reverse path filters do
_EXTENSION_NAME, _EXTENSION_REVISION, _EXTENSION_INFO = 1, 2, 3

# In the bytes of a rule: an expression `meta` whose first number is the key of the mark, or an extension of iptables
# that can have to do with marks. Nearly all of a node's ten thousands of rules have neither and are not decoded.
_CANDIDATE = re.compile(
    rb"meta\0{4}.{8}\0\0\0[\x02\x03]"
    rb"|target\0\0.{8}(?:MARK|CONNMARK|HMARK|TPROXY|SET|CT|CLASSIFY)\0"
    rb"|match\0{3}.{8}(?:mark|mark_m|socket|bpf)\0"
    rb"|fib\0",
    re.DOTALL,
)

# Modes and flags of the extensions (linux/netfilter/xt_*.h).
_SAVE, _RESTORE = 1, 2
_CONNMARK_MODE = {1: 12, 2: 14}  # its offset, by revision
_SET_FLAGS_OFFSET, _SET_MAP_MARK, _SET_MAP_PRIORITY = 12, 1 << 8, 1 << 9
_SOCKET_RESTORE_MARK = 1 << 2
_CT_ZONE_IS_MARK = 1 << 4

_FAMILY_WORDS = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


class MarkedRule(NamedTuple):
    """A rule that reads or writes the mark, or writes the priority."""

    family: int  # NFPROTO_*
    table: str
    chain: str
    handle: int
    bits: int
    written: int  # of these bits, those that are not only read
    read: int  # of these bits, those that are compared or copied
    by: str  # the name of the first expression or extension that does
    priority: bool  # it writes the priority of packets

    def __str__(self) -> str:
        word = _FAMILY_WORDS.get(self.family, str(self.family))
        return f"nft {word} table {self.table} chain {self.chain} handle {self.handle}: {self.by}"


def with_marks() -> Iterator[MarkedRule]:
    """Return every rule of this network namespace that reads or writes packet marks, or writes priorities."""
    question = nfnetlink.message(_GET_RULE, 0, socket.AF_UNSPEC, b"")
    with nfnetlink.connection() as kernel:
        parts = kernel.dump(question.type, question.body)
    for part in parts:
        if not _CANDIDATE.search(part.buffer, part.start, part.end):
            continue
        rule = nfnetlink.fields(part)
        uses = [*_uses(rule.get(_EXPRESSIONS, b""))]
        bits, written = _union(use.bits for use in uses), _union(use.bits for use in uses if use.writes)
        priority = any(use.priority for use in uses)
        if bits or priority:
            yield MarkedRule(
                family=part.buffer[part.start],
                table=netlink.text(rule[_TABLE]),
                chain=netlink.text(rule[_CHAIN]),
                handle=int.from_bytes(rule[_HANDLE], "big"),
                bits=bits,
                written=written,
                read=_union(use.bits for use in uses if not use.writes),
                by=next(use.by for use in uses if use.bits or use.priority),
                priority=priority,
            )


_OUR_EXTENSIONS = frozenset({"set", "SET", "conntrack", "comment"})


def foreign(family: int, table: str, chain: str) -> bool:
    """Return whether a chain has a rule with expressions that our own rules never have."""
    where = netlink.text_attribute(_TABLE, table) + netlink.text_attribute(_CHAIN, chain)
    question = nfnetlink.message(_GET_RULE, 0, family, where)
    with nfnetlink.connection() as kernel:
        parts = [nfnetlink.fields(part) for part in kernel.dump(question.type, question.body)]
    return any(
        name not in ("counter", "immediate", "lookup")
        and netlink.text(data.get(_EXTENSION_NAME, b"")) not in _OUR_EXTENSIONS
        for part in parts
        if (netlink.text(part[_TABLE]), netlink.text(part[_CHAIN])) == (table, chain)
        for name, data in _decoded(part.get(_EXPRESSIONS, b""))
    )


class _Use(NamedTuple):
    bits: int
    by: str
    writes: bool = False
    priority: bool = False


def _uses(expressions: bytes) -> Iterator[_Use]:
    """Return the bits of the mark that each expression of a rule reads or writes."""
    masks: dict[bytes, tuple[int, int]] = {}  # register that holds the mark → (and, xor) done to it
    for name, data in _decoded(expressions):
        source = data.get(_META_SOURCE, b"")
        if name == "meta" and _big(data.get(_META_KEY)) == _MARK and not source:
            masks[data.get(_META_DESTINATION, b"")] = (ALL_BITS, 0)
        elif name == "meta" and _big(data.get(_META_KEY)) == _MARK:
            kept, flipped = masks.pop(source, (0, ALL_BITS))
            yield _Use((~kept | flipped) & ALL_BITS, "meta mark", writes=True)
        elif name == "meta" and _big(data.get(_META_KEY)) == _PRIORITY and source:
            yield _Use(_union(kept for kept, _ in masks.values()), "meta priority", priority=True)
        elif name == "bitwise" and data.get(_BITWISE_SOURCE) in masks:
            del masks[data[_BITWISE_SOURCE]]
            masks[data.get(_BITWISE_DESTINATION, b"")] = _and_xor(data)
        elif name == "fib":
            yield _Use(ALL_BITS if _big(data.get(_FIB_FLAGS)) & _FIB_WITH_MARK else 0, WAY_BACK)
        elif name in ("match", "target"):
            extension = netlink.text(data.get(_EXTENSION_NAME, b""))
            revision = _big(data.get(_EXTENSION_REVISION))
            info = data.get(_EXTENSION_INFO, b"")
            bits, writes = _extension_bits(extension, revision, info), _writes(extension, revision, info)
            yield _Use(bits, extension, writes, _writes_priority(extension, info))
        elif name not in ("counter", "immediate"):
            # Compared, looked up or stored, if it is the mark that this expression takes.
            yield _Use(_union(kept for kept, _ in masks.values()), "meta mark")
    yield _Use(_union(kept for kept, _ in masks.values()), "meta mark")


def _extension_bits(name: str, revision: int, info: bytes) -> int:
    """Return the bits that a match or target of iptables reads or writes; all of them if its layout is unknown."""
    try:
        match name, revision:
            case "mark", 1:
                _, mask = struct.unpack_from("=II", info)
                return int(mask)
            case ("MARK", 2) | ("TPROXY", 0 | 1):
                one, other = struct.unpack_from("=II", info)
                return int(one | other)
            case "CONNMARK", 1 | 2:
                return _copied_bits(revision, info)
            case "SET", 3:
                return ALL_BITS if struct.unpack_from("=I", info, _SET_FLAGS_OFFSET)[0] & _SET_MAP_MARK else 0
            case "SET", _:
                return 0  # older revisions cannot map
            case "socket", _:
                return ALL_BITS if revision >= 3 and info[0] & _SOCKET_RESTORE_MARK else 0
            case "CT", _:
                return ALL_BITS if revision >= 1 and struct.unpack_from("=H", info)[0] & _CT_ZONE_IS_MARK else 0
            case (("mark" | "mark_m" | "bpf" | "MARK" | "TPROXY" | "CONNMARK" | "HMARK"), _):
                return ALL_BITS
    except (struct.error, IndexError):
        return ALL_BITS
    return 0


def _writes(name: str, revision: int, info: bytes) -> bool:
    """Return whether an extension that deals with marks writes them in packets that leave."""
    if name == "CONNMARK" and revision in (1, 2):
        return info[_CONNMARK_MODE[revision] : _CONNMARK_MODE[revision] + 1] == bytes([_RESTORE])
    return name in ("MARK", "CONNMARK", "HMARK", "SET")


def _writes_priority(name: str, info: bytes) -> bool:
    if name == "SET" and len(info) >= _SET_FLAGS_OFFSET + 4:
        return bool(struct.unpack_from("=I", info, _SET_FLAGS_OFFSET)[0] & _SET_MAP_PRIORITY)
    return name == "CLASSIFY"


def _copied_bits(revision: int, info: bytes) -> int:
    """Return the bits that CONNMARK copies between the connection's mark and the packet's."""
    _, connection_mask, packet_mask = struct.unpack_from("=III", info)
    shift, mode = info[13] if revision == 2 else 0, info[_CONNMARK_MODE[revision]]
    if mode == _SAVE:
        return int(packet_mask)
    if mode == _RESTORE:
        return ALL_BITS if shift else int(packet_mask | connection_mask)
    return 0


def _and_xor(data: dict[int, bytes]) -> tuple[int, int]:
    """Return the mask and xor of a bitwise expression; for another operation, those that may change every bit."""
    if _big(data.get(_BITWISE_OPERATION)) or not {_BITWISE_MASK, _BITWISE_XOR} <= data.keys():
        return ALL_BITS, ALL_BITS
    mask, xor = (nfnetlink.inner(data[kind]).get(_VALUE, b"") for kind in (_BITWISE_MASK, _BITWISE_XOR))
    return int.from_bytes(mask, sys.byteorder), int.from_bytes(xor, sys.byteorder)


def _decoded(expressions: bytes) -> Iterator[tuple[str, dict[int, bytes]]]:
    """Yield each expression of a rule: its name and its attributes."""
    for _, start, end in netlink.attributes(expressions, 0, len(expressions)):
        expression = netlink.payloads(expressions, start, end)
        yield netlink.text(expression[_NAME]), nfnetlink.inner(expression.get(_DATA, b""))


def _big(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _union(each_bits: Iterable[int]) -> int:
    union = 0
    for bits in each_bits:
        union |= bits
    return union
