"""Default routes that come back."""

from __future__ import annotations

from bandwidth_agent import uplinks
from bandwidth_agent.kernel import fake


def test_a_lost_default_route_is_held_for_a_while() -> None:
    """A device keeps its default route for half a minute after it lost it, and one of the same name does not."""
    known = uplinks.Uplinks()
    up = fake.facts(fake.interface())
    down = fake.facts(fake.interface(default_route=False))
    other = fake.facts(fake.interface(index=9, default_route=False))
    assert known.held(down, 0.0) == down
    assert known.held(up, 1.0) == up
    assert known.held(down, 30.0).interfaces["eth0"].default_route
    assert known.held(other, 30.5) == other
    assert known.held(up, 31.0) == up
    assert known.held(down, 62.0) == down
