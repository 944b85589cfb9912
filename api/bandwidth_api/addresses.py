"""Addresses and prefixes: canonical text ↔ integers, and what may be limited at all.

The rules are those of the CRD's CEL library (Go's netip): no leading zeros, no zone, no IPv4-mapped IPv6 address.
Pure. Errors are ValueErrors whose message says what would be right.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket

from bandwidth_api.plan import Prefix

BITS = {4: 32, 6: 128}
MIN_LENGTH = {4: 8, 6: 16}  # wider prefixes are refused: such a limit is nearly always a slip
TEXT_MAX = 43

_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")

# What Go's IsGlobalUnicast denies. Private addresses are global unicast in this sense.
_NOT_UNICAST = (
    ("the unspecified address", ("0.0.0.0/32", "::/128")),
    ("the broadcast address", ("255.255.255.255/32",)),
    ("a loopback address", ("127.0.0.0/8", "::1/128")),
    ("a link-local address", ("169.254.0.0/16", "fe80::/10")),
    ("a multicast address", ("224.0.0.0/4", "ff00::/8")),
)


@functools.lru_cache(maxsize=32768)  # each client's text is read twice: by the limit's check and by the compiler
def parse(text: str) -> Prefix:
    """Read an address or CIDR in canonical form; a bare address is a prefix of full length."""
    prefix = _read(text)
    if prefix is None:
        raise ValueError(f"{text!r} is no IPv4 or IPv6 address or CIDR; {_hint(text)}")
    canonical = write_cidr(prefix) if "/" in text else write(prefix)
    if canonical != text:
        raise ValueError(f"{text!r} is not in canonical form; write {canonical}")
    return prefix


def parse_client(text: str) -> Prefix:
    """Read what a limit may be put on: unicast addresses, and prefixes that are not too wide."""
    prefix = parse(text)
    least = MIN_LENGTH[prefix.family]
    if prefix.length < least:
        raise ValueError(f"{text} is too wide; write prefixes of /{least} or narrower for IPv{prefix.family}")
    for shift, bits, kind in _kinds()[prefix.family]:
        if prefix.network >> shift == bits:
            is_or_begins = "is" if prefix.length == BITS[prefix.family] else "begins with"
            raise ValueError(f"{text} {is_or_begins} {kind}, which cannot be limited; write the client's own address")
    return prefix


def parse_cidr(text: str) -> Prefix:
    """Read a CIDR in canonical form; a bare address is refused."""
    if "/" not in text:
        prefix = _read(text)
        hint = f"; write {write_cidr(prefix)}" if prefix else ", such as 203.0.113.0/24"
        raise ValueError(f"{text!r} is no CIDR{hint}")
    return parse(text)


def write(prefix: Prefix) -> str:
    """The canonical text: a bare address where the length is full, else a CIDR."""
    if prefix.length == BITS[prefix.family]:
        return write_address(prefix.family, prefix.network)
    return write_cidr(prefix)


def write_cidr(prefix: Prefix) -> str:
    """The canonical text, always with a length."""
    return f"{write_address(prefix.family, prefix.network)}/{prefix.length}"


def write_address(family: int, address: int) -> str:
    """The canonical text of one address."""
    if family == 4:
        return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"
    if address >> 32 == 0:  # inet_ntop writes the last four bytes of these as an IPv4 address
        return str(ipaddress.IPv6Address(address))
    return socket.inet_ntop(socket.AF_INET6, address.to_bytes(16, "big"))


def last(prefix: Prefix) -> int:
    """The highest address of a prefix."""
    return prefix.network | ((1 << (BITS[prefix.family] - prefix.length)) - 1)


def size(prefix: Prefix) -> int:
    """The number of addresses of a prefix."""
    return 1 << (BITS[prefix.family] - prefix.length)


def covers(outer: Prefix, inner: Prefix) -> bool:
    """Whether every address of `inner` lies in `outer`."""
    return (
        outer.family == inner.family
        and outer.length <= inner.length
        and outer.network >> (shift := BITS[outer.family] - outer.length) == inner.network >> shift
    )


def _read(text: str) -> Prefix | None:
    """An address or CIDR in any form that has one meaning; host bits are cut."""
    address_text, slash, length_text = text.partition("/")
    if "%" in address_text or (slash and not _LENGTH.fullmatch(length_text)):
        return None
    family, kind = (6, socket.AF_INET6) if ":" in address_text else (4, socket.AF_INET)
    try:  # not ipaddress, which takes ten times as long: ten thousand limits are read at every start
        address = int.from_bytes(socket.inet_pton(kind, address_text), "big")
    except (OSError, ValueError):
        return None
    if family == 6 and address >> 32 == 0xFFFF:  # IPv4-mapped
        return None
    bits = BITS[family]
    length = int(length_text) if slash else bits
    if length > bits:
        return None
    return Prefix(family, address >> (bits - length) << (bits - length), length)


def _hint(text: str) -> str:
    """What is probably meant."""
    address_text, slash, length_text = text.partition("/")
    without_zone = address_text.partition("%")[0]
    plain = re.sub(r"(?i)^::ffff:(?=[0-9]+\.)|\b0+(?=[0-9])", "", without_zone)
    prefix = _read(plain + slash + length_text)
    if prefix is None or plain == address_text:
        return "write for example 203.0.113.7 or 2001:db8:5::/48"
    return f"write {write_cidr(prefix) if slash else write(prefix)}"


@functools.cache
def _kinds() -> dict[int, tuple[tuple[int, int, str], ...]]:
    """By family, what cannot be limited: an address shifted right by the first is the second, then it is the third."""
    found: dict[int, list[tuple[int, int, str]]] = {4: [], 6: []}
    for kind, texts in _NOT_UNICAST:
        for prefix in map(parse, texts):
            shift = BITS[prefix.family] - prefix.length
            found[prefix.family].append((shift, prefix.network >> shift, kind))
    return {family: tuple(kinds) for family, kinds in found.items()}
