"""Makes a pass at each change of the limits, at each event from the kernel, and when one is due by `pass_schedule`.

One thread, one selector. Owns all waiting of the agent; decides nothing about the kernel (`reconcile`). Beside what the
schedule knows, these lead to a pass:

    what happened                     what is done                                     how soon
    ────────────────────────────────  ───────────────────────────────────────────────  ─────────────────────────────
    a set's size is not as believed   pass with a read-back                            within PULSE_SECONDS
    a new hook is bypassed            pass with a read-back                            within PULSE_SECONDS
    packets are seen past a limit     pass with a read-back, which reports it          at once
    SIGHUP                            pass with a read-back, limits read again         at once
    a client is reached another way   pass                                             within PULSE_SECONDS
    a limit expires                   pass                                             to the second
    the wall clock was set            pass                                             at once
    an object was abandoned           pass with a read-back                            2 s, doubling up to 30 s
"""

from __future__ import annotations

import dataclasses
import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from bandwidth_agent import reconcile, report
from bandwidth_agent.kernel import refusals
from bandwidth_agent.kernel.linux.rtnl import events
from bandwidth_agent.limits import LimitSource, Wanted
from bandwidth_agent.pass_schedule import PassSchedule
from bandwidth_agent.process import alarm
from bandwidth_agent.reporting import change_log, health
from bandwidth_runtime import signals
from bandwidth_runtime.clock import SYSTEM, Clock, Steps

TROUBLE_SECONDS = 0.2  # after a turn that the system refused something that it needs; doubles …
TROUBLE_MAX_SECONDS = 5.0  # … up to this

log = structlog.get_logger("loop")


class Events(Protocol):
    """A socket that becomes readable when something in the kernel may have changed."""

    def fileno(self) -> int: ...

    def drain(self) -> events.Kinds | bool:
        """Read all events; return something true if any of them may concern us, or if events were lost."""


class PassObserver(Protocol):
    """Receives the result of each pass; its methods must not wait."""

    def passed(self, wanted: Wanted, made: report.Report, *, clean: bool) -> None:
        """Take the result of a pass. `clean`: the kernel holds everything that it should hold."""

    def unreadable(self, message: str) -> None:
        """Take note that a pass was not possible, because the kernel could not be read."""


class Loop:
    """Follows limits and kernel until it is stopped. `stop` may be called from a signal handler."""

    def __init__(
        self,
        source: LimitSource,
        reconciler: reconcile.Reconciler,
        *,
        listening: Sequence[Events] = (),
        resync_seconds: float | None = None,
        vitals: health.Health | None = None,
        observer: PassObserver | None = None,
        remarks: Callable[[], Sequence[str]] = tuple,
        clock: Clock = SYSTEM,
        selector: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector,
    ) -> None:
        self._source = source
        self._reconciler = reconciler
        self._events = tuple(listening)
        self._vitals = vitals
        self._observer = observer
        self._remarks = remarks  # about this process, for the observer; must not wait
        self._remarked: tuple[str, ...] = ()
        self._made: report.Report | None = None
        self._troubles = 0  # turns in a row that failed
        self._clock = clock
        self._selector = selector
        self._steps = Steps()
        self._schedule = PassSchedule(clock.monotonic(), resync_seconds)
        self._wanted: Wanted | None = None
        self._stopping = False
        self._change_log = change_log.ChangeLog()

    def once(self) -> report.Report:
        """Make one pass with a read-back; return its report. Raises OSError if the kernel cannot be read."""
        return self._pass(read=True)

    def run(self, *, ends_process: bool = False) -> int:
        """Make passes until stopped; return the exit code. `ends_process`: the process ends after this."""
        with (
            signals.received(self._stop, ends_process=ends_process) as received,
            alarm.woken_by_signals() as wake,
            alarm.woken_by_the_clock() as clock_alarm,
            self._selector() as selector,
        ):
            selector.register(wake, selectors.EVENT_READ)
            if clock_alarm is not None:
                selector.register(clock_alarm, selectors.EVENT_READ)
            for heard in self._events:
                selector.register(heard.fileno(), selectors.EVENT_READ)
            registered: int | None = None
            while not self._stopping:
                try:
                    registered = _follow(selector, registered, self._source.fileno())
                    self._look()
                    self._due()
                    self._remark()
                    if self._vitals is not None:
                        self._vitals.turned(self._clock.monotonic())
                    for key, _ in selector.select(self._patience(polled=registered is None)):
                        if key.fileobj is wake:
                            wake.recv(4096)
                        elif key.fileobj is clock_alarm:
                            clock_alarm.drain()
                    self._heed(received.take())
                    self._listen()
                    self._troubles = 0
                except OSError as error:
                    self._pause_for(error, wake)
        self._reconciler.truth.close()
        log.info("stopped; the limits stay in force")
        return 0

    def _stop(self) -> None:
        self._stopping = True

    def _heed(self, received: Sequence[signal.Signals]) -> None:
        for number in received:
            if number in signals.AGAIN:
                log.info(
                    "the terminal was closed, or a reload is asked for: going on, reading again", signal=number.name
                )
                self._source.look_again()
                self._schedule.want_read()
                self._schedule.limits_changed = True
            elif number in signals.NOTHING:
                log.info("this signal means nothing to this program; going on", signal=number.name)
            else:
                log.info("stopping", signal=number.name)

    def _pause_for(self, error: OSError, wake: socket.socket) -> None:
        """Wait a little after the system refused a descriptor or memory, and then read everything again."""
        if self._troubles == 0:
            log.warning("the system refused what a turn needs, trying again", error=str(error))
        self._schedule.want_read()
        wake.settimeout(min(TROUBLE_SECONDS * 2**self._troubles, TROUBLE_MAX_SECONDS))
        self._troubles = min(self._troubles + 1, 16)
        with suppress(OSError):
            wake.recv(4096)
        wake.setblocking(False)

    def _listen(self) -> None:
        if self._source.drain():
            self._schedule.limits_changed = True
        for heard in self._events:
            news = heard.drain()
            if news:
                lost_links = news.lost_links if isinstance(news, events.Kinds) else frozenset()
                self._schedule.want_read(urgent=self._reconciler.uses(lost_links))

    def _look(self) -> None:
        """Take a turn at whether limits hold; a bypass is reported when a read-back shows that all of ours is there."""
        self._schedule.findings_changed |= self._reconciler.truth.turn()
        if self._reconciler.truth.unconfirmed:
            self._schedule.want_read(urgent=True)

    def _due(self) -> None:
        """Make a pass if one is due."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        schedule, wanted = self._schedule, self._wanted
        if self._steps.stepped(wall, now):
            log.warning("the wall clock was set: what has expired by now is worked out again")
            schedule.limits_changed = True
        expired = wanted is not None and wanted.until is not None and wall >= wanted.until
        read = schedule.read_is_due(now, self._reconciler.next_trial)
        if not read and schedule.pulse_is_due(now):
            read = not self._reconciler.sizes_match() or self._reconciler.leaks()
            schedule.limits_changed |= self._reconciler.rerouted()
        if not (read or expired or schedule.limits_changed or schedule.findings_changed):
            return
        try:
            self._pass(read=read)
        except OSError as error:
            # The kernel could not be read whole, or a tool is missing: nothing was decided from half a reading.
            log.warning("cannot read the kernel, trying again", error=refusals.words(error))
            if self._observer is not None:
                self._observer.unreadable(refusals.words(error))
            schedule.unreadable(self._clock.monotonic())

    def _patience(self, *, polled: bool) -> float:
        """Return the seconds until something is due without any event."""
        now = self._clock.monotonic()
        waits = [self._schedule.seconds_until_due(now, self._reconciler.next_trial, polled=polled)]
        waits += [due - now for due in (self._source.due(), self._reconciler.truth.due) if due is not None]
        if self._wanted is not None and self._wanted.until is not None:
            waits.append(self._wanted.until - self._clock.wall())
        return max(0.0, min(waits))

    def _pass(self, *, read: bool) -> report.Report:
        began = self._clock.monotonic()
        if self._schedule.limits_changed and self._vitals is not None:
            self._vitals.plan_changed(began)
        self._schedule.limits_changed = self._schedule.findings_changed = False
        self._wanted = self._source.wanted(self._clock.wall())
        if read:
            self._schedule.reading(began)
        made = self._reconciler.run(self._wanted, read=read)
        read_seconds = self._reconciler.read_seconds if read else None
        undone = self._reconciler.believed is None
        self._schedule.passed(began, self._clock.monotonic(), read_seconds, undone=undone)
        self._report(made)
        return made

    def _report(self, made: report.Report) -> None:
        wanted = self._wanted
        if self._vitals is not None and wanted is not None:
            self._vitals.passed(
                made,
                self._clock.monotonic(),
                complete=wanted.complete,
                repairs=self._reconciler.drift_repairs,
                kernel_failed=self._reconciler.believed is None,
            )
        self._made = made
        self._pass_on(made)
        self._change_log.record(made)

    def _remark(self) -> None:
        """Report the last pass again, if the remarks about this process have changed."""
        if self._made is not None and tuple(self._remarks()) != self._remarked:
            self._pass_on(self._made)

    def _pass_on(self, made: report.Report) -> None:
        self._remarked = tuple(self._remarks())
        if self._observer is not None and self._wanted is not None:
            remarked = dataclasses.replace(made, warnings=(*made.warnings, *self._remarked))
            self._observer.passed(self._wanted, remarked, clean=self._reconciler.believed is not None)


def _follow(selector: selectors.BaseSelector, registered: int | None, wanted: int | None) -> int | None:
    """Register the source's descriptor with the selector; it may change or disappear between two turns."""
    if registered != wanted:
        if registered is not None:
            selector.unregister(registered)
        if wanted is not None:
            selector.register(wanted, selectors.EVENT_READ)
    return wanted
