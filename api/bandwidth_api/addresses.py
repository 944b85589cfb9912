"""Addresses and prefixes: canonical text ↔ integers, and which of them a limit may name.

The rules are those of the CRD's CEL library (Go's netip): no leading zeros, no zone, no IPv4-mapped IPv6 address.
Pure. Errors are ValueErrors whose message names the right form.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import re

from bandwidth_api import address_text
from bandwidth_api.plan import Prefix

BITS = address_text.BITS
MIN_LENGTH = {4: 8, 6: 16}  # wider prefixes are refused: such a limit is nearly always a mistake
TEXT_MAX = 43

# What Go's IsGlobalUnicast denies. Private addresses are global unicast in this sense.
_NOT_UNICAST = (
    ("the unspecified address", ("0.0.0.0/32", "::/128")),
    ("the broadcast address", ("255.255.255.255/32",)),
    ("a loopback address", ("127.0.0.0/8", "::1/128")),
    ("a link-local address", ("169.254.0.0/16", "fe80::/10")),
    ("a multicast address", ("224.0.0.0/4", "ff00::/8")),
)


def parse(text: str) -> Prefix:
    """Parse an address or CIDR in canonical form; a bare address is a prefix of full length."""
    prefix = _read(text)
    if prefix is None:
        raise ValueError(f"{text!r} is no IPv4 or IPv6 address or CIDR; {_hint(text)}")
    canonical = write_cidr(prefix) if "/" in text else write(prefix)
    if canonical != text:
        raise ValueError(f"{text!r} is not in canonical form; write {canonical}")
    return prefix


def canonical(text: str) -> Prefix:
    """Parse one address in any unambiguous form, such as programs write into files; see `network`."""
    if "/" in text:
        raise ValueError(f"{text!r} is no IPv4 or IPv6 address")
    return network(text)


def network(text: str) -> Prefix:
    """Parse an address or CIDR in any unambiguous form, as objects of other programs hold them.

    Host bits are cleared, and an IPv4-mapped address is read as the IPv4 address.
    """
    prefix = _read(text)
    if prefix is None and "%" not in text:
        with contextlib.suppress(ValueError):
            mapped = ipaddress.IPv6Address(text).ipv4_mapped
            prefix = None if mapped is None else Prefix(4, int(mapped), BITS[4])
    if prefix is None:
        raise ValueError(f"{text!r} is no IPv4 or IPv6 address or CIDR")
    return prefix


def parse_client(text: str) -> Prefix:
    """Parse a client of a limit: a unicast address, or a prefix of at least MIN_LENGTH."""
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
    """Parse a CIDR in canonical form; a bare address is refused."""
    if "/" not in text:
        prefix = _read(text)
        hint = f"; write {write_cidr(prefix)}" if prefix else ", such as 203.0.113.0/24"
        raise ValueError(f"{text!r} is no CIDR{hint}")
    return parse(text)


def write(prefix: Prefix) -> str:
    """Return the canonical text of a prefix: a bare address if the length is full, else a CIDR."""
    return address_text.write(*prefix)


def write_cidr(prefix: Prefix) -> str:
    """Return the canonical text of a prefix, always with its length."""
    return address_text.write_cidr(*prefix)


def last(prefix: Prefix) -> int:
    """Return the highest address of a prefix."""
    return prefix.network | ((1 << (BITS[prefix.family] - prefix.length)) - 1)


def size(prefix: Prefix) -> int:
    """Return the number of addresses in a prefix."""
    return 1 << (BITS[prefix.family] - prefix.length)


def covers(outer: Prefix, inner: Prefix) -> bool:
    """Return whether every address of `inner` is in `outer`."""
    return (
        outer.family == inner.family
        and outer.length <= inner.length
        and outer.network >> (shift := BITS[outer.family] - outer.length) == inner.network >> shift
    )


def _read(text: str) -> Prefix | None:
    """Parse an address or CIDR in any unambiguous form; host bits are cleared."""
    found = address_text.read(text)
    if found is None:
        return None
    family, address, length = found
    return Prefix(family, address >> (BITS[family] - length) << (BITS[family] - length), length)


_WITH_PORT = re.compile(r"\[(?P<bracketed>[^]]*)\](?::[0-9]*)?|(?P<dotted>[0-9.]+):[0-9]+")
_NAME = re.compile(r"(?i)(?:[a-z0-9_-]+\.)*[a-z0-9_-]*[a-z][a-z0-9_-]*\.?")


def _hint(text: str) -> str:
    """Return what is probably meant, as a hint for the message."""
    with_port = _WITH_PORT.fullmatch(text.strip())
    bare = (with_port["bracketed"] or with_port["dotted"] or "") if with_port else text.strip()
    written, slash, length_text = bare.partition("/")
    without_zone = written.partition("%")[0]
    plain = re.sub(r"(?i)^::ffff:(?=[0-9]+\.)|\b0+(?=[0-9])", "", without_zone)
    prefix = _read(plain + slash + length_text)
    if prefix is not None:
        return f"write {write_cidr(prefix) if slash else write(prefix)}"
    if _NAME.fullmatch(written):
        return "names are not looked up: write an address that it has, such as 203.0.113.7"
    address = _read(plain) if slash else None
    if address is not None:
        return f"write the length of the network as a number up to {BITS[address.family]}"
    return "write for example 203.0.113.7 or 2001:db8:5::/48"


@functools.cache
def _kinds() -> dict[int, tuple[tuple[int, int, str], ...]]:
    """Return by family the addresses that cannot be limited, as (shift, value, name): address >> shift == value."""
    found: dict[int, list[tuple[int, int, str]]] = {4: [], 6: []}
    for kind, texts in _NOT_UNICAST:
        for prefix in map(parse, texts):
            shift = BITS[prefix.family] - prefix.length
            found[prefix.family].append((shift, prefix.network >> shift, kind))
    return {family: tuple(kinds) for family, kinds in found.items()}
