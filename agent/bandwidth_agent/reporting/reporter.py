"""Writes this node's state into the cluster: its NodeBandwidthState, and nothing else.

Owns a thread, and the rule of when to write:

    the state has changed                 soon, the later the more nodes there are; while it keeps changing, at longer
                                          and longer intervals
    only more limits were verified        soon where the node shows a sign of a datapath that skips netfilter, and at
                                          intervals that double up to the usual one; elsewhere with the next report
    the state has not changed             once in an interval, a little early, at another time on each node
    the process starts                    the state in the cluster counts as written by us: if it is the same and
                                          younger than an interval, it is not written again
    a write failed                        after a pause that grows, or that the server asked for
    the process is asked to stop          at once: the report that the agent has stopped and its limits stay in force
    the object was deleted                soon, the later the more nodes there are

Only the newest state is ever written. Never changes the object's metadata after creating it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
from collections.abc import Callable
from typing import Any

import structlog

from bandwidth_agent import report
from bandwidth_agent.limits import Wanted
from bandwidth_agent.reporting import node_report
from bandwidth_agent.reporting.api_health import ApiHealth
from bandwidth_agent.reporting.state_object import StateObject
from bandwidth_agent.reporting.verified_names import VerifiedNames
from bandwidth_api.crds import node_state
from bandwidth_kube import client
from bandwidth_runtime.clock import SYSTEM, Clock

Object = dict[str, Any]

QUIET_SECONDS = (0.03, 0.15)  # from a change to its report, or longer among many nodes, because all of them change
# at once; what changes together is written together
SPACING_SECONDS = 1.0  # between two reports of changes; doubles while they go on …
SPACING_MAX_SECONDS = 8.0  # … up to this
EARLY = (0.8, 1.0)  # a report without news comes after this part of the interval
PAUSE_SECONDS = 1.0  # after a failure; doubles …
PAUSE_MAX_SECONDS = 60.0  # … up to this
ORPHANED_SECONDS = 20  # the interval while the object belongs to a deleted Node, and will soon be deleted as well
STEP_SECONDS = 10.0  # signs of life come at least this often
LEAVE_SECONDS = 2.0  # for the last report; a process that is asked to stop does not wait for the API server
UNPLANNED_SECONDS = 30.0  # how long a node without any plan waits before it reports that

log = structlog.get_logger("cluster")


class Reporter:
    """Receives the result of every pass from the loop, and writes the state from a thread of its own."""

    NAME = "report"

    def __init__(
        self,
        api: client.Client,
        node: str,
        api_health: ApiHealth,
        *,
        version: str,
        interval_seconds: int,
        clock: Clock = SYSTEM,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """`wait`: pauses for so many seconds, or until something happens."""
        self._node = node
        self._api_health = api_health
        self._version = version
        self._interval = interval_seconds
        self._clock = clock
        self._condition = threading.Condition()
        self._wait = wait if wait is not None else self._condition.wait
        self._nodes = 0  # that have the same plan; the loop's own
        self._state: node_state.NodeState | None = None  # what is to be written
        self._quiet_until = 0.0  # monotonic; what changes together is written together
        self._gone = False  # the object was deleted; the thread has not taken note of it yet
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=self.NAME, daemon=True)
        self._began = self._clock.monotonic()
        # From here on the thread's own.
        self._object = StateObject(api, node)
        self._node_uid = ""  # of the Node as it is now; written by others
        self._written: Object | None = None  # the status in the cluster, as far as we wrote it
        self._heartbeat_at = 0.0  # monotonic; when to write although nothing changed
        self._change_at = 0.0  # monotonic; before this no change is written
        self._spacing = SPACING_SECONDS
        self._names = VerifiedNames()
        self._news_at = 0.0  # monotonic; before this nothing is written only because limits were verified
        self._news_spacing = SPACING_SECONDS
        self._failures = 0
        self._retry_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to stop; it writes nothing more except that the agent has stopped."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    def join(self) -> None:
        """Wait for the thread to end, at most LEAVE_SECONDS and one more."""
        if self._thread.is_alive():
            self._thread.join(LEAVE_SECONDS + 1.0)

    # ── the loop's thread ──────────────────────────────────────────────────────────────────────────────────────

    def passed(self, wanted: Wanted, made: report.Report, *, clean: bool) -> None:
        """Take the result of a pass; its state is written soon if it differs from the one written last."""
        if wanted.digest is None and self._clock.monotonic() - self._began < UNPLANNED_SECONDS:
            return
        self._nodes = wanted.nodes
        self._set(
            node_report.state(
                self._node, wanted, made, clean=clean, version=self._version, interval_seconds=self._interval
            )
        )

    def unreadable(self, message: str) -> None:
        """Report that a pass was not possible because the kernel could not be read."""
        with self._condition:
            last = self._state
        if last is not None:
            self._set(dataclasses.replace(last, message=f"the kernel cannot be read: {message}"))

    def node_is(self, uid: str) -> None:
        """Take the uid of this Node; a new uid means that the old Node's deletion will delete our state with it."""
        with self._condition:
            known, self._node_uid = self._node_uid, uid
            if known and uid != known:
                self._heartbeat_at = 0.0
                self._condition.notify()

    def gone(self) -> None:
        """Take note that the object was deleted, perhaps those of all nodes at once; it is created again soon."""
        with self._condition:
            self._gone = True
            self._gather()
            self._condition.notify()

    def _set(self, state: node_state.NodeState) -> None:
        with self._condition:
            if state == self._state:
                return
            self._state = state
            self._gather()
            self._condition.notify()

    def _gather(self) -> None:
        """Delay the next report by a random time, so that not all nodes write at once."""
        now = self._clock.monotonic()
        if self._quiet_until <= now:
            least, most = QUIET_SECONDS
            most = max(most, node_state.spread_seconds(self._nodes))
            self._quiet_until = now + random.uniform(least, most)  # noqa: S311

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def once(self) -> None:
        """Write the state in the calling thread. Raises client.ApiError."""
        if self._state is not None:
            self._write(self._state)

    def _run(self) -> None:
        try:
            while self.turn():
                pass
        except BaseException as error:
            self._api_health.crashed(self.NAME, error)

    def turn(self) -> bool:
        """Wait until something is due, for a bounded time, and write it; False when it was the last turn."""
        self._api_health.alive(self.NAME)
        with self._condition:
            before = self._state
            self._wait(min(STEP_SECONDS, self._patience(before)))
            stopping, state = self._stopping, self._state
            gone, self._gone = self._gone, False
        if stopping:
            self._leave(before)
            return False
        if gone and self._object.was_deleted():
            self._written = None
        if state is not None and self._patience(state) <= 0.0:
            self._report(state)
        return True

    def _leave(self, state: node_state.NodeState | None) -> None:
        """Write that this node's agent has stopped; the next agent replaces that."""
        if self._written is None or state is None or state.retired:
            return
        with contextlib.suppress(client.ApiError):
            self._object.write(node_state.STOPPED, timeout_seconds=LEAVE_SECONDS)

    def _patience(self, state: node_state.NodeState | None) -> float:
        """Return the seconds until this state is due to be written."""
        now = self._clock.monotonic()
        if state is None:
            return STEP_SECONDS
        due = self._heartbeat_at
        if self._written is None or not node_report.same(self._written, node_state.write(state, ())):
            due = max(self._change_at, self._quiet_until)
        elif self._names.news(state):
            due = min(due, max(self._news_at, self._change_at, self._quiet_until))
        return max(due, self._retry_at) - now

    def _report(self, state: node_state.NodeState) -> None:
        try:
            self._write(state)
        except client.ApiError as error:
            self._failures += 1
            self._retry_at = self._clock.monotonic() + self._pause(error)
            self._api_health.report_failed(error)
            if self._failures == 2:  # one may be a connection that had grown old
                log.warning("cannot report this node's state, trying again", error=str(error))
        else:
            if self._failures > 1:
                log.info("this node's state is reported again", failures=self._failures)
            self._failures = 0

    def _pause(self, error: client.ApiError) -> float:
        if self._failures == 1 and isinstance(error, client.UnreachableError):
            return random.uniform(*QUIET_SECONDS)  # noqa: S311
        seconds = min(PAUSE_SECONDS * 2.0 ** (self._failures - 1), PAUSE_MAX_SECONDS)
        if isinstance(error, client.RefusedError) and error.retry_after_seconds is not None:
            seconds = max(seconds, min(error.retry_after_seconds, PAUSE_MAX_SECONDS))
        return seconds * random.uniform(1.0, 1.5)  # noqa: S311

    def _write(self, state: node_state.NodeState) -> None:
        if self._written is None and not self._object.lost and self._adopt(state):
            self._api_health.reported()
            return
        now = self._clock.monotonic()
        timed = dataclasses.replace(state, reported_at=self._clock.wall())
        status = node_state.write(timed, self._names.in_order(state))
        try:
            self._object.write(status)
        except client.RefusedError as refused:
            if refused.status == 404:
                self._written = None
            raise
        changed = self._written is None or not node_report.same(self._written, status)
        if not changed and self._names.news(state):
            self._space_news(now)
        self._space(changed=changed, now=now)
        self._written = status
        self._names.written(state, status["verified"])
        self._heartbeat_at = now + self._next_interval()
        self._api_health.reported()

    def _next_interval(self) -> float:
        owner = self._object.owner
        orphaned = owner and self._node_uid and owner != self._node_uid
        return (min(self._interval, ORPHANED_SECONDS) if orphaned else self._interval) * random.uniform(*EARLY)  # noqa: S311

    def _space(self, *, changed: bool, now: float) -> None:
        """Lengthen the interval between writes while changes follow one another, and shorten it again after them."""
        if changed:
            busy = now - self._change_at < self._spacing
            self._spacing = min(self._spacing * 2.0, SPACING_MAX_SECONDS) if busy else SPACING_SECONDS
            self._change_at = now + self._spacing

    def _space_news(self, now: float) -> None:
        """Lengthen the interval between reports of verified limits, up to that of reports without news."""
        busy = now - self._news_at < self._news_spacing
        self._news_spacing = min(self._news_spacing * 2.0, self._interval) if busy else SPACING_SECONDS
        self._news_at = now + self._news_spacing

    def _adopt(self, state: node_state.NodeState) -> bool:
        """Read what an earlier process wrote; return whether it needs no write now."""
        item = self._object.read()
        if item is None:
            return False
        status = item.get("status")
        known = node_state.read(item)
        if not isinstance(status, dict) or not isinstance(known, node_state.NodeState):
            return False
        age = max(0.0, self._clock.wall() - known.reported_at)
        self._written = status
        self._names.written(state, known.verified & state.verified)
        self._heartbeat_at = self._clock.monotonic() + self._next_interval() - age
        return node_report.same(status, node_state.write(state, ())) and self._heartbeat_at > self._clock.monotonic()
