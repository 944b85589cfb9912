"""Statuses of limits that wait to be written: each at most once, with what is true when its turn comes.

A status is written when it differs from the one in the cluster. One that only says "not yet" waits a little, because
the answer of the nodes is on its way; after a write the next one for the same limit waits too, unless it is good news
or the limit itself changed. Owns the queue; the verdicts come from outside.
"""

from __future__ import annotations

import collections
import concurrent.futures
import heapq
from collections.abc import Iterable
from typing import Any

from bandwidth_kube import client
from bandwidth_operator import known, occurrences, verdicts
from bandwidth_operator.fence import LeadershipLostError
from bandwidth_operator.known import Kind
from bandwidth_operator.memory import Memory
from bandwidth_operator.metrics import Metrics
from bandwidth_operator.rollup import Verdict
from bandwidth_operator.watch import PATHS
from bandwidth_operator.writer import Writer

PENDING_SECONDS = 1.0
PENDING_EACH_SECONDS = 0.01  # and so much longer for each status that waits already: of 10,000 limits applied in one
PENDING_MAX_SECONDS = 10.0  # go, none should be written twice because the nodes are busy with the others
AGAIN_SECONDS = 2.0
AT_ONCE = 8  # statuses written side by side: the API server's answers are waited for, not its work
UNTOLD_MAX = 500  # events that wait; of 10,000 limits applied in one go not every one is told


class Statuses:
    """The verdicts of one term and the queue of those that may differ from what is written."""

    def __init__(self, api: client.Client, writer: Writer, memory: Memory, metrics: Metrics) -> None:
        self._api = api
        self._writer = writer
        self._memory = memory
        self._metrics = metrics
        self._judged: dict[str, tuple[Verdict, known.Limit]] = {}
        self._reasons: dict[str, str] = {}
        self._due: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._later: list[tuple[float, str]] = []
        self._held: set[str] = set()
        self._written_at: dict[str, tuple[float, int]] = {}  # when, and at which generation
        self._untold: collections.deque[tuple[known.Limit, occurrences.Occurrence]] = collections.deque()
        self._pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE, thread_name_prefix="status")

    def judge(self, verdict: Verdict, limit: known.Limit, now: float) -> None:
        """What became of a limit, as known now."""
        before = self._judged.get(limit.name)
        if before is not None and before[0] == verdict and before[1] is limit:
            return
        if before is None or before[0] != verdict:
            self._reasons[limit.name] = verdicts.ready_reason(verdict)
        self._judged[limit.name] = (verdict, limit)
        self._queue(limit.name, now)

    def forget_all_but(self, limits: Iterable[str]) -> None:
        """Limits that are gone need no status."""
        for name in self._judged.keys() - set(limits):
            del self._judged[name], self._reasons[name]
            self._due.pop(name, None)
            self._written_at.pop(name, None)

    def reasons(self) -> collections.Counter[str]:
        """How many limits there are by the reason of their condition Ready."""
        return collections.Counter(self._reasons.values())

    def __len__(self) -> int:
        return len(self._due) + len(self._held)

    def next_at(self) -> float | None:
        """When the next status may be written; None if none waits."""
        if self._due or self._untold:
            return 0.0
        return self._later[0][0] if self._later else None

    def write_some(self, now: float) -> None:
        """Write the next few statuses that are due and differ; when none is due, an event. Raises as `Writer`."""
        while self._later and self._later[0][0] <= now:
            name = heapq.heappop(self._later)[1]
            if name in self._held:
                self._held.remove(name)
                self._due[name] = None
        batch: list[tuple[known.Limit, dict[str, Any]]] = []
        while self._due and len(batch) < AT_ONCE:
            name, _ = self._due.popitem(last=False)
            limit = self._memory.limit(name)
            if limit is not None and name in self._judged:
                status = verdicts.status(self._judged[name][0], limit, now)
                if status != limit.status:
                    batch.append((limit, status))
        if not batch:
            self._tell(now)
            return
        failures = [f for f in self._pool.map(lambda each: self._write(*each), batch) if f is not None]
        for limit, status in batch:
            self._after_write(limit, status, now)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Wait for writes under way."""
        self._pool.shutdown()

    def _queue(self, name: str, now: float) -> None:
        if name in self._due:
            return
        verdict, limit = self._judged[name]
        wrote_at, generation = self._written_at.get(name, (-AGAIN_SECONDS, limit.generation))
        good_news = verdict.programmed_everywhere or generation != limit.generation
        not_before = now
        if not good_news:
            not_before = max(not_before, wrote_at + AGAIN_SECONDS)
        if verdicts.pending(verdict):
            wait = min(PENDING_SECONDS + len(self) * PENDING_EACH_SECONDS, PENDING_MAX_SECONDS)
            not_before = max(not_before, now + wait)
        if not_before <= now:
            self._held.discard(name)
            self._due[name] = None
        elif name not in self._held:
            self._held.add(name)
            heapq.heappush(self._later, (not_before, name))

    def _write(self, limit: known.Limit, status: dict[str, Any]) -> Exception | None:
        """One write, in a thread of the pool; what went wrong is a value, so that each of a batch is looked at."""
        removed = {key: None for key in limit.status if key not in status}
        patch = {"metadata": {"uid": limit.uid, "resourceVersion": str(limit.version)}, "status": status | removed}
        path = f"{PATHS[Kind.LIMIT]}/{limit.name}"
        self._memory.expect(limit.name, status)
        try:
            try:
                answer = self._writer.write("status", "PATCH", f"{path}/status", patch, client.MERGE_PATCH)
                self._memory.note(Kind.LIMIT, answer, own=True)
            except client.RefusedError as refused:
                if refused.status == 404:
                    return None
                if refused.status != 409:
                    raise
                # Somebody changed the limit since we knew it; what they changed is news.
                self._memory.note(Kind.LIMIT, self._api.request("GET", path))
        except client.RefusedError as refused:
            return None if refused.status == 404 else refused
        except (client.ApiError, LeadershipLostError) as error:
            return error
        return None

    def _after_write(self, limit: known.Limit, status: dict[str, Any], now: float) -> None:
        after = self._memory.limit(limit.name)
        if after is None:
            return
        if after.status != status:
            self._due[limit.name] = None  # it was not written
            return
        verdict, judged = self._judged[limit.name]
        if judged is limit:
            self._judged[limit.name] = (verdict, after)
        self._written_at[limit.name] = (now, limit.generation)
        for occurrence in occurrences.between(limit.status.get("conditions") or (), status["conditions"]):
            if len(self._untold) == UNTOLD_MAX:
                self._metrics.events_dropped.inc()
            else:
                self._untold.append((limit, occurrence))

    def _tell(self, now: float) -> None:
        """Post the oldest event that waits, if there is room."""
        if self._untold and occurrences.post(self._writer, *self._untold[0], now):
            self._untold.popleft()
