"""Decides when the next pass is due and whether it reads the kernel. Pure: each time is a parameter, monotonic seconds.

what happened                     what is done                                     how soon
────────────────────────────────  ───────────────────────────────────────────────  ─────────────────────────────
the limits changed                pass on what the kernel is believed to be        at once
a limit is found not to hold      pass with a read-back: is all of ours there?     at once
what is known of limits changed   pass on what the kernel is believed to be        at once
an event from the kernel          pass with a read-back                            at once; in a storm, spaced
a device of ours went away        pass with a read-back                            at once, always
the last pass left work undone    pass with a read-back                            0.2 s, doubling up to 30 s
nothing for a while               pass with a read-back                            10 s to 2 min, by what it costs
"""

from __future__ import annotations

PULSE_SECONDS = 1.0  # between two looks at what no event reports
POLL_SECONDS = 0.5  # the same where the limits' source has no descriptor
RETRY_SECONDS = 0.2
RETRY_MAX_SECONDS = 30.0
RESYNC_MIN_SECONDS = 10.0  # between read-backs that nothing asks for,
RESYNC_MAX_SECONDS = 120.0  # at most this long,
RESYNC_COST = 600.0  # in between so many times what a pass with one takes: a sixth of a percent of a core
READ_BACKS = 5.0  # so many in a row may follow events at once; they come back one per …
READ_BACK_SECONDS = 0.5  # … this time, or
READ_BACK_COST = 20.0  # this many times what one takes: 5 % of a core under a storm of events


class PassSchedule:
    """A pass is due at once, for which the kernel need not be read: `limits_changed`, or `findings_changed`, where what
    is known of the limits in force has changed and is to be reported."""

    def __init__(self, now: float, resync_seconds: float | None = None) -> None:
        """`resync_seconds`: between read-backs that nothing asks for; None: by what one costs."""
        self.limits_changed = True
        self.findings_changed = False
        self._resync_seconds = resync_seconds
        self._read_wanted = True
        self._read_urgent = False
        self._read_backs = READ_BACKS  # how many may follow events without waiting
        self._read_backs_at = now
        self._read_back_seconds = READ_BACK_SECONDS  # until one more may
        self._resync_at = 0.0
        self._pulse_at = 0.0
        self._retry_at: float | None = None
        self._retries = 0

    def want_read(self, *, urgent: bool = False) -> None:
        """Make a reading of the kernel due. `urgent`: at once, even in a storm, because a device of ours is gone."""
        self._read_wanted = True
        self._read_urgent |= urgent

    def read_is_due(self, now: float, next_trial: float | None) -> bool:
        """Return whether to read the kernel back now. `next_trial`: when what another program undid is tried again."""
        again_at = self._again_at(next_trial)
        retry = again_at is not None and now >= again_at
        heard = self._read_urgent or (self._read_wanted and self._read_backs_left(now) >= 1.0)
        return heard or retry or now >= self._resync_at

    def pulse_is_due(self, now: float) -> bool:
        """Return whether to look now at what no event reports; at most once per PULSE_SECONDS."""
        due = now >= self._pulse_at
        if due:
            self._pulse_at = now + PULSE_SECONDS
        return due

    def seconds_until_due(self, now: float, next_trial: float | None, *, polled: bool) -> float:
        """Return for how long nothing is due without an event."""
        due = [now + (POLL_SECONDS if polled else PULSE_SECONDS), self._resync_at]
        if self._read_wanted:
            due.append(now + (1.0 - self._read_backs_left(now)) * self._read_back_seconds)
        again_at = self._again_at(next_trial)
        if again_at is not None:
            due.append(again_at)
        return max(0.0, min(due) - now)

    def reading(self, now: float) -> None:
        """Record that the kernel is read now; later events are for the next reading."""
        self._read_wanted = self._read_urgent = False
        self._read_backs = max(0.0, self._read_backs_left(now) - 1.0)

    def passed(self, began: float, ended: float, read_seconds: float | None, *, undone: bool) -> None:
        """Record a pass. `read_seconds`: how long its read-back took, None without one; `undone`: work is left."""
        if read_seconds is not None:
            by_cost = min(max(RESYNC_MIN_SECONDS, RESYNC_COST * (ended - began)), RESYNC_MAX_SECONDS)
            self._resync_at = ended + (self._resync_seconds or by_cost)
            self._read_back_seconds = max(READ_BACK_SECONDS, READ_BACK_COST * read_seconds)
        self._plan_retry(ended, undone=undone)

    def unreadable(self, now: float) -> None:
        """Record that the kernel could not be read, so that no pass was made."""
        self._read_wanted = self._read_urgent = False
        self._resync_at = now + (self._resync_seconds or RESYNC_MIN_SECONDS)
        self._plan_retry(now, undone=True)

    def _plan_retry(self, now: float, *, undone: bool) -> None:
        if not undone:
            self._retry_at, self._retries = None, 0
            return
        self._retry_at = now + min(RETRY_SECONDS * 2**self._retries, RETRY_MAX_SECONDS)
        self._retries = min(self._retries + 1, 16)

    def _again_at(self, next_trial: float | None) -> float | None:
        return self._retry_at if self._retry_at is not None else next_trial

    def _read_backs_left(self, now: float) -> float:
        """Return how many read-backs may still follow events at once; the number recovers with time."""
        passed, self._read_backs_at = now - self._read_backs_at, now
        self._read_backs = min(READ_BACKS, self._read_backs + passed / self._read_back_seconds)
        return self._read_backs
