"""What an agent in a cluster knows about its way to the API server: for /metrics, the log, and the way out after a bug.

Owns the counts and times that its threads leave here, and what of their troubles is worth a log line: the first of a
row, and its end.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from bandwidth_agent import health
from bandwidth_kube import client

log = structlog.get_logger("cluster")


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """A consistent copy. Times are monotonic seconds."""

    heard_at: Mapping[str, float]  # by collection: when the API server last brought anything of it
    lists: Mapping[str, int]  # by collection
    troubles: Mapping[tuple[str, str], int]  # by collection and what it was: a status, or "unreachable"
    reported_at: float | None  # when the node's state last was as it should be in the cluster
    reports: int
    report_failures: Mapping[str, int]  # by what it was


class ClusterHealth:
    """Written by the readers and the reporter, read by others. `crashed` tells the loop of a thread that ended."""

    def __init__(
        self,
        vitals: health.Health,
        crashed: Callable[[str, BaseException], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vitals = vitals
        self._crashed = crashed
        self._clock = clock
        self._lock = threading.Lock()
        self._heard_at: dict[str, float] = {}
        self._lists: Counter[str] = Counter()
        self._troubles: Counter[tuple[str, str]] = Counter()
        self._troubled: dict[str, str] = {}  # collection → what was said about it
        self._reported_at: float | None = None
        self._reports = 0
        self._report_failures: Counter[str] = Counter()

    def way(self) -> Way:
        """What is known now."""
        with self._lock:
            return Way(
                dict(self._heard_at),
                dict(self._lists),
                dict(self._troubles),
                self._reported_at,
                self._reports,
                dict(self._report_failures),
            )

    def alive(self, name: str) -> None:
        self._vitals.alive(name, self._clock())

    def heard(self, name: str) -> None:
        with self._lock:
            self._heard_at[name] = self._clock()
            was = self._troubled.pop(name, None)
        if was is not None:
            log.info("reading goes on", collection=name)

    def listed(self, name: str) -> None:
        with self._lock:
            self._lists[name] += 1

    def trouble(self, name: str, error: client.ApiError) -> None:
        word = _word(error)
        with self._lock:
            self._heard_at.setdefault(name, self._clock())  # silent from now on, if it was never heard
            self._troubles[name, word] += 1
            said = self._troubled.get(name)
            self._troubled[name] = word
        if said != word:
            log.warning("reading broke off and is begun again", collection=name, error=str(error))

    def reported(self) -> None:
        with self._lock:
            self._reported_at = self._clock()
            self._reports += 1

    def report_failed(self, error: client.ApiError) -> None:
        with self._lock:
            self._report_failures[_word(error)] += 1

    def crashed(self, name: str, error: BaseException) -> None:
        log.error("a thread ended; so does the agent", thread=name, error=repr(error))
        self._crashed(name, error)


def _word(error: client.ApiError) -> str:
    return str(error.status) if isinstance(error, client.RefusedError) else "unreachable"
