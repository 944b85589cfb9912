"""A wall clock that is set while limits expire. Only in a virtual machine, which has a clock of its own."""

from __future__ import annotations

import datetime
import select
import time

import pytest

from bandwidth_agent.process import alarm
from bandwidth_lab import Network
from kernels.forked import ForkedNode

pytestmark = [pytest.mark.root, pytest.mark.kernels]

HOUR = 3600.0


def turn_clock(seconds: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


def test_each_step_of_the_clock_wakes_once() -> None:
    """Forward, back, and to the time that it is anyway: the descriptor is readable until it is asked."""
    made = alarm.ClockAlarm()
    for seconds in (HOUR, -2 * HOUR, HOUR, 0.0):
        turn_clock(seconds)
        assert select.select([made.fileno()], [], [], 10)[0]
        assert made.drain()
        assert not select.select([made.fileno()], [], [], 0)[0]
    made.close()


def test_a_limit_that_a_wrong_clock_ended_is_back_with_the_right_one(network: Network, node: ForkedNode) -> None:
    """An hour ahead its time is over, set right it is not: both long before the agent reads the kernel by itself."""
    (client,) = network.clients
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=30)
    node.limit("slow", [client.address4], "1Mbit", expiresAt=end.strftime("%Y-%m-%dT%H:%M:%SZ"))
    node.start("--resync", "600")
    node.until_rate(client.address4, 1_000_000)
    for _ in range(2):
        turn_clock(HOUR)
        node.until_rate(client.address4, None)
        turn_clock(-HOUR)
        node.until_rate(client.address4, 1_000_000)
    assert node.stop() == 0
