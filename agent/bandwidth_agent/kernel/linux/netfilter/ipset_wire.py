"""Encodes and decodes ipset messages: sets and their entries.

Owns the coding only: opens no socket and decides nothing. What is written here is read back as the same value; what we
never write is read as a value that equals none of ours.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from bandwidth_agent.kernel import netlink, objects
from bandwidth_agent.kernel.linux.netfilter import nfnetlink
from bandwidth_api.plan import Prefix

_SUBSYSTEM = 6
_PROTOCOL = 6  # spoken by every kernel since 2.6.39; 7 adds nothing that we use

TYPE = "hash:net"
_REVISION = 6  # the first with skbinfo; later kernels take it too
MAX_ENTRIES = 1_048_576
_HASH_SIZE_MAX = 65536

_CREATE, _DESTROY, _RENAME, _SWAP, _LIST, _ADD, _DELETE, _QUERY_TYPE = 2, 3, 5, 6, 7, 9, 10, 13

# Attributes of a command.
_A_PROTOCOL, _A_NAME, _A_TYPE, _A_REVISION, _A_FAMILY, _A_FLAGS, _A_DATA, _A_ENTRIES = 1, 2, 3, 4, 5, 6, 7, 8
_A_REVISION_MIN = 10
_A_NAME2 = _A_TYPE
# Attributes of a set.
_S_TIMEOUT, _S_FLAGS, _S_HASH_SIZE, _S_MAX_ENTRIES, _S_NETMASK, _S_ELEMENTS, _S_BITMASK = 6, 8, 18, 19, 20, 24, 12
# Attributes of an entry.
_E_IP, _E_LENGTH, _E_FLAGS, _E_COMMENT, _E_MARK, _E_PRIORITY = 1, 3, 8, 26, 27, 28
_IP_KIND = {4: 1, 6: 2}

_FLAG_LIST_HEADER = 1 << 2  # of a command
_FLAG_NO_MATCH = 1 << 2  # of an entry
_FLAGS_OF_OURS = (1 << 4) | (1 << 6)  # of a set: comment and skbinfo, nothing else

_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_FAMILY = {int(af): family for family, af in _AF.items()}
_ADDRESS_BYTES = {4: 4, 6: 16}

_BE32 = struct.Struct(">I")
_BE64 = struct.Struct(">Q")
_NETWORK_ORDER = nfnetlink.NET_BYTEORDER
# The beginning of an entry as we and every kernel lay it out: DATA{IP{address} length …
_ENTRY_HEAD = {4: struct.Struct("=HHHHHH4sHHB3x"), 6: struct.Struct("=HHHHHH16sHHB3x")}
_ENTRY_BEGINNING = {
    family: (_A_DATA | netlink.NESTED, size + 8, _E_IP | netlink.NESTED, size + 4, _IP_KIND[family] | _NETWORK_ORDER)
    for family, size in _ADDRESS_BYTES.items()
}
_LENGTH_HEADER = (5, _E_LENGTH)
_MARK_HEADER = netlink.ATTRIBUTE.pack(12, _E_MARK | _NETWORK_ORDER)
_PRIORITY_HEADER = netlink.ATTRIBUTE.pack(8, _E_PRIORITY | _NETWORK_ORDER)

TYPE_MISMATCH = 4102
# Why ipset refuses, by the codes that it has above every errno (linux/netfilter/ipset/ip_set.h).
_PRIVATE_ERRORS = {
    4097: "the kernel does not understand the message",
    4098: "the kernel has no set type hash:net with comment and skbinfo",
    4099: "the kernel holds as many sets as it can",
    4100: "the set is in use",
    4101: "a set of that name exists",
    TYPE_MISMATCH: "a set of another type has that name",
    4104: "the kernel does not take this prefix length",
    4106: "the kernel does not take this address family",
    4108: "the set is in use",
    4352: "the set is full",
}

_ABSENT = objects.SetEntry(0, 0, 0, "")
# An entry that has what we never write; no desired entry has a negative mark.
_ALIEN_MARK = -1


class Header(NamedTuple):
    """A set without its entries."""

    name: str
    family: int  # 4, 6, or 0 for any other
    healthy: bool  # type and extensions are those of ours
    entry_count: int


def explain(code: int) -> str:
    """Return the meaning of a refusal: of an errno, or of one of ipset's own codes."""
    return _PRIVATE_ERRORS.get(code) or os.strerror(code)


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────


def create(name: str, family: int, entry_count: int, least_size: int) -> netlink.Message:
    """Return the message that creates a set; refused with EEXIST if any set has that name.

    `entry_count` and `least_size`, a power of two from 64 on, only size the hash table.
    """
    size = least_size
    while size < min(entry_count, _HASH_SIZE_MAX):
        size *= 2  # growing later would copy the table again and again
    return _command(
        _CREATE,
        netlink.CREATE | netlink.EXCLUSIVE,
        netlink.text_attribute(_A_NAME, name),
        netlink.text_attribute(_A_TYPE, TYPE),
        netlink.attribute(_A_REVISION, bytes([_REVISION])),
        netlink.attribute(_A_FAMILY, bytes([_AF[family]])),
        netlink.nest(
            _A_DATA,
            _number(_S_FLAGS, _FLAGS_OF_OURS),
            _number(_S_HASH_SIZE, size),
            _number(_S_MAX_ENTRIES, MAX_ENTRIES),
        ),
    )


def destroy(name: str) -> netlink.Message:
    return _command(_DESTROY, 0, netlink.text_attribute(_A_NAME, name))


def swap(name: str, other: str) -> netlink.Message:
    """Return the message that exchanges two sets of the same type in one step."""
    return _command(_SWAP, 0, netlink.text_attribute(_A_NAME, name), netlink.text_attribute(_A_NAME2, other))


def rename(name: str, other: str) -> netlink.Message:
    return _command(_RENAME, 0, netlink.text_attribute(_A_NAME, name), netlink.text_attribute(_A_NAME2, other))


def put(name: str, entries: Iterable[tuple[Prefix, objects.SetEntry]]) -> list[netlink.Message]:
    """Return one message per entry, in the order given, that adds or changes it."""
    kind, flags, beginning = _command(_ADD, 0, netlink.text_attribute(_A_NAME, name))
    return [netlink.Message(kind, flags, beginning + _entry(prefix, entry)) for prefix, entry in entries]


def delete(name: str, prefixes: Iterable[Prefix]) -> list[netlink.Message]:
    """Return one message per entry, in the order given, that deletes it. A missing entry is no error."""
    kind, flags, beginning = _command(_DELETE, 0, netlink.text_attribute(_A_NAME, name))
    return [netlink.Message(kind, flags, beginning + _entry(prefix)) for prefix in prefixes]


def list_headers() -> netlink.Message:
    """Return the request for every set without its entries."""
    return _command(_LIST, 0, _number(_A_FLAGS, _FLAG_LIST_HEADER))


def list_entries(name: str) -> netlink.Message:
    return _command(_LIST, 0, netlink.text_attribute(_A_NAME, name))


def query_type() -> netlink.Message:
    """Return the request for the revisions of our set type in the kernel; creates nothing."""
    return _command(
        _QUERY_TYPE,
        0,
        netlink.text_attribute(_A_TYPE, TYPE),
        netlink.attribute(_A_FAMILY, bytes([socket.AF_INET])),
    )


def _command(command: int, flags: int, *attributes: bytes) -> netlink.Message:
    protocol = netlink.attribute(_A_PROTOCOL, bytes([_PROTOCOL]))
    return nfnetlink.message(_SUBSYSTEM << 8 | command, flags, socket.AF_INET, protocol + b"".join(attributes))


def _number(kind: int, value: int) -> bytes:
    return netlink.attribute(kind | nfnetlink.NET_BYTEORDER, _BE32.pack(value))


def _entry(prefix: Prefix, entry: objects.SetEntry = _ABSENT) -> bytes:
    """Encode one entry; written for speed, because a plan can have tens of thousands."""
    family, network, length = prefix
    mark, mask, priority, comment, hole = entry
    tail = b""
    if hole:
        tail = _number(_E_FLAGS, _FLAG_NO_MATCH)
    if comment:
        tail += netlink.text_attribute(_E_COMMENT, comment)
    if mark or mask:
        tail += _MARK_HEADER + _BE64.pack(mark << 32 | mask)
    if priority:
        tail += _PRIORITY_HEADER + _BE32.pack(priority)
    head, beginning, size = _ENTRY_HEAD[family], _ENTRY_BEGINNING[family], _ADDRESS_BYTES[family]
    return head.pack(head.size + len(tail), *beginning, network.to_bytes(size, "big"), *_LENGTH_HEADER, length) + tail


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────


def revisions(answer: netlink.Part) -> tuple[int, int]:
    """Return the lowest and highest revision in an answer to `query_type`."""
    found = nfnetlink.fields(answer)
    return found[_A_REVISION_MIN][0], found[_A_REVISION][0]


def has_skbinfo(answer: netlink.Part) -> bool:
    low, high = revisions(answer)
    return low <= _REVISION <= high


def header(answer: netlink.Part) -> Header:
    """Decode one set of an answer to `list_headers`."""
    found = nfnetlink.fields(answer)
    family = _FAMILY.get(found[_A_FAMILY][0], 0)
    data = found.get(_A_DATA, b"")
    settings = netlink.payloads(data, 0, len(data))
    healthy = (
        netlink.text(found[_A_TYPE]) == TYPE
        and family != 0
        and _be32(settings.get(_S_FLAGS)) == _FLAGS_OF_OURS
        and _be32(settings.get(_S_MAX_ENTRIES)) == MAX_ENTRIES
        and not settings.keys() & {_S_TIMEOUT, _S_NETMASK, _S_BITMASK}
    )
    return Header(netlink.text(found[_A_NAME]), family, healthy, _be32(settings.get(_S_ELEMENTS)))


def entries(family: int, answers: Iterable[netlink.Part]) -> dict[Prefix, objects.SetEntry]:
    """Decode the entries in the answers to `list_entries` of a healthy set."""
    found: dict[Prefix, objects.SetEntry] = {}
    for answer in answers:
        first = answer.start + nfnetlink.GENERIC.size
        for kind, start, end in netlink.attributes(answer.buffer, first, answer.end):
            if kind == _A_ENTRIES:
                _read_entries(family, answer.buffer, start, end, found)
    return found


def _read_entries(family: int, data: bytes, start: int, end: int, found: dict[Prefix, objects.SetEntry]) -> None:
    """Read one message's entries; written for speed, because a restart reads tens of thousands."""
    head = _ENTRY_HEAD[family]
    unpack_head, unpack_attribute = head.unpack_from, netlink.ATTRIBUTE.unpack_from
    from_bytes = int.from_bytes
    position = start
    while position < end:
        total, _, _, ip, _, _, address, _, length_kind, length = unpack_head(data, position)
        stop = position + total
        mark = mask = priority = 0
        comment, hole = "", False
        if ip & 0x3FFF != _E_IP or length_kind != _E_LENGTH:
            raise OSError(f"an ipset entry of unknown layout: {data[position:stop].hex()}")
        at = position + head.size
        while at < stop:
            size, kind = unpack_attribute(data, at)
            value = data[at + 4 : at + size]
            kind &= 0x3FFF
            if kind == _E_COMMENT:
                comment = netlink.text(value)
            elif kind == _E_MARK:
                full = from_bytes(value, "big")
                mark, mask = full >> 32, full & 0xFFFFFFFF
            elif kind == _E_PRIORITY:
                priority = from_bytes(value, "big")
            elif kind == _E_FLAGS and from_bytes(value, "big") == _FLAG_NO_MATCH:
                hole = True
            else:
                mark = _ALIEN_MARK
                break
            at += size + 3 & ~3
        found[Prefix(family, from_bytes(address, "big"), length)] = objects.SetEntry(
            mark, mask, priority, comment, hole
        )
        position = (stop + 3) & ~3


def _be32(value: bytes | None) -> int:
    return int(_BE32.unpack(value)[0]) if value is not None and len(value) == _BE32.size else -1
