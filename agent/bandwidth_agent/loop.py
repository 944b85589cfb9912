"""When to make a pass: a change of the limits, an event from the kernel, a timer, a limit's expiry, a retry.

One thread, one selector. Owns all waiting of the agent; decides nothing about the kernel (`reconcile`).

    what happened                     what is done                                     how soon
    ────────────────────────────────  ───────────────────────────────────────────────  ─────────────────────────────
    the limits changed                pass on what the kernel is believed to be        at once
    an event from the kernel          pass with a read-back                            at once; in a storm, spaced
    a device of ours went away        pass with a read-back                            at once, always
    a set's size is not as believed   pass with a read-back                            within PULSE_SECONDS
    a new hook is passed by           pass with a read-back                            within PULSE_SECONDS
    a limit expires                   pass                                             to the second
    the last pass left work undone    pass with a read-back                            0.2 s, doubling up to 30 s
    nothing for a while               pass with a read-back                            10 s to 2 min, by what it costs
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import structlog

from bandwidth_agent import health, journal, reconcile, report
from bandwidth_agent.kernel import events
from bandwidth_agent.source import Wanted

PULSE_SECONDS = 1.0
RETRY_SECONDS = 0.2
RETRY_MAX_SECONDS = 30.0
RESYNC_MIN_SECONDS = 10.0  # between read-backs that nothing asks for,
RESYNC_MAX_SECONDS = 120.0  # at most this long,
RESYNC_COST = 600.0  # in between so many times what a pass with one takes
READ_BACKS = 5.0  # so many in a row may follow events at once; they come back one per …
READ_BACK_SECONDS = 0.5  # … this time, or
READ_BACK_COST = 20.0  # this many times what one takes: 5 % of a core under a storm of events

log = structlog.get_logger("loop")


class Events(Protocol):
    """A socket on which the kernel tells that something changed."""

    def fileno(self) -> int: ...

    def drain(self) -> events.Kinds | bool:
        """Take what has come; true if any of it can concern us, or if something was lost."""


class Wants(Protocol):
    """Where this node's limits come from, compiled."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when something may have changed; None: ask `drain` every half second."""

    def drain(self) -> bool:
        """Take note of what changed; True if `wanted` will differ."""

    def wanted(self, now: float) -> Wanted:
        """What this node should enforce at `now` (seconds since the epoch), and until when that holds."""


class Told(Protocol):
    """Who wants to know what became of each pass; must not wait."""

    def passed(self, wanted: Wanted, made: report.Report, *, clean: bool) -> None:
        """A pass ended. `clean`: the kernel is as wanted, nothing is left to be done."""

    def unreadable(self, message: str) -> None:
        """A pass could not be made, because the kernel could not be read."""


class Loop:
    """Follows limits and kernel until it is told to stop. `stop` may be called from a signal handler."""

    def __init__(
        self,
        wants: Wants,
        reconciler: reconcile.Reconciler,
        *,
        listening: Sequence[Events] = (),
        resync_seconds: float | None = None,
        vitals: health.Health | None = None,
        told: Told | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wants = wants
        self._reconciler = reconciler
        self._events = tuple(listening)
        self._resync_seconds = resync_seconds
        self._vitals = vitals
        self._told = told
        self._monotonic = monotonic
        self._wall = wall
        self._wanted: Wanted | None = None
        self._stopping = False
        self._limits_changed = True
        self._read_wanted = True
        self._read_urgent = False
        self._read_backs = READ_BACKS  # how many may follow events without waiting
        self._read_backs_at = monotonic()
        self._read_back_seconds = READ_BACK_SECONDS  # until one more may
        self._resync_at = 0.0
        self._pulse_at = 0.0
        self._retry_at: float | None = None
        self._retries = 0
        self._journal = journal.Journal()

    def once(self) -> report.Report:
        """One pass with a read-back."""
        return self._pass(read=True)

    def run(self) -> int:
        """Make passes until stopped; returns the exit code of the process."""
        with _woken_by_signals(self._stop) as wake, selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ)
            for heard in self._events:
                selector.register(heard.fileno(), selectors.EVENT_READ)
            registered: int | None = None
            while not self._stopping:
                registered = _follow(selector, registered, self._wants.fileno())
                self._due()
                if self._vitals is not None:
                    self._vitals.turned(self._monotonic())
                for key, _ in selector.select(self._patience(polled=registered is None)):
                    if key.fileobj is wake:
                        wake.recv(4096)
                self._listen()
        log.info("stopped; the limits stay in force")
        return 0

    def _stop(self) -> None:
        self._stopping = True

    def _listen(self) -> None:
        if self._wants.drain():
            self._limits_changed = True
        for heard in self._events:
            news = heard.drain()
            if news:
                self._read_wanted = True
            if isinstance(news, events.Kinds) and self._reconciler.uses(news.lost_links):
                self._read_urgent = True

    def _due(self) -> None:
        """Make the pass that is due, if one is."""
        now = self._monotonic()
        wanted = self._wanted
        expired = wanted is not None and wanted.until is not None and self._wall() >= wanted.until
        retry = self._retry_at is not None and now >= self._retry_at
        heard = self._read_urgent or (self._read_wanted and self._read_backs_left(now) >= 1.0)
        read = heard or retry or now >= self._resync_at
        if not read and now >= self._pulse_at:
            self._pulse_at = now + PULSE_SECONDS
            read = not self._reconciler.sizes_match() or self._reconciler.leaks()
        if not (read or expired or self._limits_changed):
            return
        try:
            self._pass(read=read)
        except OSError as error:
            # The kernel could not be read whole, or a tool is missing: nothing was decided from half a reading.
            log.warning("cannot read the kernel, trying again", error=str(error))
            if self._told is not None:
                self._told.unreadable(str(error))
            self._read_wanted = self._read_urgent = False
            self._resync_at = self._monotonic() + (self._resync_seconds or RESYNC_MIN_SECONDS)
            self._plan_retry(undone=True, now=self._monotonic())

    def _read_backs_left(self, now: float) -> float:
        """How many read-backs may follow events at once by now; they come back with time."""
        passed, self._read_backs_at = now - self._read_backs_at, now
        self._read_backs = min(READ_BACKS, self._read_backs + passed / self._read_back_seconds)
        return self._read_backs

    def _patience(self, *, polled: bool) -> float:
        """Seconds until something is due without any event."""
        now = self._monotonic()
        due = [now + (0.5 if polled else PULSE_SECONDS), self._resync_at]
        if self._read_wanted:
            due.append(now + (1.0 - self._read_backs_left(now)) * self._read_back_seconds)
        if self._retry_at is not None:
            due.append(self._retry_at)
        if self._wanted is not None and self._wanted.until is not None:
            due.append(now + self._wanted.until - self._wall())
        return max(0.0, min(due) - now)

    def _pass(self, *, read: bool) -> report.Report:
        started = self._monotonic()
        if self._limits_changed and self._vitals is not None:
            self._vitals.plan_changed(started)
        self._limits_changed = False
        self._wanted = self._wants.wanted(self._wall())
        if read:
            # What arrives from here on, our own changes apart, may be later than the reading: it stays for the next.
            self._read_wanted = self._read_urgent = False
            self._read_backs = max(0.0, self._read_backs_left(started) - 1.0)
        made = self._reconciler.run(self._wanted, read=read)
        ended = self._monotonic()
        if read:
            self._resync_at = ended + (self._resync_seconds or _resync_seconds(ended - started))
            self._read_back_seconds = max(READ_BACK_SECONDS, READ_BACK_COST * self._reconciler.read_seconds)
        self._plan_retry(undone=self._reconciler.believed is None, now=ended)
        self._tell(made)
        return made

    def _plan_retry(self, *, undone: bool, now: float) -> None:
        if not undone:
            self._retry_at, self._retries = None, 0
            return
        self._retry_at = now + min(RETRY_SECONDS * 2**self._retries, RETRY_MAX_SECONDS)
        self._retries = min(self._retries + 1, 16)

    def _tell(self, made: report.Report) -> None:
        wanted = self._wanted
        if self._vitals is not None and wanted is not None:
            self._vitals.passed(
                made,
                self._monotonic(),
                complete=wanted.complete,
                repairs=self._reconciler.drift_repairs,
                kernel_failed=self._reconciler.believed is None,
            )
        if self._told is not None and wanted is not None:
            self._told.passed(wanted, made, clean=self._reconciler.believed is not None)
        self._journal.tell(made)


def _resync_seconds(pass_seconds: float) -> float:
    """How long to wait for the next read-back that nothing asks for: at most a sixth of a percent of a core."""
    return min(max(RESYNC_MIN_SECONDS, RESYNC_COST * pass_seconds), RESYNC_MAX_SECONDS)


def _follow(selector: selectors.BaseSelector, registered: int | None, wanted: int | None) -> int | None:
    """Keep the selector on the source's descriptor, which may change or go away between two turns."""
    if registered != wanted:
        if registered is not None:
            selector.unregister(registered)
        if wanted is not None:
            selector.register(wanted, selectors.EVENT_READ)
    return wanted


@contextmanager
def _woken_by_signals(stop: Callable[[], None]) -> Iterator[socket.socket]:
    """SIGTERM and SIGINT call `stop` and make the socket readable, so that no wait outlasts them."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    wake_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(wake_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()
