"""Decides when the leader makes a plan, and when it works out all statuses. Pure: every time is a parameter.

    a limit, a node or a slice changed, or other nodes run an agent     a plan, when nothing has changed for a moment
    an entry expired, the wall clock was set, the term began            a plan at once
    a write failed                                                      a plan after a pause that grows
    anything changed, a plan was made, a node stopped reporting         all statuses, in at most a fifth of the time

Times are monotonic seconds, unless they are called `wall`: seconds since the epoch.
"""

from __future__ import annotations

import math

from bandwidth_api.kinds import Kind
from bandwidth_operator.election.pauses import RETRY_AFTER_MAX_SECONDS, RETRY_SECONDS
from bandwidth_runtime import clock

QUIET_SECONDS = 0.05  # without a change, before a plan is made
LONGEST_WAIT_SECONDS = 1.0  # a plan is made at least so often while changes go on
EVALUATE_SECONDS = 0.2  # between two looks at all node states, at least
TURN_SECONDS = 1.0  # the acting thread turns at least so often
SETTLE_SECONDS = 10.0  # at the beginning of a term, until nodes that are elsewhere report; and their spread on top


class Agenda:
    """What is due in one term. `settled`: all existing nodes have had the time to report."""

    def __init__(self) -> None:
        self._plan_since: float | None = None  # since when the plan may be another
        self._plan_changed_at = 0.0  # the last change of that kind
        self._plan_not_before = 0.0  # after a failed write
        self._failures = 0
        self._expires_at: float | None = None  # wall
        self._evaluate_since: float | None = None
        self._evaluation_took = 0.0
        self._silent_at: float | None = None  # when the next node will count as silent
        self._settles_at = math.inf
        self._steps = clock.Steps()
        self.settled = False

    def begin(self, now: float, spread_seconds: float) -> None:
        """Record that everything is listed. `spread_seconds`: the time over which the nodes spread their reports."""
        self._settles_at = now + SETTLE_SECONDS + spread_seconds
        self._plan_at_once(now)

    def note(self, changed: frozenset[Kind], now: float, wall: float, *, agents_changed: bool) -> None:
        """Record what has changed, and whether the set of nodes with an agent differs from the plan's."""
        if changed and self._evaluate_since is None:
            self._evaluate_since = now
        if changed - {Kind.STATE} or agents_changed:
            self._plan_changed_at = now
            self._plan_since = now if self._plan_since is None else self._plan_since
        expired = self._expires_at is not None and self._expires_at <= wall
        if self._steps.stepped(wall, now) or expired:
            self._plan_at_once(now)
        if not self.settled and now > self._settles_at:
            self.settled = True
            self._plan_since = self._plan_changed_at = now
        if self._silent_at is not None and self._silent_at < now:
            self._silent_at, self._evaluate_since = None, now

    def wait_seconds(self, now: float, wall: float) -> float:
        """Return the seconds until something is due, if nothing changes before."""
        waits = [TURN_SECONDS, self._plan_at() - now, self._evaluate_at() - now]
        if self._expires_at is not None:
            waits.append(max(self._expires_at - wall, self._plan_not_before - now))
        return max(0.0, min(waits))

    # ── the plan ───────────────────────────────────────────────────────────────────────────────────────────────

    def plan_is_due(self, now: float) -> bool:
        return self._plan_at() <= now

    def planned(self, now: float, expires_at: float | None) -> None:
        """Record a plan, whose next entry expires then (wall); its slices are still to be written."""
        self._expires_at, self._evaluate_since = expires_at, now

    def published(self) -> None:
        """Record that the slices hold the plan."""
        self._plan_since, self._failures = None, 0

    def failed(self, now: float, asked_seconds: float | None = None) -> float:
        """Record that a plan could not be made or written; return the pause, which the server may have asked for."""
        self._failures += 1
        seconds = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]
        if asked_seconds is not None:
            seconds = max(seconds, min(asked_seconds, RETRY_AFTER_MAX_SECONDS))
        self._plan_not_before = now + seconds
        return seconds

    def _plan_at_once(self, now: float) -> None:
        self._plan_since = self._plan_changed_at = now - LONGEST_WAIT_SECONDS

    def _plan_at(self) -> float:
        if self._plan_since is None:
            return math.inf
        at = min(self._plan_changed_at + QUIET_SECONDS, self._plan_since + LONGEST_WAIT_SECONDS)
        return max(at, self._plan_not_before)

    # ── the limits' statuses ───────────────────────────────────────────────────────────────────────────────────

    def evaluation_is_due(self, now: float) -> bool:
        return self._evaluate_at() <= now

    def evaluation_began(self) -> None:
        """Record that the statuses are being worked out; later changes count for the next time."""
        self._evaluate_since = None

    def evaluated(self, began: float, ended: float, silent_at: float | None, *, settling: bool) -> None:
        """Record that all statuses were worked out. `silent_at`: when the next node will count as silent."""
        self._evaluation_took, self._silent_at = ended - began, silent_at
        if settling:
            self._evaluate_since = began + TURN_SECONDS

    def _evaluate_at(self) -> float:
        if self._evaluate_since is None:
            return math.inf
        return self._evaluate_since + max(EVALUATE_SECONDS, 4 * self._evaluation_took) - EVALUATE_SECONDS / 2
