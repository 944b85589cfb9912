"""Decides which limits' statuses are due to be written, and which have to wait. Pure: every time is a parameter.

    an outcome ─▶ due at once, or later ─▶ taken ─▶ written │ refused: this limit alone waits, longer each time

A status that only reports "not yet" waits a little, because the nodes will report soon; after a write the next one for
the same limit waits too, unless the limit became ready or was edited; longest, if it was only verified on more nodes.
A limit whose last write failed can delay only others like it: at any time few of the writes are for such limits.
"""

from __future__ import annotations

import dataclasses
import heapq
import operator
from collections.abc import Iterable

from bandwidth_operator.cache import objects
from bandwidth_operator.status import limit_status
from bandwidth_operator.status.rollup import Outcome

PENDING_SECONDS = 1.0
PENDING_EACH_SECONDS = 0.01  # and so much longer for each status that waits already: of 10,000 limits applied in one
PENDING_MAX_SECONDS = 10.0  # go, none should be written twice because the nodes are busy with the others
AGAIN_SECONDS = 2.0
VERIFIED_SECONDS = 60.0  # a status that only names one more node where the limit was verified; there may be thousands
SUSPECTS_AT_ONCE = 2  # writes under way of limits whose last write failed
REFUSED_SECONDS = (5.0, 600.0)  # a refusal that will not pass by itself: the first pause, doubled up to the last
FAILED_SECONDS = (0.5, 30.0)  # what passes by itself
CHANGED_SECONDS = (0.1, 30.0)  # another program wrote the limit at the same time, or does so each time
COMMON_FAILURES = 3  # so many limits in a row: it is not them, all wait
COMMON_SECONDS = (0.2, 1.0)


@dataclasses.dataclass(slots=True)
class _Failures:
    """The failed writes of one limit, and its pause."""

    count: int  # in a row
    generation: int
    until: float
    suspect: bool


class StatusQueue:
    """The limits in the order in which their statuses are due, each at most once."""

    def __init__(self) -> None:
        self._outcomes: dict[str, tuple[Outcome, objects.Limit]] = {}
        self._due_at: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []  # may hold entries that do not count any more
        self._count = 0  # of entries ever made: what is due at the same time goes in the order of its coming
        self._taken: dict[str, bool] = {}  # under way; whether another outcome came meanwhile
        self._written_at: dict[str, tuple[float, int]] = {}  # when, and at which generation
        self._failures: dict[str, _Failures] = {}
        self._suspects: set[str] = set()  # of those under way
        self._row: set[str] = set()  # limits that failed since the last success
        self._common: set[str] = set()  # those of them that failed by what may be the server's fault
        self._not_before = 0.0
        self._latest_next = False  # while limits fail one after the other

    def __len__(self) -> int:
        return len(self._due_at)

    def outcome(self, name: str) -> Outcome | None:
        """Return the last outcome of a limit."""
        known = self._outcomes.get(name)
        return None if known is None else known[0]

    def update(self, outcome: Outcome, limit: objects.Limit, now: float) -> bool:
        """Take the outcome of a limit; return whether it differs from the last one."""
        before = self._outcomes.get(limit.name)
        if before is not None and before[0] == outcome and before[1] is limit:
            return False
        self._outcomes[limit.name] = (outcome, limit)
        if limit.name in self._taken:
            self._taken[limit.name] = True
        else:
            self._queue(limit.name, now)
        return before is None or before[0] != outcome

    def forget_all_but(self, limits: Iterable[str]) -> list[str]:
        """Remove the limits that no longer exist; return their names."""
        gone = list(self._outcomes.keys() - set(limits))
        for name in gone:
            del self._outcomes[name]
            for of in (self._due_at, self._written_at, self._failures):
                of.pop(name, None)
        return gone

    def next_at(self) -> float | None:
        """Return when the next status may be written; None if none waits."""
        while self._heap and self._due_at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return max(self._heap[0][0], self._not_before) if self._heap else None

    def take(self, now: float) -> str | None:
        """Return the next limit whose status is due; it is being written until `written`, `unchanged` or `failed`."""
        found = self._from_anywhere(now) if len(self._row) >= COMMON_FAILURES else None
        if found is None:
            found = self._first(now)
        if found is not None:
            del self._due_at[found]
            self._taken[found] = False
            if self._is_suspect(found):
                self._suspects.add(found)
        return found

    def _first(self, now: float) -> str | None:
        """Return the limit that has been due for longest."""
        passed_over: list[tuple[float, int, str]] = []
        found: str | None = None
        while (at := self.next_at()) is not None and at <= now:
            first = heapq.heappop(self._heap)
            name = first[2]
            if self._is_suspect(name) and len(self._suspects) >= SUSPECTS_AT_ONCE:
                passed_over.append(first)
                continue
            found = name
            break
        for each in passed_over:
            heapq.heappush(self._heap, each)
        return found

    def _from_anywhere(self, now: float) -> str | None:
        """One that has not failed: first those that could be written before, then the latest and the oldest in turn."""
        if now < self._not_before:
            return None
        due = [each for each in self._heap if each[0] <= now and self._due_at.get(each[2]) == each[0]]
        due = [each for each in due if each[2] not in self._failures]
        if not due:
            return None
        writable = [each for each in due if each[2] in self._written_at or self._outcomes[each[2]][1].status]
        if writable:
            return min(writable)[2]
        self._latest_next = not self._latest_next
        return (max if self._latest_next else min)(due, key=operator.itemgetter(1))[2]

    def unchanged(self, name: str, now: float) -> None:
        """Record that the status in the cluster is right already, or that the limit does not exist."""
        self._failures.pop(name, None)
        self._end(name, now)

    def written(self, limit: objects.Limit, after: objects.Limit, now: float) -> None:
        """Record that the status was written; `limit` is what it was made from, `after` the limit with it."""
        self._row.clear()
        self._common.clear()
        self._failures.pop(limit.name, None)
        self._written_at[limit.name] = (now, limit.generation)
        known = self._outcomes.get(limit.name)
        if known is not None and known[1] is limit:
            self._outcomes[limit.name] = (known[0], after)
        self._end(limit.name, now)

    def changed(self, name: str, now: float) -> None:
        """Record that the status in the cluster differs from what was written, so that it is compared again."""
        self._note_failure(name, now, CHANGED_SECONDS, suspect=False)
        self._end(name, now)

    def failed(self, name: str, now: float, *, lasting: bool, own: bool = False) -> float:
        """Record that a write failed; return the pause of this limit.

        `lasting`: the refusal will not pass by itself. `own`: it concerns this one object, and is no sign that the
        server is in trouble.
        """
        seconds = self._note_failure(name, now, REFUSED_SECONDS if lasting else FAILED_SECONDS, suspect=True)
        self._row.add(name)
        if not lasting and not own:
            self._common.add(name)
            if len(self._common) >= COMMON_FAILURES:
                self.pause(now + _doubled(COMMON_SECONDS, len(self._common) - COMMON_FAILURES))
        self._end(name, now)
        return seconds

    def _note_failure(self, name: str, now: float, bounds: tuple[float, float], *, suspect: bool) -> float:
        known = self._outcomes.get(name)
        generation = known[1].generation if known is not None else 0
        before = self._failures.get(name)
        failures = before.count if before is not None and before.generation == generation else 0
        seconds = _doubled(bounds, failures)
        self._failures[name] = _Failures(failures + 1, generation, now + seconds, suspect)
        self._taken[name] = True
        return seconds

    def pause(self, until: float) -> None:
        """Write no status at all before this time."""
        self._not_before = max(self._not_before, until)

    def _is_suspect(self, name: str) -> bool:
        return name in self._failures and self._failures[name].suspect

    def _end(self, name: str, now: float) -> None:
        self._suspects.discard(name)
        if self._taken.pop(name, False) and name in self._outcomes:
            self._queue(name, now)

    def _queue(self, name: str, now: float) -> None:
        outcome, limit = self._outcomes[name]
        wrote_at, generation = self._written_at.get(name, (-AGAIN_SECONDS, limit.generation))
        at = now
        if not (outcome.programmed_everywhere or generation != limit.generation):
            at = max(at, wrote_at + AGAIN_SECONDS)
        if limit_status.differs_in_verified_nodes_only(outcome, limit):
            at = max(at, wrote_at + VERIFIED_SECONDS)
        if limit_status.pending(outcome):
            at = max(at, now + min(PENDING_SECONDS + len(self) * PENDING_EACH_SECONDS, PENDING_MAX_SECONDS))
        failed = self._failures.get(name)
        if failed is not None:
            # An edit may have mended what was refused; it is tried after the first pause.
            at = max(at, failed.until if failed.generation == limit.generation else now + FAILED_SECONDS[0])
        elif name in self._due_at:
            at = min(at, self._due_at[name])
        if self._due_at.get(name) != at:
            self._due_at[name] = at
            self._count += 1
            heapq.heappush(self._heap, (at, self._count, name))


def _doubled(bounds: tuple[float, float], times: int) -> float:
    return min(bounds[0] * 2.0 ** min(times, 30), bounds[1])
