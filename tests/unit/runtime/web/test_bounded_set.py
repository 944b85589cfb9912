"""Who gives way where there are too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_runtime.web.bounded_set import BoundedSet, peer_of


def test_who_has_most_gives_way_with_its_oldest() -> None:
    """A peer with one connection keeps it, however many another one opens."""
    bounded = BoundedSet[int](3)
    assert [bounded.add("flood", 1), bounded.add("probe", 2), bounded.add("flood", 3)] == [None, None, None]
    assert [bounded.add("flood", n) for n in range(4, 8)] == [1, 3, 4, 5]
    assert bounded.add("other", 8) == 6
    assert len(bounded) == 3


def test_fewer_may_be_left_than_there_are() -> None:
    """Those that go are the oldest of who has most, and no more than needed."""
    bounded = BoundedSet[int](9)
    for number, peer in enumerate("aababa"):
        bounded.add(peer, number)
    assert bounded.bound(3) == [0, 1, 3]
    assert len(bounded) == 3
    assert bounded.bound(5) == []


@given(st.integers(1, 8), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.booleans())))
def test_there_are_never_more_than_there_may_be(most: int, steps: list[tuple[str, int, bool]]) -> None:
    """In any order of coming and going, and whoever gave way is out."""
    bounded, there = BoundedSet[tuple[str, int]](most), set[tuple[str, int]]()
    for peer, number, comes in steps:
        item = (peer, number)
        if comes and item not in there:
            gone = bounded.add(peer, item)
            there.add(item)
            if gone is not None:
                there.remove(gone)
        elif not comes:
            bounded.remove(peer, item)
            there.discard(item)
        assert len(bounded) == len(there) <= most


def test_a_peer_is_an_address_or_a_network_of_addresses() -> None:
    """All addresses of one IPv6 network are one peer, and so are those of this host."""
    assert peer_of("192.0.2.7") == peer_of("::ffff:192.0.2.7") != peer_of("192.0.2.8")
    assert peer_of("2001:db8::1") == peer_of("2001:db8::ffff:1") != peer_of("2001:db8:0:1::1")
    assert peer_of("127.0.0.1") == peer_of("127.9.9.9") == peer_of("::1") == peer_of("::ffff:127.0.0.1")
    assert peer_of("fe80::1%eth0") == peer_of("fe80::2")
