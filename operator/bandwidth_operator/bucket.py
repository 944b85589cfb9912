"""The token bucket that all our writes share, whatever they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class TokenBucket:
    """`rate` writes per second on average, `burst` at once. May be used by several threads."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._at = clock()
        self._lock = threading.Lock()

    def wait_seconds(self) -> float:
        """Take a token if there is one and return 0, else how long until there is one."""
        with self._lock:
            self._fill()
            if self._tokens >= 1:
                self._tokens -= 1
                return 0.0
            return (1 - self._tokens) / self._rate

    def spare(self, share: float) -> bool:
        """Take a token if more than this share of the bucket is full: for writes that may as well not happen."""
        with self._lock:
            self._fill()
            if self._tokens <= max(1.0, share * self._burst):
                return False
            self._tokens -= 1
            return True

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
