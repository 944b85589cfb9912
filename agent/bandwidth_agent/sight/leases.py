"""Who looks, and until when: each asker has a lease that ends by itself. Pure.

Owns the leases and their ends by a clock that is handed in; opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from bandwidth_agent.kernel import contract

MOST_SECONDS = 60.0  # of a lease, and of its every renewal: what nobody renews ends within a minute

Receive = Callable[[contract.Stretches], None]


class Lease:
    """One asker's right to see, until its end. Used by the asker and, under the lock of `Sight`, by its thread."""

    def __init__(self, ends: float, receive: Receive, *, sparing: bool = False) -> None:
        self.ends = ends  # monotonic seconds
        self.sparing = sparing  # parts of the time are enough where looking costs others something
        self.receive = receive
        self.failure: BaseException | None = None  # what ended it before its time


class Leases:
    """All that have not ended."""

    def __init__(self) -> None:
        self._held: list[Lease] = []

    def add(self, now: float, seconds: float, receive: Receive, *, sparing: bool = False) -> Lease:
        """Return a new lease. Raises ValueError where it is to last longer than `MOST_SECONDS`."""
        lease = Lease(now + bounded(seconds), receive, sparing=sparing)
        self._held.append(lease)
        return lease

    def end(self, lease: Lease, failure: BaseException | None = None) -> None:
        """End a lease before its time. Idempotent."""
        if lease in self._held:
            self._held.remove(lease)
            lease.failure = failure

    def at(self, now: float) -> tuple[Lease, ...]:
        """Return those that hold now; those that have ended are forgotten."""
        self._held = [lease for lease in self._held if now < lease.ends]
        return tuple(self._held)

    def holds(self, lease: Lease, now: float) -> bool:
        """Return whether a lease has neither ended nor been ended."""
        return lease in self.at(now)


def bounded(seconds: float) -> float:
    """Return the seconds of a lease. Raises ValueError for more than `MOST_SECONDS`, and for none."""
    if not 0.0 < seconds <= MOST_SECONDS:
        raise ValueError(f"a lease lasts up to {MOST_SECONDS:g} s, not {seconds:g} s: renew it")
    return seconds
