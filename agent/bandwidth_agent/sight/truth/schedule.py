"""When to look whether limits hold. Pure: each time is a parameter, monotonic seconds.

    what happened                                     looks
    ────────────────────────────────────────────────  ─────────────────────────────────────────────────────
    a limit or its way is new or changed              1, 3 and 10 s later
    a look showed packets to go past a class          1 s later
    a class was not yet seen to hold its packets      every 2 s, while that costs less than a look may
    all were seen, on a node with a sign of trouble   every 3 s, likewise
    else                                              every minute, a tenth sooner or later
    no limit is in force                              none

What looks cost is bounded over time: a thousandth of a core, saved up for ten minutes, of which half is kept for the
first two lines, and where limits change all the time half of what those passes take. A look that costs much, as with
ten thousand classes, so comes less often and in time nevertheless. Only a doubt may overdraw that a little.
"""

from __future__ import annotations

from collections.abc import Callable

AFTER_CHANGE_SECONDS = (1.0, 3.0, 10.0)
DOUBT_SECONDS = 1.1  # a little more than a judgement wants between two looks
UNVERIFIED_SECONDS = 2.0
SIGN_SECONDS = 3.0
VERIFIED_SECONDS = 60.0
JITTER = 0.1  # of the time between two looks
OPEN_SECONDS = 0.25  # a look
TROUBLE_SECONDS = 10.0  # until another try, where a look was not possible

CORE_SHARE = 0.001  # that looks may cost over time
SAVED_SECONDS = 0.6  # of cost, at most
KEPT_SECONDS = 0.3  # of these, for what is urgent; and what a doubt may overdraw
PASS_SHARE = 0.5  # of what a pass with changes took, that looks may cost beside


class Schedule:
    """`jitter`: returns a number from 0 to 1, another each time, so that nodes do not look all at once."""

    def __init__(self, now: float, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._urgent: tuple[float, ...] = ()
        self._doubt: float | None = None
        self._regular = now
        self._saved, self._saved_at = SAVED_SECONDS, now

    def changed(self, now: float, pass_seconds: float = 0.0) -> None:
        """Record that limits, or the way of their packets, changed. A look that is due soon already stays due.

        `pass_seconds`: what the pass took that changed them.
        """
        self._saved = min(SAVED_SECONDS, self._savings(now) + PASS_SHARE * pass_seconds)
        first, *later = (now + seconds for seconds in AFTER_CHANGE_SECONDS)
        if self._urgent:
            first = min(first, self._urgent[0])
        self._urgent = (first, *later)

    def doubted(self, now: float) -> None:
        """Record that a look showed packets to go past a class."""
        self._doubt = now + DOUBT_SECONDS

    def due(self, now: float) -> float:
        """Return when the next look is due."""
        saved = self._savings(now)
        regular = max(self._regular, now + max(0.0, KEPT_SECONDS - saved) / CORE_SHARE)
        due = [regular]
        if self._urgent:
            due.append(max(self._urgent[0], now + max(0.0, -saved) / CORE_SHARE))
        if self._doubt is not None:
            due.append(max(self._doubt, now + max(0.0, -saved - KEPT_SECONDS) / CORE_SHARE))
        return min(due)

    def looked(self, now: float, cost_seconds: float, *, unverified: bool, sign: bool) -> None:
        """Record a look that ended now, what it cost, and what is known after it."""
        self._spend(now, cost_seconds)
        seconds = UNVERIFIED_SECONDS if unverified else SIGN_SECONDS if sign else VERIFIED_SECONDS
        self._regular = now + seconds * (1.0 + JITTER * (2.0 * self._jitter() - 1.0))

    def failed(self, now: float, cost_seconds: float) -> None:
        """Record that a look was not possible."""
        self._spend(now, cost_seconds)
        self._regular = now + TROUBLE_SECONDS

    def _spend(self, now: float, cost_seconds: float) -> None:
        self._saved = self._savings(now) - cost_seconds
        self._urgent = tuple(at for at in self._urgent if at > now)
        self._doubt = self._doubt if self._doubt is not None and self._doubt > now else None

    def _savings(self, now: float) -> float:
        self._saved = min(SAVED_SECONDS, self._saved + CORE_SHARE * (now - self._saved_at))
        self._saved_at = now
        return self._saved
