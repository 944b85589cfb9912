"""What next hop objects lead to, from the attributes as the kernel sends them."""

from __future__ import annotations

import struct

import pytest

from bandwidth_agent.kernel.linux.rtnl.routing import nexthops

GROUP, BLACKHOLE, OIF, GATEWAY, ENCAP = 2, 4, 5, 6, 8
ETH0, ETH1 = struct.pack("=I", 2), struct.pack("=I", 3)


def group(*members: int) -> dict[int, bytes]:
    return {GROUP: b"".join(struct.pack("=IBBH", member, 0, 0, 0) for member in members)}


OBJECTS = nexthops.Objects(
    {
        1: {OIF: ETH0, GATEWAY: b"\xc0\x00\x02\x01"},
        2: {OIF: ETH1, ENCAP: b"whatever"},
        3: {BLACKHOLE: b""},
        4: {77: b"of a later kernel"},
        10: group(1, 2),
        11: group(1, 3),
        12: group(1, 4),
        13: group(1, 99),
    }
)


@pytest.mark.parametrize(
    ("number", "ways"),
    [
        (1, (nexthops.Way(2, b"\xc0\x00\x02\x01"),)),
        (2, (nexthops.Way(3, b""),)),
        (10, (nexthops.Way(2, b"\xc0\x00\x02\x01"), nexthops.Way(3, b""))),
        (11, (nexthops.Way(2, b"\xc0\x00\x02\x01"),)),
        (3, ()),
    ],
)
def test_an_object_leads_where_it_and_its_members_say(number: int, ways: tuple[nexthops.Way, ...]) -> None:
    """Through each interface that is named, and nowhere where packets are dropped."""
    assert OBJECTS.ways(number) == ways


@pytest.mark.parametrize("number", [4, 12, 13, 99])
def test_what_is_not_understood_is_not_nothing(number: int) -> None:
    """An object without an interface, a group with such a member, and a number that is gone lead to no interface."""
    assert OBJECTS.ways(number) is None
