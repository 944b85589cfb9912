"""Whether this replica is alive and does its work, as the kubelet asks. Shared by threads.

healthy   the threads turn; one that is stuck should be restarted
ready     the API server answers, and if this replica leads: everything is listed and no watch is silent
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

STUCK_SECONDS = 60.0
WATCH_SILENT_SECONDS = 45.0  # a watch ends properly after 20 s, if not before
LEASE_SILENT_SECONDS = 30.0


class Answer(NamedTuple):
    good: bool
    message: str


class Health:
    """The signs of life of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        now = clock()
        self._turned_at = {"lease": now}
        self._heard_at: float | None = None
        self._leading = False
        self._listed = False
        self._silence: Callable[[], dict[str, float]] = dict

    def turned(self, thread: str) -> None:
        """A thread is alive."""
        with self._lock:
            self._turned_at[thread] = self._clock()

    def heard(self) -> None:
        """The API server answered about the lease."""
        with self._lock:
            self._heard_at = self._clock()

    def acting(self, silence: Callable[[], dict[str, float]]) -> None:
        """A term began; `silence` tells for how many seconds each watch has been silent."""
        with self._lock:
            self._leading, self._listed, self._silence = True, False, silence
            self._turned_at["term"] = self._clock()

    def listed(self) -> None:
        """Everything was listed once in this term."""
        with self._lock:
            self._listed = True

    def standing_by(self) -> None:
        """The term ended."""
        with self._lock:
            self._leading, self._silence = False, dict
            self._turned_at.pop("term", None)

    def healthy(self) -> Answer:
        """Whether every thread turns."""
        now = self._clock()
        with self._lock:
            stuck = {name: now - at for name, at in self._turned_at.items() if now - at > STUCK_SECONDS}
        if stuck:
            return Answer(False, "; ".join(f"{name} has not turned for {s:.0f} s" for name, s in stuck.items()))
        return Answer(True, "ok")

    def ready(self) -> Answer:
        """Whether this replica does its work, or would if it led."""
        alive = self.healthy()
        if not alive.good:
            return alive
        now = self._clock()
        with self._lock:
            heard_at, leading, listed, silence = self._heard_at, self._leading, self._listed, self._silence
        if heard_at is None or now - heard_at > LEASE_SILENT_SECONDS:
            return Answer(False, "the API server does not answer")
        if not leading:
            return Answer(True, "standing by")
        if not listed:
            return Answer(False, "not everything is listed yet")
        silent = [
            f"the watch of {k}s is silent for {s:.0f} s" for k, s in silence().items() if s > WATCH_SILENT_SECONDS
        ]
        return Answer(not silent, "; ".join(silent) or "acting")
