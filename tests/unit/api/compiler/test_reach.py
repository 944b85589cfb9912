"""How many addresses one limit may hold, and which resolvers a resolv.conf names."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api import addresses
from bandwidth_api.compiler import width
from bandwidth_api.conditions import Reason
from bandwidth_api.plan import Prefix
from bandwidth_runtime import resolvers
from unit.api.compiler.test_protected_addresses import entry

HALF = [f"{first}.0.0.0/8" for first in [*range(1, 10), *range(11, 66)]]


def refused(clients: list[str], excepted: list[str] | None = None, widest: width.Widest = width.DEFAULT) -> bool:
    return width.refused(entry(clients, excepted), widest, "x") is not None


@pytest.mark.parametrize(
    ("clients", "excepted"),
    [
        (["203.0.113.7"], []),
        (["10.0.0.0/16"], []),
        (["10.0.0.0/16", "10.0.7.0/24", "10.0.0.1"], []),
        (["10.0.0.0/15"], ["10.1.0.0/16"]),
        (["10.0.0.0/15"], ["10.1.0.0/17", "10.1.128.0/17", "10.1.0.0/24"]),
        (["2001:db8::/32", "10.0.0.0/16"], []),
    ],
)
def test_as_many_as_one_network(clients: list[str], excepted: list[str]) -> None:
    """Up to a /16 and a /32, each address counted once and without what is excepted, nothing is refused."""
    assert not refused(clients, excepted)


@pytest.mark.parametrize(
    "clients",
    [["10.0.0.0/15"], ["10.0.0.0/16", "10.1.0.0/32"], HALF, ["2001:db8::/31"], ["2001:db8::/32", "2a00::/48"]],
)
def test_more_are_refused(clients: list[str]) -> None:
    """One address more than that is refused, in many networks as in one; a wider bound, or none, lets it through."""
    assert refused(clients)
    assert not refused(clients, widest=width.Widest(0, 0))
    assert not refused(clients, widest=width.Widest(1, 16))


def test_the_message_says_what_to_do() -> None:
    """It names the rule, the field, what to write, and what allows more."""
    problem = width.refused(entry(HALF), width.DEFAULT, "guardRails.widest")
    assert problem is not None
    assert (problem.reason, problem.field) == (Reason.TOO_WIDE, "spec.clients")
    for words in ("rule widest", "those of a /16", "spec.except", "guardRails.widest allows more"):
        assert words in problem.message


NETWORKS = st.builds(
    lambda network, length: Prefix(4, network >> (8 - length) << (8 - length), 24 + length),
    st.integers(0, 255),
    st.integers(0, 8),
)


@given(st.lists(NETWORKS, min_size=1, max_size=6), st.lists(NETWORKS, max_size=6), st.integers(18, 32))
def test_each_address_counts_once(clients: list[Prefix], excepted: list[Prefix], length: int) -> None:
    """The count is that of a set of all single addresses."""

    def single(prefixes: list[Prefix]) -> set[int]:
        return {address for p in prefixes for address in range(p.network, p.network + addresses.size(p))}

    many = len(single(clients) - single(excepted)) > 1 << (32 - length)
    found = width.refused(entry(clients, excepted), width.Widest(length, 32), "x")
    assert (found is not None) == many


def test_resolvers() -> None:
    """The servers of a resolv.conf in order, without zones; comments, options and nonsense are passed over."""
    text = "# nameserver 192.0.2.9\nsearch a.example\nnameserver 127.0.0.53\nnameserver  FE80::1%eth0\n"
    text += "nameserver\nnameserver dns.example\nnameserver 192.0.2.53 # ours\noptions edns0\nnameserver 10.0.0.0/8\n"
    found = list(resolvers.named(text))
    assert [addresses.write(a) for a in found] == ["127.0.0.53", "fe80::1", "192.0.2.53"]
    assert [resolvers.is_loopback(a) for a in found] == [True, False, False]
    assert resolvers.is_loopback(Prefix(6, int(ipaddress.IPv6Address("::1")), 128))
