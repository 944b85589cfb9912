"""The health of this replica, for the probes of the kubelet. Shared by threads.

healthy   the threads turn; one that is stuck should be restarted
ready     the API server answers, and if this replica leads: everything is listed, and the watches bring what is known
          to have happened
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

STUCK_SECONDS = 60.0
SILENT_SECONDS = 20.0  # a watch that owes something and brings nothing for so long is silent
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
        self._aside, self._aside_until = "", now
        self._silence: Callable[[], dict[str, float]] = dict

    def turned(self, thread: str) -> None:
        """Record a sign of life of a thread."""
        with self._lock:
            self._turned_at[thread] = self._clock()

    def ended(self, thread: str) -> None:
        """Record that a thread has ended normally."""
        with self._lock:
            self._turned_at.pop(thread, None)

    def heard(self) -> None:
        """Record that the API server answered a request about the lease."""
        with self._lock:
            self._heard_at = self._clock()

    def acting(self, silence: Callable[[], dict[str, float]]) -> None:
        """Record the start of a term; `silence` returns the seconds for which each watch has been silent."""
        with self._lock:
            self._leading, self._listed, self._silence, self._aside = True, False, silence, ""
            self._turned_at["term"] = self._clock()

    def listed(self) -> None:
        """Record that everything was listed once in this term."""
        with self._lock:
            self._listed = True

    def standing_by(self, aside: str = "", seconds: float = 0.0) -> None:
        """Record the end of the term. `aside`: why another replica should lead for a while, if it should."""
        with self._lock:
            self._aside, self._aside_until = aside, self._clock() + seconds
            self._leading, self._silence = False, dict
            self._turned_at.pop("term", None)

    def healthy(self) -> Answer:
        """Return whether every thread is alive."""
        now = self._clock()
        with self._lock:
            stuck = {name: now - at for name, at in self._turned_at.items() if now - at > STUCK_SECONDS}
        if stuck:
            return Answer(False, "; ".join(f"{name} has not turned for {s:.0f} s" for name, s in stuck.items()))
        return Answer(True, "ok")

    def ready(self) -> Answer:
        """Return whether this replica does its work, or would if it led."""
        alive = self.healthy()
        if not alive.good:
            return alive
        now = self._clock()
        with self._lock:
            heard_at, leading, listed, silence = self._heard_at, self._leading, self._listed, self._silence
            aside = self._aside if now < self._aside_until else ""
        if heard_at is None or now - heard_at > LEASE_SILENT_SECONDS:
            return Answer(False, "the API server does not answer")
        if not leading:
            return Answer(not aside, aside or "standing by")
        if not listed:
            return Answer(False, "not everything is listed yet")
        silent = [
            f"the watch of {k}s has brought nothing for {s:.0f} s of what is known to have happened; they are listed"
            for k, s in silence().items()
            if s > SILENT_SECONDS
        ]
        return Answer(not silent, "; ".join(silent) or "acting")
