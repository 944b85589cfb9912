"""The health of a running agent, shared between its threads.

Owns the counts and times that the loop and the other threads record here, and the results of the probes `healthy` and
`ready`. Reads no kernel and no clock. All times are monotonic seconds.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_agent import report

THREAD_STUCK_AFTER_SECONDS = 240.0  # more than the longest watch and the longest request together
STUCK_AFTER_SECONDS = 60.0  # a loop that did not turn for this long is stuck; 10,000 limits cold take a few seconds

# Upper bounds of the apply histogram's buckets, seconds.
DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ProbeResult(NamedTuple):
    good: bool
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Vitals:
    """A consistent copy of what the loop has recorded."""

    turned_at: float
    report: report.Report | None  # of the last pass
    complete: bool  # a pass was made with every limit read
    passes: int
    failed_passes: int  # passes after which something was not in force because the kernel refused
    changes: int  # in all passes together
    repairs: Mapping[str, int]  # by layer
    plan_at: float | None  # when the limits last changed
    durations: tuple[int, ...]  # passes per bucket of DURATION_BUCKETS, and one more for the longer ones
    duration_sum_seconds: float


class Health:
    """Written by the loop and the other threads, read by the probes, /metrics and the watchdog."""

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()
        self._threads: dict[str, float] = {}  # when each thread beside the loop was last heard of
        self._vitals = Vitals(
            turned_at=now,
            report=None,
            complete=False,
            passes=0,
            failed_passes=0,
            changes=0,
            repairs={},
            plan_at=None,
            durations=(0,) * (len(DURATION_BUCKETS) + 1),
            duration_sum_seconds=0.0,
        )

    def turned(self, now: float) -> None:
        """Record a turn of the loop; call it at least every few seconds."""
        with self._lock:
            self._vitals = dataclasses.replace(self._vitals, turned_at=now)

    def plan_changed(self, now: float) -> None:
        """Record that the set of limits has changed."""
        with self._lock:
            self._vitals = dataclasses.replace(self._vitals, plan_at=now)

    def passed(
        self, made: report.Report, now: float, *, complete: bool, repairs: Mapping[str, int], kernel_failed: bool
    ) -> None:
        """Record a pass. `repairs` counts by layer, since the start, the objects that other programs had changed."""
        with self._lock:
            last = self._vitals
            bucket = sum(1 for bound in DURATION_BUCKETS if made.duration_seconds > bound)
            self._vitals = dataclasses.replace(
                last,
                turned_at=now,
                report=made,
                complete=last.complete or complete,
                passes=last.passes + 1,
                failed_passes=last.failed_passes + int(kernel_failed),
                changes=last.changes + made.changes,
                repairs=dict(repairs),
                durations=tuple(n + (i == bucket) for i, n in enumerate(last.durations)),
                duration_sum_seconds=last.duration_sum_seconds + made.duration_seconds,
            )

    def vitals(self) -> Vitals:
        """Return a copy of what the loop has recorded."""
        with self._lock:
            return self._vitals

    def alive(self, thread: str, now: float) -> None:
        """Record a sign of life of a thread beside the loop; after its first one it is due every few minutes."""
        with self._lock:
            self._threads[thread] = now

    def healthy(self, now: float) -> ProbeResult:
        """Return whether the loop and all other threads are alive; if not, the agent should be restarted."""
        silent = now - self.vitals().turned_at
        if silent > STUCK_AFTER_SECONDS:
            return ProbeResult(False, f"the loop has not turned for {silent:.0f} s")
        with self._lock:
            threads = dict(self._threads)
        for name, alive_at in sorted(threads.items()):
            if now - alive_at > THREAD_STUCK_AFTER_SECONDS:
                return ProbeResult(False, f"the thread {name!r} has been stuck for {now - alive_at:.0f} s")
        return ProbeResult(True, "ok")

    def ready(self) -> ProbeResult:
        """Return whether the first pass with all limits is done, whether or not each limit could be put in force."""
        if not self.vitals().complete:
            return ProbeResult(False, "the first complete pass is not done yet")
        return ProbeResult(True, "ok")
