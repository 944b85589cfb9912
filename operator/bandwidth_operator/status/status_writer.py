"""Writes the statuses of limits that differ from those in the cluster, each with the outcome of that moment.

Owns the threads that write, so that the plan never waits for a status; `status_queue` decides which is due, and
`events` which events are written. The outcomes come from the leader.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterable
from typing import Any

import structlog

from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.fence import LeadershipLostError
from bandwidth_operator.election.pauses import RETRY_AFTER_MAX_SECONDS, RETRY_SECONDS
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.reporting.metrics import Metrics
from bandwidth_operator.status import events, limit_status
from bandwidth_operator.status.rollup import Outcome
from bandwidth_operator.status.status_queue import StatusQueue
from bandwidth_runtime.clock import SYSTEM, Clock

AT_ONCE = 8  # statuses written side by side: the API server's answers are waited for, not its work
WAITING_EVENTS_MAX = 500  # events that wait; of 10,000 limits applied in one go not every one is reported
IDLE_SECONDS = 5.0
# What the API server answers when a webhook refused an object, with a status code of its choice, or did not answer.
OF_A_WEBHOOK = ("admission webhook", "failed calling webhook")
ROOM_SECONDS = 0.25  # between two looks for room for an event

log = structlog.get_logger(__name__)


class StatusWriter:
    """The outcomes of one term, and the threads that write them into the cluster until it is closed."""

    def __init__(
        self,
        api: client.Client,
        writer: Writer,
        cache: Cache,
        metrics: Metrics,
        correlator: events.Correlator,
        clock: Clock = SYSTEM,
        at_once: int = AT_ONCE,
    ) -> None:
        """Start the threads; `at_once`: their number. With none, each call of `turn` writes one status."""
        self._api = api
        self._writer = writer
        self._cache = cache
        self._metrics = metrics
        self._correlator = correlator
        self._clock = clock
        self._queue = StatusQueue()
        self._reasons: dict[str, str] = {}
        self._waiting_events: collections.deque[tuple[objects.Limit, events.Occurrence]] = collections.deque()
        self._posting = False
        self._condition = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"status {number}", daemon=True) for number in range(at_once)
        ]
        self.crashed: BaseException | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop, and wait for the writes that are being sent."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def update(self, outcome: Outcome, limit: objects.Limit) -> None:
        """Take the outcome of a limit; its status is written when it is due."""
        with self._condition:
            if self._queue.update(outcome, limit, self._clock.monotonic()):
                self._reasons[limit.name] = limit_status.ready_reason(outcome)
            self._condition.notify()

    def forget_all_but(self, limits: Iterable[str]) -> None:
        """Remove the limits that no longer exist."""
        with self._condition:
            for name in self._queue.forget_all_but(limits):
                self._reasons.pop(name, None)

    def reasons(self) -> collections.Counter[str]:
        """Return the number of limits by the reason of their condition Ready."""
        with self._condition:
            return collections.Counter(self._reasons.values())

    def __len__(self) -> int:
        with self._condition:
            return len(self._queue)

    # ── the threads ────────────────────────────────────────────────────────────────────────────────────────────

    def turn(self) -> bool:
        """Write one status that is due, or one event; return False if there is nothing to write now."""
        with self._condition:
            name = self._take()
        if name is not None:
            self._write_next(name)
        return name is not None

    def _run(self) -> None:
        try:
            while (name := self._next()) is not None:
                self._write_next(name)
        except LeadershipLostError:
            pass  # the term sees its fence
        except BaseException as error:
            # Whoever reads `crashed` ends the process by it.
            self.crashed = error

    def _next(self) -> str | None:
        """Wait for what is to be done next, as `_take`; None for the end."""
        with self._condition:
            while not self._stopping and self._writer.fence.open:
                name = self._take()
                if name is not None:
                    return name
                now, at = self._clock.monotonic(), self._queue.next_at()
                # What is due and was not taken waits for a write under way, whose end is notified.
                self._condition.wait(min(IDLE_SECONDS, at - now) if at is not None and at > now else IDLE_SECONDS)
            return None

    def _take(self) -> str | None:
        """A limit whose status is due, "" for an event, None for neither."""
        name = self._queue.take(self._clock.monotonic())
        if name is None and self._waiting_events and not self._posting:
            self._posting = True
            return ""
        return name

    def _write_next(self, name: str) -> None:
        if name:
            self._bring(name)
        else:
            self._post_event()

    def _bring(self, name: str) -> None:
        """Write the status of one limit if it is another one than it should be."""
        limit = self._cache.limit(name)
        with self._condition:
            outcome = self._queue.outcome(name)
        status = None if limit is None or outcome is None else limit_status.status(outcome, limit, self._clock.wall())
        if limit is None or status is None or status == limit.status:
            with self._condition:
                self._queue.unchanged(name, self._clock.monotonic())
                self._condition.notify()
            return
        try:
            there = self._write(limit, status)
        except client.ApiError as error:
            self._failed(name, error)
            return
        after = self._cache.limit(name)
        with self._condition:
            if after is None:
                self._queue.unchanged(name, self._clock.monotonic())
            elif not there or after.status != status:  # a proxy, or a server without the kind, answers "not found" too
                self._queue.changed(name, self._clock.monotonic())
            else:
                self._queue.written(limit, after, self._clock.monotonic())
                self._queue_events(limit, status)
            self._condition.notify()

    def _write(self, limit: objects.Limit, status: dict[str, Any]) -> bool:
        """One write; what others wrote meanwhile is read. False if the limit is gone."""
        removed = {key: None for key in limit.status if key not in status}
        patch = {"metadata": {"uid": limit.uid, "resourceVersion": str(limit.version)}, "status": status | removed}
        path = f"{Kind.LIMIT.path}/{limit.name}"
        self._cache.expect(limit.name, status)
        asked = self._cache.mark()
        try:
            if limit.version >= 0:
                answer = self._writer.write("status", "PATCH", f"{path}/status", patch, client.MERGE_PATCH)
                self._cache.learn(Kind.LIMIT, answer, asked, own=True)
                return True
        except client.RefusedError as refused:
            if refused.status != 409:
                return self._is_gone(refused)
        try:
            asked = self._cache.mark()
            self._cache.learn(Kind.LIMIT, self._api.request("GET", path), asked)
        except client.RefusedError as refused:
            return self._is_gone(refused)
        return True

    def _is_gone(self, refused: client.RefusedError) -> bool:
        """False for a limit that is not there; raises what else was refused."""
        if refused.status != 404:
            raise refused
        return False

    def _failed(self, name: str, error: client.ApiError) -> None:
        """One write failed. Only what is no limit's fault holds the others back."""
        refused = error if isinstance(error, client.RefusedError) else None
        lasting = refused is not None and not refused.temporary and refused.status != 401
        own = refused is not None and any(words in refused.message for words in OF_A_WEBHOOK)
        with self._condition:
            now = self._clock.monotonic()
            seconds = self._queue.failed(name, now, lasting=lasting, own=own)
            if refused is not None and refused.status == 429 and not own:
                asked = refused.retry_after_seconds or RETRY_SECONDS[0]
                self._queue.pause(now + min(asked, RETRY_AFTER_MAX_SECONDS))
            self._condition.notify()
        if lasting:
            self._metrics.statuses_refused.inc()
        log.warning("a status could not be written", limit=name, error=str(error), after_seconds=seconds)

    # ── events ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _queue_events(self, limit: objects.Limit, status: dict[str, Any]) -> None:
        for occurrence in events.between(limit.status.get("conditions") or (), status["conditions"]):
            if len(self._waiting_events) == WAITING_EVENTS_MAX:
                self._metrics.events_dropped.inc()
            else:
                self._waiting_events.append((limit, occurrence))

    def _post_event(self) -> None:
        """Post the oldest event that waits, if there is room."""
        with self._condition:
            if not self._waiting_events:
                self._posting = False
                return
            limit, occurrence = self._waiting_events[0]
        done = False
        try:
            done = events.post(self._writer, self._correlator, events.about(limit), occurrence, self._clock.wall())
        finally:
            with self._condition:
                if done and self._waiting_events:
                    self._waiting_events.popleft()
                if not done and not self._stopping:
                    self._condition.wait(ROOM_SECONDS)
                self._posting = False
