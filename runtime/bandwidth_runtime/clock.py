"""The two clocks of a machine, handed to whoever needs the time, and steps of the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

STEP_SECONDS = 0.2  # more than slewing moves it between two calls, less than a person would set a clock by


class Clock(NamedTuple):
    monotonic: Callable[[], float] = time.monotonic  # seconds; never set
    wall: Callable[[], float] = time.time  # seconds since the epoch


SYSTEM = Clock()


class Steps:
    """Compares each pair of readings of the two clocks with the pair before. Reads neither itself."""

    def __init__(self) -> None:
        self._distance: float | None = None

    def stepped(self, wall: float, monotonic: float) -> bool:
        """Return whether the wall clock was set, forward or back, since the last call; False at the first. Seconds."""
        before, self._distance = self._distance, wall - monotonic
        return before is not None and abs(self._distance - before) >= STEP_SECONDS
