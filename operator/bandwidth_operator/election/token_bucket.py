"""The token bucket that all our writes share."""

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

    def wait_seconds(self, left: float = 0.0) -> float:
        """Take a token and return 0, if the bucket holds more than the share `left`, which is kept for other writes.

        Otherwise return the seconds until it does.
        """
        with self._lock:
            self._fill()
            needed = min(1 + left * self._burst, self._burst)
            if self._tokens >= needed:
                self._tokens -= 1
                return 0.0
            return (needed - self._tokens) / self._rate

    def has_spare(self, share: float) -> bool:
        """Return whether the bucket is fuller than this share: for writes that are not necessary."""
        with self._lock:
            self._fill()
            return self._tokens > max(1.0, share * self._burst)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
