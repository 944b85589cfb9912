"""The right to write: what a leader has until its lease may have run out, and every write asks for first.

Time is the boot clock, which goes on while this process is stopped and while the machine sleeps: a leader that was
frozen finds its right gone before its first write after waking.
"""

from __future__ import annotations

import dataclasses
import threading
import time


def boot_clock() -> float:
    """Seconds that pass whatever is frozen."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeadershipLostError(Exception):
    """This replica may not write any more."""


@dataclasses.dataclass
class Fence:
    """Held by one term of one leader. `term` counts leaders; a later one is always higher."""

    term: int
    valid_until: float  # boot clock
    _ended: threading.Event = dataclasses.field(default_factory=threading.Event)

    def extend(self, valid_until: float) -> None:
        """The lease was renewed."""
        self.valid_until = valid_until

    def end(self) -> None:
        """No more writes, for good."""
        self._ended.set()

    @property
    def open(self) -> bool:
        return not self._ended.is_set() and boot_clock() < self.valid_until

    def check(self) -> None:
        """Raises LeadershipLostError unless a write may be sent now."""
        if not self.open:
            raise LeadershipLostError(f"the lease of term {self.term} has run out")

    def wait_ended(self, seconds: float) -> bool:
        """Wait for the end of the term, so long at most."""
        return self._ended.wait(seconds)
