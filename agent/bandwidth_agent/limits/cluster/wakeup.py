"""How other threads wake the loop, and how an error that ends one of them ends the process.

Owns one eventfd. Any thread may wake and record; the loop's thread drains.
"""

from __future__ import annotations

import os
import threading


class CrashError(RuntimeError):
    """A thread ended by an error of this program; so must the process."""


class Wakeup:
    """A descriptor that wakes the loop, and the error that ended a thread, if one did."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._first: tuple[str, BaseException] | None = None

    def crashed(self, thread: str, error: BaseException) -> None:
        """Record that a thread has ended by an error, and wake the loop, which raises it."""
        with self._lock:
            self._first = self._first or (thread, error)
        self.wake()

    def wake(self) -> None:
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        return self._event

    def drain(self) -> bool:
        """Return whether it was woken since the last call. Raises CrashError if a thread has ended."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return False
        with self._lock:
            first = self._first
        if first is not None:
            raise CrashError(f"the thread {first[0]!r} ended: {first[1]!r}") from first[1]
        return True
