"""Steps of the wall clock, told by two clocks of which one is never set."""

from __future__ import annotations

import pytest

from bandwidth_runtime import clock


@pytest.mark.parametrize("step", [-315_360_000.0, -3600.0, -1.0, 1.0, 3600.0, 18e9])
def test_a_clock_that_is_set_is_noticed_once(step: float) -> None:
    """Forward or back, far or near; after that the new time is the time."""
    steps = clock.Steps()
    assert not steps.stepped(1000.0, 10.0)
    assert not steps.stepped(1005.0, 15.0)
    assert steps.stepped(1006.0 + step, 16.0)
    assert not steps.stepped(1007.0 + step, 17.0)


def test_a_clock_that_is_slewed_is_not_set() -> None:
    """A daemon that corrects a thousandth for an hour makes no step, however far it comes."""
    steps = clock.Steps()
    assert not any(steps.stepped(1000.0 + second * 1.001, float(second)) for second in range(3600))
