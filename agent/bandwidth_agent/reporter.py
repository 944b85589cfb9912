"""Writes what the node says about itself into the cluster: its NodeBandwidthState, and nothing else.

Owns a thread, and the rule of when to write:

    something is other than what was last written      soon, the later the more nodes there are; while it changes all
                                                       the time, ever more rarely
    nothing changed                                    once in an interval, a little early, not all nodes at once
    the process begins                                 what stands there counts as written by us: the same state,
                                                       younger than an interval, is not written again
    a write failed                                     again after a pause that grows, or that the server asked for

Only the newest state is ever written. Never touches the object's metadata after making it.
"""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from bandwidth_agent import node_report, report
from bandwidth_agent.source import Wanted
from bandwidth_api import names, node_state
from bandwidth_kube import client

Object = dict[str, Any]

STATES = f"/apis/{names.GROUP}/{names.VERSION}/{node_state.PLURAL}"
MANAGER = "bandwidth-agent"

QUIET_SECONDS = (0.03, 0.15)  # from a change to its report, or longer among many nodes, because all of them change
# at once; what changes together is written together
SPACING_SECONDS = 1.0  # between two reports of changes; doubles while they go on …
SPACING_MAX_SECONDS = 8.0  # … up to this
EARLY = (0.8, 1.0)  # a report without news comes after this part of the interval
PAUSE_SECONDS = 1.0  # after a failure; doubles …
PAUSE_MAX_SECONDS = 60.0  # … up to this
ORPHANED_SECONDS = 20  # the interval while the object belongs to a Node that is gone, and will soon be gone as well
STEP_SECONDS = 10.0  # signs of life come at least this often
UNPLANNED_SECONDS = 30.0  # how long a node without any plan waits before it says so

log = structlog.get_logger("cluster")


class Listener(Protocol):
    """Who is told, from the reporter's thread."""

    def alive(self, name: str) -> None:
        """The thread goes on."""

    def reported(self) -> None:
        """The state is in the cluster, written now or found as it should be."""

    def report_failed(self, error: client.ApiError) -> None:
        """A write failed; it is tried again."""

    def crashed(self, name: str, error: BaseException) -> None:
        """The thread ended by an error of this program."""


class Reporter:
    """Told of every pass by the loop; writes from a thread of its own."""

    NAME = "report"

    def __init__(
        self,
        api: client.Client,
        node: str,
        listener: Listener,
        *,
        version: str,
        interval_seconds: int,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._node = node
        self._listener = listener
        self._version = version
        self._interval = interval_seconds
        self._wall = wall
        self._condition = threading.Condition()
        self._nodes = 0  # that have the same plan; the loop's own
        self._state: node_state.NodeState | None = None  # what is to be told
        self._quiet_until = 0.0  # monotonic; what changes together is written together
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=self.NAME, daemon=True)
        self._began = time.monotonic()
        # From here on the thread's own.
        self._there = False  # whether the object is known to be there
        self._owner = ""  # the uid of the Node that it belongs to
        self._node_uid = ""  # of the Node as it is now; written by others
        self._written: Object | None = None  # the status that stands there, as far as it is ours
        self._heartbeat_at = 0.0  # monotonic; when to write though nothing changed
        self._change_at = 0.0  # monotonic; before this no change is written
        self._spacing = SPACING_SECONDS
        self._failures = 0
        self._retry_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop at the next occasion; what is not written stays so."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    # ── the loop's thread ──────────────────────────────────────────────────────────────────────────────────────

    def passed(self, wanted: Wanted, made: report.Report, *, clean: bool) -> None:
        """A pass ended."""
        if wanted.digest is None and time.monotonic() - self._began < UNPLANNED_SECONDS:
            return
        self._nodes = wanted.nodes
        self._tell(
            node_report.state(
                self._node, wanted, made, clean=clean, version=self._version, interval_seconds=self._interval
            )
        )

    def unreadable(self, message: str) -> None:
        """A pass could not be made."""
        with self._condition:
            last = self._state
        if last is not None:
            self._tell(dataclasses.replace(last, message=f"the kernel cannot be read: {message}"))

    def node_is(self, uid: str) -> None:
        """The Node's uid, from whoever reads it: one that was made anew takes its old state along when it goes."""
        with self._condition:
            known, self._node_uid = self._node_uid, uid
            if known and uid != known:
                self._heartbeat_at = 0.0
                self._condition.notify()

    def _tell(self, state: node_state.NodeState) -> None:
        with self._condition:
            if state == self._state:
                return
            self._state = state
            now = time.monotonic()
            if self._quiet_until <= now:
                least, most = QUIET_SECONDS
                most = max(most, node_state.spread_seconds(self._nodes))
                self._quiet_until = now + random.uniform(least, most)  # noqa: S311
            self._condition.notify()

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def once(self) -> None:
        """Write what is to be told, in the calling thread. Raises client.ApiError."""
        if self._state is not None:
            self._write(self._state)

    def _run(self) -> None:
        try:
            while True:
                self._listener.alive(self.NAME)
                with self._condition:
                    state = self._state
                    self._condition.wait(min(STEP_SECONDS, self._patience(state)))
                    if self._stopping:
                        return
                    state = self._state
                if state is not None and self._patience(state) <= 0.0:
                    self._report(state)
        except BaseException as error:
            self._listener.crashed(self.NAME, error)

    def _patience(self, state: node_state.NodeState | None) -> float:
        """Seconds until this state is to be written."""
        now = time.monotonic()
        if state is None:
            return STEP_SECONDS
        due = self._heartbeat_at
        if self._written is None or not _same(self._written, node_state.write(state)):
            due = max(self._change_at, self._quiet_until)
        return max(due, self._retry_at) - now

    def _report(self, state: node_state.NodeState) -> None:
        try:
            self._write(state)
        except client.ApiError as error:
            self._failures += 1
            self._retry_at = time.monotonic() + self._pause(error)
            self._listener.report_failed(error)
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
        if self._written is None and self._adopt(state):
            self._listener.reported()
            return
        if not self._there:
            self._make()
        now = time.monotonic()
        status = node_state.write(dataclasses.replace(state, reported_at=self._wall()))
        try:
            self._api.request(
                "PATCH",
                f"{STATES}/{self._node}/status",
                query={"fieldManager": MANAGER},
                body={"status": status},
                content_type=client.MERGE_PATCH,
            )
        except client.RefusedError as refused:
            if refused.status == 404:
                # Deleted since; the next attempt makes it anew.
                self._there, self._written = False, None
            raise
        self._space(changed=self._written is None or not _same(self._written, status), now=now)
        self._written = status
        self._heartbeat_at = now + self._next_interval()
        self._listener.reported()

    def _next_interval(self) -> float:
        orphaned = self._owner and self._node_uid and self._owner != self._node_uid
        return (min(self._interval, ORPHANED_SECONDS) if orphaned else self._interval) * random.uniform(*EARLY)  # noqa: S311

    def _space(self, *, changed: bool, now: float) -> None:
        """Changes that come one after the other are written ever more rarely."""
        if changed:
            busy = now - self._change_at < self._spacing
            self._spacing = min(self._spacing * 2.0, SPACING_MAX_SECONDS) if busy else SPACING_SECONDS
            self._change_at = now + self._spacing

    def _adopt(self, state: node_state.NodeState) -> bool:
        """Look at what an earlier process wrote; True if there is nothing to add to it now."""
        try:
            item = self._api.request("GET", f"{STATES}/{self._node}")
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            self._there = False
            return False
        self._there = True
        owners = item.get("metadata", {}).get("ownerReferences") or [{}]
        self._owner = str(owners[0].get("uid", ""))
        status = item.get("status")
        known = node_state.read(item)
        if not isinstance(status, dict) or not isinstance(known, node_state.NodeState):
            return False
        age = max(0.0, self._wall() - known.reported_at)
        self._written = status
        self._heartbeat_at = time.monotonic() + self._next_interval() - age
        return _same(status, node_state.write(state)) and self._heartbeat_at > time.monotonic()

    def _make(self) -> None:
        """Make the object, owned by the Node, so that it goes with it."""
        owner = self._api.request("GET", f"/api/v1/nodes/{self._node}", query={"resourceVersion": "0"})["metadata"]
        body: Object = {
            "apiVersion": names.API_VERSION,
            "kind": node_state.KIND,
            "metadata": {
                "name": self._node,
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": owner["uid"]},
                ],
            },
        }
        try:
            self._api.request("POST", STATES, query={"fieldManager": MANAGER}, body=body)
        except client.RefusedError as refused:
            if refused.status != 409:
                raise
        self._there, self._owner = True, str(owner["uid"])


def _same(there: Object, ours: Object) -> bool:
    """Whether what stands there says all that we would say, but for the time."""
    return all(there.get(key) == value for key, value in ours.items() if key != "lastReportTime")
