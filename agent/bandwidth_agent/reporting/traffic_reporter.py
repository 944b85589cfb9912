"""Answers questions about traffic from one node: looks while one lives, and reports what it sees at the interval.

    head of the plan ──▶ head_read ──▶ thread: lease of the sight ──▶ history ──▶ NodeClientTraffic
                                          (only while it is asked)

Whatever the head says, this node looks for at most a minute after it saw a renewal come, by its own clock: an operator
or an API server that is gone costs no more. What was asked before this process began does not count, since nobody
knows how old it is; the next renewal comes within seconds. The operator deletes the report. Where it does not, because
it is away, the report is emptied at the end.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from bandwidth_agent.kernel import contract
from bandwidth_agent.reporting import traffic_report
from bandwidth_agent.reporting.named_clients import NamedClients
from bandwidth_agent.reporting.state_object import StateObject
from bandwidth_agent.sight import estimates
from bandwidth_api import kinds
from bandwidth_api.crds import asked, client_traffic
from bandwidth_api.crds.asked import Asked
from bandwidth_api.plan import Prefix
from bandwidth_kube import client
from bandwidth_runtime.clock import SYSTEM, Clock
from bandwidth_sight.history import History
from bandwidth_sight.rows import Snapshot

FIRST_SECONDS = 1.2  # from a question to the first report, which has one stretch of a second
SOON_SECONDS = 0.25  # to the next look whether there is one
LATE_SECONDS = 2.0  # after so long a report without rows says that nothing was seen
EMPTY_SPREAD_SECONDS = 5.0  # over which the nodes empty their reports, at least
RETRY_AFTER_MAX_SECONDS = 60.0  # whatever the server asks for

log = structlog.get_logger("cluster")


class Grant(Protocol):
    """What a sight lends: see `bandwidth_agent.sight.sight.Grant`."""

    @property
    def holds(self) -> bool: ...

    @property
    def failure(self) -> BaseException | None: ...

    def renew(self, seconds: float) -> bool: ...

    def close(self) -> None: ...


class Lends(Protocol):
    """A sight, for one who asks it."""

    def lease(self, seconds: float, receive: Callable[[contract.Stretches], None]) -> Grant:
        """Look for so many seconds. Raises OSError."""


class TrafficReporter:
    """One node's answers. `head_read` may be called by any thread; there is a thread only while a question lives."""

    def __init__(
        self,
        api: client.Client,
        node: str,
        sight: Lends,
        *,
        clock: Clock = SYSTEM,
        spread: Callable[[float, float], float] = random.uniform,
        start: Callable[[Callable[[], None]], object] | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """`wait`: pauses for so many seconds, or until something happens; `start`: runs a function in a thread."""
        self._api = api
        self._node = node
        self._sight = sight
        self._clock = clock
        self._spread = spread
        self._start = start if start is not None else _in_a_thread
        self._condition = threading.Condition()
        self._wait = wait if wait is not None else self._condition.wait
        self._begun = False  # a first reading was taken
        self._asked: Asked | None = None
        self._renewal: int | None = None  # the last one that was seen
        self._until = 0.0  # monotonic; this node looks no longer than that
        self._running = False
        self._stopping = False
        self._refused = ""  # the refusal that was logged

    def head_read(self, question: Asked | None) -> None:
        """Take what the head of the plan asks; None: nothing, or there is no head."""
        with self._condition:
            now = self._clock.monotonic()
            if question is None:
                self._renewal, self._until = None, now
            elif question.renewal != self._renewal:
                self._renewal = question.renewal
                seconds = min(question.seconds, asked.SECONDS_MAX)
                self._until = now + seconds if self._begun else now
            self._begun = True
            self._asked = question
            start = not self._running and self._looks(now)
            self._running = self._running or start
            self._condition.notify_all()
        if start:
            try:
                self._start(self._run)
            except RuntimeError as error:  # the system refuses a thread
                with self._condition:
                    self._running = False
                log.warning("a question about traffic is not answered", error=str(error))

    def stop(self) -> None:
        """End what is under way, without waiting for it."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def _looks(self, now: float) -> bool:
        """Return whether this node should look now."""
        question = self._asked
        return not self._stopping and question is not None and question.asks(self._node) and now < self._until

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        look = _Look(self._sight, self._clock)
        report = StateObject(self._api, self._node, kinds.TRAFFIC_PATH, client_traffic.KIND)
        try:
            while True:
                self._answer(look, report)
                look.close()
                if not self._alone(report):
                    return
                look = _Look(self._sight, self._clock)
        except Exception:
            # Limits have nothing to do with it.
            log.exception("a question about traffic is not answered")
            with self._condition:
                self._running, self._until = False, self._clock.monotonic()
        finally:
            look.close()

    def _answer(self, look: _Look, report: StateObject) -> None:
        """Look and report until nobody asks any more."""
        with self._condition:
            question = self._asked
        if question is None:
            return
        first_at = self._clock.monotonic() + FIRST_SECONDS + self._spread(0.0, float(question.spread_seconds))
        next_at = first_at
        while True:
            with self._condition:
                now = self._clock.monotonic()
                question, until = self._asked, self._until
                if question is None or not self._looks(now):
                    return
                look.hold(until - now, question.clients)
                if now < next_at:
                    self._wait(min(next_at, until) - now)
                    continue
            seen = look.seen()
            if seen is None and not look.trouble and next_at < first_at + LATE_SECONDS:
                next_at += SOON_SECONDS
                continue
            # From when it is written, not from when it was due: all nodes together never report more often.
            next_at = self._clock.monotonic() + question.interval_seconds
            made = traffic_report.made(self._node, question, seen, look.trouble, look.named())
            seconds = self._report(report, made)
            next_at = max(next_at, self._clock.monotonic() + seconds)

    def _report(self, report: StateObject, said: client_traffic.Traffic) -> float:
        """Write the report; return for how many seconds no other one should follow."""
        was_there = report.is_there
        try:
            report.write(client_traffic.write(said))
            self._refused = ""
        except client.RefusedError as error:
            if error.status == 403 or (error.status == 404 and not was_there):
                self._give_up(str(error))
            return min(error.retry_after_seconds or 1.0, RETRY_AFTER_MAX_SECONDS)
        except client.UnreachableError as error:
            log.debug("a report about traffic could not be written", error=str(error))
        return 1.0

    def _give_up(self, why: str) -> None:
        """Look no more until the next renewal: nobody can hear of it."""
        if self._refused != why:
            log.warning("this node may not answer questions about traffic", error=why)
        with self._condition:
            self._refused, self._until = why, self._clock.monotonic()

    def _alone(self, report: StateObject) -> bool:
        """End the thread, or return True where it should look again.

        Where the head still asks the operator is away, and the report is emptied, apart from those of other nodes.
        """
        with self._condition:
            question = self._asked
            left = question is not None and not self._stopping and not self._refused and question.asks(self._node)
            if left and question is not None:
                spread_seconds = max(EMPTY_SPREAD_SECONDS, float(question.spread_seconds))
                deadline = self._clock.monotonic() + self._spread(0.0, spread_seconds)
                while (now := self._clock.monotonic()) < deadline and not self._stopping and not self._looks(now):
                    self._wait(deadline - now)
            if self._looks(self._clock.monotonic()):
                return True
            self._running = False
            left = left and self._asked is not None
        if left:
            try:
                report.empty()
            except client.ApiError as error:
                log.debug("a report about traffic could not be emptied", error=str(error))
        return False


class _Look:
    """What is seen, from the beginning of one look to its end."""

    def __init__(self, sight: Lends, clock: Clock) -> None:
        self._sight = sight
        self._clock = clock
        self._lock = threading.Lock()
        self._history = History(clock.monotonic())
        self._named = NamedClients()
        self._new = False
        self._grant: Grant | None = None
        self.trouble = ""  # what keeps this node from looking

    def hold(self, seconds: float, clients: Sequence[str] = ()) -> None:
        """Look for so many seconds from now; for these clients also where they get little."""
        with self._lock:
            self._named.want(clients)
        if self._grant is not None and self._grant.renew(seconds):
            return
        failure = self._grant.failure if self._grant is not None else None
        try:
            self._grant = self._sight.lease(seconds, self._receive)
            self.trouble = f"it stopped looking: {failure}"[:160] if failure is not None else ""
        except OSError as error:
            self._grant = None
            self.trouble = _said(error)

    def seen(self) -> Snapshot | None:
        """Return what was seen until now; None if nothing was yet."""
        with self._lock:
            return self._history.snapshot(self._clock.wall()) if self._new else None

    def named(self) -> Mapping[Prefix, Snapshot]:
        """Return what was seen of the clients that are looked for by name."""
        with self._lock:
            return self._named.snapshots()

    def close(self) -> None:
        if self._grant is not None:
            self._grant.close()

    def _receive(self, stretches: contract.Stretches) -> None:
        with self._lock:
            self._named.add(stretches, self._clock.monotonic())
            self._new |= estimates.add(self._history, stretches, self._clock.monotonic())


def _said(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "it may not look at packets: give the agent CAP_NET_RAW"
    return f"it cannot look at packets: {error.strerror or error}"


def _in_a_thread(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name="traffic", daemon=True).start()
