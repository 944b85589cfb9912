"""Writes values to a file from a thread of its own, so that no caller ever waits for a disk.

Owns the thread and the value that waits to be written: only the newest. A failed write is a warning, and the next
value is tried again.
"""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from bandwidth_agent.limits import atomic_file

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """Writes values to a path, encoded by `encode`, which must be safe to call in another thread."""

    def __init__(
        self,
        path: pathlib.Path,
        encode: Callable[[T], bytes],
        *,
        name: str,
        delay_seconds: float = 0.0,
        spacing_seconds: float = 0.0,
        crashed: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        """`delay_seconds`: from a value to its writing; `spacing_seconds`: from one writing to the next.

        `crashed` is called with the thread's name and the error that ended it; without it the error is raised.
        """
        self._path = path
        self._encode = encode
        self._name = name
        self._delay = delay_seconds
        self._spacing = spacing_seconds
        self._crashed = crashed
        self._condition = threading.Condition()
        self._pending: T | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self.warning = ""  # why the file cannot be kept, if it cannot

    def put(self, value: T) -> None:
        """Write this value soon, in place of one that still waits."""
        with self._condition:
            self._pending = value
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # no thread to be had now: the next value, or the end, tries again
                    self.warning = f"cannot write {self._path}: {error}"
                    return
                self._thread = thread
            self._condition.notify()

    def close(self) -> None:
        """Write the waiting value now, and end the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self.join()
        self._write()

    def join(self, seconds: float | None = None) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while self._waited():
                self._write()
                if self._closed_within(self._spacing):
                    return
        except BaseException as error:
            if self._crashed is None:
                raise
            self._crashed(self._name, error)

    def _waited(self) -> bool:
        """Wait until a value is due to be written; return False when the thread should end."""
        with self._condition:
            self._condition.wait_for(lambda: self._closing or self._pending is not None)
        return not self._closed_within(self._delay)

    def _closed_within(self, seconds: float) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self._closing, timeout=seconds)

    def _write(self) -> None:
        with self._condition:
            value, self._pending = self._pending, None
        if value is None:
            return
        try:
            atomic_file.replace(self._path, self._encode(value))
        except OSError as error:
            self.warning = f"cannot write {self._path}: {error.strerror}"
        else:
            self.warning = ""
