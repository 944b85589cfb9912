"""Writes log lines to a descriptor from a thread of its own, so that no caller ever waits for the log.

    write ──▶ queue, QUEUE_BYTES at most ──▶ thread ──▶ descriptor: a file, a terminal, a pipe

Where the disk is full, the reader is gone or stuck, or the terminal was closed, lines are dropped and counted; when
writing works again, one line reports how many were lost and why. Owns the thread; never raises, never ends anything.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable

QUEUE_BYTES = 1_048_576
LOOK_SECONDS = 1.0  # between two looks at a descriptor that takes nothing now
CLOSE_SECONDS = 1.0  # for what is left at the end of the process

_WAIT = (errno.EAGAIN, errno.EINTR)


class LogWriter:
    """The part of a text file that loggers use. `lost` makes the line about lost lines from their number and reason."""

    def __init__(self, descriptor: int, lost: Callable[[int, str], str]) -> None:
        self._descriptor = descriptor
        self._lost = lost
        self._condition = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._dropped = 0
        self._why = "the reader is too slow"
        self._closing = False
        self._idle = True
        self._thread: threading.Thread | None = None
        self._torn = False  # the last line was written in part; the thread's own

    def write(self, text: str) -> int:
        """Queue the text and return at once; it is dropped and counted if the queue is full."""
        data = text.encode("utf-8", "backslashreplace")
        with self._condition:
            if self._queued_bytes + len(data) > QUEUE_BYTES or not self._running():
                self._dropped += 1
                return len(text)
            self._queue.append(data)
            self._queued_bytes += len(data)
            self._idle = False
            self._condition.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing: loggers call this after each line, and the thread writes without it."""

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def drain(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Wait until everything is written, at most this long; return whether it is."""
        with self._condition:
            return self._condition.wait_for(lambda: self._idle, timeout=seconds)

    def close(self) -> None:
        """Write what can be written within CLOSE_SECONDS, then end the thread."""
        self.drain()
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def _running(self) -> bool:
        """Whether the thread runs; it is started by the first line."""
        if self._closing:
            return False
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread to be had now: the next line tries again
                self._why = "no thread could be started"
                return False
            self._thread = thread
        return True

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while True:
            with self._condition:
                self._idle = not self._queue
                self._condition.notify_all()
                self._condition.wait_for(
                    lambda: self._queue or self._closing, timeout=LOOK_SECONDS if self._dropped else None
                )
                if self._closing and not self._queue:
                    return
                data = self._queue.popleft() if self._queue else b""
                self._queued_bytes -= len(data)
                dropped, why = self._dropped, self._why
            if dropped and self._put(self._lost(dropped, why).encode("utf-8", "backslashreplace") + b"\n"):
                with self._condition:
                    self._dropped -= dropped
            if data and not self._put(data):
                with self._condition:
                    self._dropped += 1

    def _put(self, data: bytes) -> bool:
        """Write one line; False where it is lost, whole or in part."""
        if self._torn and not self._sent(b"\n"):
            return False
        return self._sent(data)

    def _sent(self, data: bytes) -> bool:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                if error.errno in _WAIT and not self._closing:
                    self._await()
                    continue
                self._why = (error.strerror or str(error)).lower()
                self._torn = self._torn or len(rest) < len(data)
                return False
        self._torn = not data.endswith(b"\n")
        return True

    def _await(self) -> None:
        """Wait until a descriptor that does not block takes something again."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(LOOK_SECONDS * 1000)
