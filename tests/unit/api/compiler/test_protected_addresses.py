"""Protected addresses: which limits touch one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bandwidth_api import addresses
from bandwidth_api.compiler.protected_addresses import index, protected
from bandwidth_api.conditions import Reason
from bandwidth_api.plan import Mode, PlanEntry, Prefix, Sharing


def entry(clients: list[str] | list[Prefix], excepted: list[str] | list[Prefix] | None = None) -> PlanEntry:
    return PlanEntry(
        limit="a",
        uid="",
        generation=1,
        clients=tuple(addresses.parse(c) if isinstance(c, str) else c for c in clients),
        excepted=tuple(addresses.parse(e) if isinstance(e, str) else e for e in excepted or []),
        ports=(),
        rate_bits_per_second=5_000_000,
        burst_bytes=None,
        mode=Mode.ENFORCE,
        sharing=Sharing.SHARED,
        priority=0,
        created_at=0.0,
        expires_at=None,
        node_selector=(),
    )


GATEWAY = index(frozenset(map(addresses.parse, ["10.0.0.1", "10.9.0.0/16", "2001:db8::1"])))


def said(clients: list[str], excepted: list[str] | None = None) -> tuple[str, str] | None:
    problem = protected(entry(clients, excepted), GATEWAY)
    if problem is None:
        return None
    assert problem.reason is Reason.PROTECTED_ADDRESS
    return problem.field, problem.message


WHY = "a protected address (of a node, of a gateway, or set by the administrator)"


def test_a_client_that_is_protected() -> None:
    """The limit is rejected at the client, with the advice to remove it."""
    assert said(["10.0.0.2", "10.0.0.1"]) == ("spec.clients[1]", f"10.0.0.1 is {WHY}; remove it from the clients")
    lies_in = f"10.9.1.1 lies in 10.9.0.0/16, {WHY}; remove it from the clients"
    assert said(["10.9.1.1"]) == ("spec.clients[0]", lies_in)


def test_a_client_around_something_protected() -> None:
    """The message names the address and the `except` that would help; with it, nothing is wrong."""
    contains = f"10.0.0.0/24 contains 10.0.0.1, {WHY}; add 10.0.0.1/32 to spec.except"
    assert said(["10.0.0.0/24"]) == ("spec.clients[0]", contains)
    assert said(["10.0.0.0/24"], ["10.0.0.1/32"]) is None
    assert said(["10.0.0.0/24", "10.0.0.0/16"], ["10.0.0.0/31"]) is None


def test_every_protected_address_must_be_excepted() -> None:
    """An `except` for one leaves the next one to be named."""
    found = said(["10.0.0.0/8"], ["10.0.0.1/32"])
    assert found is not None
    assert "10.9.0.0/16" in found[1]
    assert said(["10.0.0.0/8"], ["10.0.0.1/32", "10.9.0.0/17"]) is not None
    assert said(["10.0.0.0/8"], ["10.0.0.1/32", "10.9.0.0/17", "10.9.128.0/17", "10.9.128.0/18"]) is None


def test_families_are_apart() -> None:
    """IPv6 is looked at as IPv4 is, and neither for the other."""
    assert said(["2001:db8::/64"]) is not None
    assert said(["2001:db8::2", "10.0.0.0"]) is None
    assert protected(entry(["10.0.0.1"]), index(frozenset())) is None


BITS = 4
small = st.builds(
    lambda length, low: Prefix(4, (10 << 24) + (low >> (BITS - length) << (BITS - length)), 32 - BITS + length),
    st.integers(0, BITS),
    st.integers(0, 2**BITS - 1),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(small, min_size=1, max_size=3), st.lists(small, max_size=4), st.frozensets(small, max_size=3))
def test_every_address_tried(clients: list[Prefix], excepted: list[Prefix], kept: frozenset[Prefix]) -> None:
    """A limit is rejected exactly when some address is a client, not excepted, and protected."""

    def among(address: int, prefixes: list[Prefix] | frozenset[Prefix]) -> bool:
        return any(p.network <= address <= addresses.last(p) for p in prefixes)

    touched = any(
        among(a, clients) and not among(a, excepted) and among(a, kept) for a in range(10 << 24, (10 << 24) + 2**BITS)
    )
    assert (protected(entry(clients, excepted), index(kept)) is not None) == touched
