"""The reports of nodes for policies: each is handed on once, with the time at which it came. Owns no request.

What the first reading brings may be old, and counts for nothing. May be used by several threads.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.policy import node_traffic
from bandwidth_api.policy.reports import Report
from bandwidth_kube.collection import Reading

WAITING_MAX = 20_000  # reports that nobody took; the oldest are dropped


class NodeReports:
    """`woken` is called when there are new ones."""

    def __init__(self, woken: Callable[[], object], monotonic: Callable[[], float]) -> None:
        self._woken = woken
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._numbers: dict[str, int] | None = None  # of the last report of each node; None: nothing was read yet
        self._waiting: collections.deque[Report] = collections.deque(maxlen=WAITING_MAX)

    def read(self, reading: Reading[Traffic | None]) -> None:
        """Take all reports; one whose number is known is not new."""
        now = self._monotonic()
        watched = {name: each.watched for name, each in reading.items.items() if each is not None and each.watched}
        with self._lock:
            before = self._numbers
            self._numbers = {name: each.number for name, each in watched.items()}
            new = [] if before is None else [name for name, each in watched.items() if before.get(name) != each.number]
            for name in new:
                self._waiting.extend(node_traffic.reports(name, watched[name], now))
        if new:
            self._woken()

    def take(self) -> list[Report]:
        """Return those that came since the last call, in their order."""
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
            return taken
