"""Detects watches that do not bring changes which are known by other means. Does no I/O.

    our own write was answered           ─▶ expected ─▶ the watch brings it: done
    a whole list found what the watch    ─▶ expected ─▶ the watch brings neither it nor anything else of this kind for
    should have brought already                         a while: it is silent

Needs no bookmarks, which only some servers send. In a quiet cluster nothing is expected. Changes before a watch began
are not expected of it; but a watch that was restarted because it was silent stays suspected until it brings an event
or its stream ends normally, and until then its silence counts from before the restart.
May be used by several threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bandwidth_api.kinds import Kind
from bandwidth_operator.reporting.health import SILENT_SECONDS

OWED_MAX = 1_000  # objects remembered by kind; one that does not come is enough to know


class WatchHealth:
    """The changes that are expected of each watch. Moments are numbers from `Cache.mark`, in the order of time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._owed: dict[Kind, dict[str, int]] = {kind: {} for kind in Kind}  # versions by name
        self._since: dict[Kind, float] = {}  # of the first debt since something was heard
        self._doubted: set[Kind] = set()
        self._began_mark: dict[Kind, int] = {}
        self._waiting: set[Kind] = set()  # for a watch to begin at all

    def start(self) -> None:
        """Start: from now on each kind's watch is expected to begin."""
        with self._lock:
            self._clear()
            for kind in Kind:
                self._waiting.add(kind)
                self._since[kind] = self._clock()

    def stop(self) -> None:
        """Stop: nothing is expected any more."""
        with self._lock:
            self._clear()

    def began(self, kind: Kind, mark: int) -> None:
        """Record that a kind's watch begins now; only what is requested after `mark` can be expected of it."""
        with self._lock:
            if kind in self._waiting:
                self._waiting.remove(kind)
                del self._since[kind]
            elif self._silence(kind) > SILENT_SECONDS:
                self._doubted.add(kind)
            else:
                self._since.pop(kind, None)
            self._owed[kind].clear()
            self._began_mark[kind] = mark

    def ended(self, kind: Kind) -> None:
        """Record that a stream of a kind's watch ended normally."""
        with self._lock:
            self._doubted.discard(kind)

    def owe(self, kind: Kind, name: str, version: int, since: int) -> None:
        """Expect this version of an object, which the answer to a request of `since` has shown, from the watch."""
        with self._lock:
            owed = self._owed[kind]
            if since > self._began_mark.get(kind, since) and (name in owed or len(owed) < OWED_MAX):
                owed[name] = version
                self._since.setdefault(kind, self._clock())

    def heard(self, kind: Kind, name: str, version: int) -> None:
        """Record that the watch brought a version of an object."""
        with self._lock:
            owed = self._owed[kind]
            if version >= owed.get(name, version + 1):
                del owed[name]
            self._doubted.discard(kind)
            if kind not in self._waiting:
                self._since.pop(kind, None)
                if owed:
                    self._since[kind] = self._clock()

    def silence_seconds(self) -> dict[Kind, float]:
        """Return for how long each watch has brought nothing of what is expected; 0 if nothing is."""
        with self._lock:
            return {kind: self._silence(kind) for kind in Kind}

    def silent(self) -> dict[Kind, float]:
        """Return the watches that count as silent, and for how many seconds they have been."""
        return {kind: seconds for kind, seconds in self.silence_seconds().items() if seconds > SILENT_SECONDS}

    def _silence(self, kind: Kind) -> float:
        if self._owed[kind] or kind in self._doubted or kind in self._waiting:
            return max(0.0, self._clock() - self._since.get(kind, self._clock()))
        return 0.0

    def _clear(self) -> None:
        for owed in self._owed.values():
            owed.clear()
        for each in (self._since, self._doubted, self._began_mark, self._waiting):
            each.clear()
