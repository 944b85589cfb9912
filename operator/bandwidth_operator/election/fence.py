"""The fence: lets a leader write until its lease may have expired; every write checks it first.

Time is the boot clock, which keeps running while this process is stopped and while the machine sleeps: a leader that
was frozen finds the fence closed before its first write after waking.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable


def boot_clock() -> float:
    """Return the seconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeadershipLostError(Exception):
    """This replica may not write any more."""


@dataclasses.dataclass
class Fence:
    """The fence of one term of one leader. `term` counts leaders; a later one is always higher."""

    term: int
    valid_until: float  # by the clock
    clock: Callable[[], float] = boot_clock
    _ended: threading.Event = dataclasses.field(default_factory=threading.Event)

    def extend(self, valid_until: float) -> None:
        """Keep the fence open until `valid_until` (monotonic seconds): the lease was renewed."""
        self.valid_until = valid_until

    def end(self) -> None:
        """Close the fence for good."""
        self._ended.set()

    @property
    def open(self) -> bool:
        return not self._ended.is_set() and self.clock() < self.valid_until

    def check(self) -> None:
        """Raise LeadershipLostError unless a write may be sent now."""
        if not self.open:
            raise LeadershipLostError(f"the lease of term {self.term} has run out")

    def wait_ended(self, seconds: float) -> bool:
        """Wait for the end of the term, at most so many seconds; return whether it has ended."""
        return self._ended.wait(seconds)
