"""An agent that is stuck ends; one that was only stopped for a while does not."""

from __future__ import annotations

from bandwidth_agent.process import watchdog
from bandwidth_agent.reporting import health


def run(verdicts: list[bool]) -> tuple[list[int], int]:
    """What the process was ended with, and how many looks were made, for these verdicts one after another."""
    ahead, ended = list(verdicts), list[int]()
    looks = 0

    def healthy() -> health.ProbeResult:
        nonlocal looks
        looks += 1
        return health.ProbeResult(ahead.pop(0), "the loop has not turned")

    watchdog.Watchdog(healthy, wait=lambda seconds: not ahead, end=ended.append).watch()
    return ended, looks


def test_a_stuck_agent_ends_once() -> None:
    """After a minute of bad looks in a row, with an exit code of its own."""
    assert run([True] * 3 + [False] * watchdog.LOOKS + [False] * 5) == ([watchdog.STUCK], 3 + watchdog.LOOKS)


def test_an_agent_that_goes_on_is_left_alone() -> None:
    """A good look between bad ones begins the count again, as after a process was stopped and continued."""
    row = [False] * (watchdog.LOOKS - 1) + [True]
    assert run(row * 3) == ([], 3 * watchdog.LOOKS)


def test_it_stops_when_told() -> None:
    """A watchdog that was stopped looks no more."""
    looked: list[int] = []

    def healthy() -> health.ProbeResult:
        looked.append(1)
        return health.ProbeResult(False, "")

    dog = watchdog.Watchdog(healthy, end=lambda code: None)
    dog.stop()
    dog.watch()
    assert not looked
