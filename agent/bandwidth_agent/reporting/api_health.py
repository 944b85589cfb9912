"""How well an agent's requests to the API server work: counts and times for /metrics, and log lines for failures.

Owns what the reader and reporter threads record here, and which failures are logged: the first of a row, and its end.
Sends no request itself.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from bandwidth_agent.reporting import health
from bandwidth_kube import client

log = structlog.get_logger("cluster")


@dataclasses.dataclass(frozen=True, slots=True)
class ApiStatus:
    """A consistent copy of the counts and times. Times are monotonic seconds."""

    heard_at: Mapping[str, float]  # by collection: when the API server last sent anything of it
    lists: Mapping[str, int]  # by collection
    troubles: Mapping[tuple[str, str], int]  # by collection and HTTP status, or "unreachable"
    reported_at: float | None  # when the node's state was last written, or found to be up to date
    reports: int
    report_failures: Mapping[str, int]  # by HTTP status, or "unreachable"


class ApiHealth:
    """Written by the reader and reporter threads, read by /metrics; calls `crashed` when one of them has ended."""

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
        self._troubled: dict[str, str] = {}  # collection → the failure that was logged
        self._reported_at: float | None = None
        self._reports = 0
        self._report_failures: Counter[str] = Counter()

    def status(self) -> ApiStatus:
        """Return a copy of the current counts and times."""
        with self._lock:
            return ApiStatus(
                dict(self._heard_at),
                dict(self._lists),
                dict(self._troubles),
                self._reported_at,
                self._reports,
                dict(self._report_failures),
            )

    def alive(self, name: str) -> None:
        """Record that this thread is alive."""
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
            self._heard_at.setdefault(name, self._clock())  # if never heard of, it counts as silent from now on
            self._troubles[name, word] += 1
            logged = self._troubled.get(name)
            self._troubled[name] = word
        if logged != word:
            log.warning("reading broke off and is begun again", collection=name, error=str(error))

    def reported(self) -> None:
        """Record that the state in the cluster is up to date, written now or found so."""
        with self._lock:
            self._reported_at = self._clock()
            self._reports += 1

    def report_failed(self, error: client.ApiError) -> None:
        """Record that the state could not be written; it is tried again."""
        with self._lock:
            self._report_failures[_word(error)] += 1

    def crashed(self, name: str, error: BaseException) -> None:
        log.error("a thread ended; so does the agent", thread=name, error=repr(error))
        self._crashed(name, error)


def _word(error: client.ApiError) -> str:
    return str(error.status) if isinstance(error, client.RefusedError) else "unreachable"
