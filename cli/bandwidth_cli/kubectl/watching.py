"""Reads the events of a watch, which a kubectl prints one a line, without waiting longer than it is told to."""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from bandwidth_cli.kubectl import failures, process
from bandwidth_cli.kubectl.failures import Kind, KubectlError

EVENT_MAX_BYTES = 4 * 1024 * 1024


class Event(NamedTuple):
    type: str  # ADDED, MODIFIED, DELETED, BOOKMARK or ERROR
    object: dict[str, Any]


@dataclasses.dataclass(slots=True)
class Patience:
    """Until when something is waited for, by the monotonic clock; may change meanwhile."""

    ends: float


class Watch:
    """The events of one watch. `close` ends it, whatever happened before."""

    def __init__(self, kubectl: subprocess.Popen[bytes]) -> None:
        self._process = kubectl
        self._stdout = process.piped(kubectl.stdout).fileno()
        os.set_blocking(self._stdout, False)
        self._read = b""
        self._listener = process.Listener(verbose=False, tell=lambda _text: None)
        self._hearing = threading.Thread(target=self._listener.hear, args=(kubectl.stderr,), daemon=True)
        self._hearing.start()

    def fileno(self) -> int:
        """Return what becomes readable when there may be an event."""
        return self._stdout

    def poll(self) -> list[Event] | None:
        """Return the events that are there; None at the end. Raises KubectlError when it ended by one."""
        while True:
            try:
                chunk = os.read(self._stdout, 65536)
            except BlockingIOError:
                return self._events()
            if not chunk:
                events = self._events()
                if events:
                    return events
                self._hearing.join(process.END_SECONDS)
                if self._process.wait(process.END_SECONDS) and self._listener.failure:
                    raise failures.read(self._listener.failure)
                return None
            self._read += chunk
            if len(self._read) > EVENT_MAX_BYTES:
                raise KubectlError(Kind.OTHER, f"an event of the watch has more than {EVENT_MAX_BYTES >> 20} MiB")

    def until(self, patience: Patience) -> Iterator[Event]:
        """Yield events until the watch ends or patience does. Raises KubectlError."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            while (left := patience.ends - time.monotonic()) > 0:
                if not selector.select(left):
                    return
                events = self.poll()
                if events is None:
                    return
                yield from events

    def close(self) -> None:
        """End the kubectl."""
        process.end(self._process)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _events(self) -> list[Event]:
        *lines, self._read = self._read.split(b"\n")
        return [_event(line) for line in lines if line.strip()]


def _event(line: bytes) -> Event:
    try:
        read = json.loads(line)
        kind, item = str(read["type"]), read["object"]
    except (ValueError, TypeError, KeyError):
        raise KubectlError(Kind.OTHER, f"the watch printed no event: {line[:100].decode(errors='replace')!r}") from None
    if not isinstance(item, dict):
        raise KubectlError(Kind.OTHER, "an event of the watch has no object")
    if kind == "ERROR":
        reason = str(item.get("reason") or "")
        known = {k.value: k for k in Kind}
        raise KubectlError(known.get(reason, Kind.OTHER), str(item.get("message") or reason or "the watch failed"))
    return Event(kind, item)
