"""Default routes that come back."""

from __future__ import annotations

import dataclasses

from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.planner.placement import default_route_hold


def test_a_lost_default_route_is_held_for_a_while() -> None:
    """A device keeps its default route for half a minute after it lost it, and one of the same name does not."""
    known = default_route_hold.Uplinks()
    up = fake_kernel.facts(fake_kernel.interface())
    down = fake_kernel.facts(fake_kernel.interface(default_route=False))
    other = fake_kernel.facts(fake_kernel.interface(index=9, default_route=False))
    assert known.held(down, 0.0) == down
    assert known.held(up, 1.0) == up
    assert known.held(down, 30.0).interfaces["eth0"].default_route
    assert known.held(other, 30.5) == other
    assert known.held(up, 31.0) == up
    assert known.held(down, 62.0) == down


def test_a_default_route_that_is_not_understood_takes_nothing_away() -> None:
    """However long it is there: who held a default route, and who is shaped, goes on being an uplink; no other."""
    known = default_route_hold.Uplinks()
    held, other = fake_kernel.interface(), fake_kernel.interface("eth1", index=3, default_route=False)
    stranger = fake_kernel.interface("eth2", index=4, default_route=False)
    known.held(fake_kernel.facts(held, other, stranger), 0.0)
    lost = fake_kernel.facts(held._replace(default_route=False), other, stranger)
    unclear = dataclasses.replace(lost, unclear_routes=True)
    for now in (10.0, 1000.0, 2000.0):
        found = known.held(unclear, now, {"eth1"}).interfaces
        assert {name for name, interface in found.items() if interface.default_route} == {"eth0", "eth1"}
    assert known.held(lost, 2010.0).interfaces["eth0"].default_route
    assert known.held(lost, 2031.0) == lost
