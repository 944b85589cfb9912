"""The kernel's timer that reports steps of the wall clock."""

from __future__ import annotations

import os
import select

from bandwidth_agent.process import alarm


def test_an_alarm_is_quiet_while_nobody_sets_the_clock() -> None:
    """It can be waited for like any descriptor, says nothing by itself, and gives its descriptor back."""
    made = alarm.ClockAlarm()
    descriptor = made.fileno()
    assert select.select([descriptor], [], [], 0) == ([], [], [])
    assert not made.drain()
    assert os.get_inheritable(descriptor) is False
    made.close()
    assert not os.path.exists(f"/proc/self/fd/{descriptor}")
