"""Addresses and prefixes: text and numbers."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix

prefixes = st.one_of(
    st.builds(lambda a, n: Prefix(4, a >> (32 - n) << (32 - n), n), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(lambda a, n: Prefix(6, a >> (128 - n) << (128 - n), n), st.integers(0, 2**128 - 1), st.integers(0, 128)),
).filter(lambda p: p.family == 4 or p.network >> 32 != 0xFFFF)


@given(prefixes)
def test_what_is_written_is_read_back(prefix: Prefix) -> None:
    """Both texts of a prefix mean it again."""
    assert addresses.parse(addresses.write(prefix)) == prefix
    assert addresses.parse(addresses.write_cidr(prefix)) == prefix


@given(prefixes)
def test_texts_are_those_of_the_standard_library(prefix: Prefix) -> None:
    """The canonical text is the one that other programs write."""
    address = (ipaddress.IPv4Address if prefix.family == 4 else ipaddress.IPv6Address)(prefix.network)
    assert addresses.write_cidr(prefix) == str(ipaddress.ip_network((address, prefix.length)))


@given(prefixes, prefixes)
def test_covers(one: Prefix, other: Prefix) -> None:
    """A prefix covers another when its first and last addresses are around the other's."""
    around = one.network <= other.network and addresses.last(other) <= addresses.last(one)
    assert addresses.covers(one, other) == (one.family == other.family and around)
    assert addresses.last(one) - one.network + 1 == addresses.size(one)


RIGHT_ONES = {
    "203.0.113.07": "write 203.0.113.7",
    "010.0.0.1/8": "write 10.0.0.0/8",
    "::ffff:203.0.113.7": "write 203.0.113.7",
    "fe80::1%eth0": "write fe80::1",
    "2001:DB8::1": "write 2001:db8::1",
    "2001:db8:0:0::1": "write 2001:db8::1",
    "10.0.0.1/8": "write 10.0.0.0/8",
    "mail.example.com": "names are not looked up",
    "203.0.113.7:993": "write 203.0.113.7$",
    "[2001:DB8::1]:993": "write 2001:db8::1$",
    "[2001:db8::]/32": "for example 203.0.113.7",
    "1.2.3": "for example 203.0.113.7",
    "": "for example 203.0.113.7",
    "10.0.0.0/33": "a number up to 32",
    "10.0.0.0/-1": "a number up to 32",
    "10.0.0.0/8/8": "a number up to 32",
    "2001:db8::/ffff::": "a number up to 128",
    "٣.1.1.1": "for example 203.0.113.7",
}


@pytest.mark.parametrize(("text", "hint"), RIGHT_ONES.items())
def test_wrong_texts_say_what_is_right(text: str, hint: str) -> None:
    """An error suggests the canonical form where there is one."""
    with pytest.raises(ValueError, match=hint):
        addresses.parse(text)


@pytest.mark.parametrize(("text", "hint"), {"10.0.0.1": "write 10.0.0.1/32", "x": "such as 203.0.113.0/24"}.items())
def test_cidrs_only(text: str, hint: str) -> None:
    """Where a CIDR is wanted, a bare address is refused with the CIDR of it."""
    with pytest.raises(ValueError, match=hint):
        addresses.parse_cidr(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    {
        "127.0.0.1": "is a loopback address",
        "127.0.0.0/8": "begins with a loopback address",
        "0.0.0.0/0": "too wide; write prefixes of /8 or narrower",
        "2000::/3": "too wide; write prefixes of /16 or narrower",
        "ff02::1": "is a multicast address",
        "255.255.255.255": "is the broadcast address",
    }.items(),
)
def test_what_cannot_be_limited(text: str, hint: str) -> None:
    """Addresses that are no client's, and prefixes that hold nearly all addresses, are refused."""
    with pytest.raises(ValueError, match=hint):
        addresses.parse_client(text)
