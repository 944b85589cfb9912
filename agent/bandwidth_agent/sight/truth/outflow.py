"""What came out of classes before a look began and left in it: packets that waited before an interface. Pure.

    class ──▶ root of the interface: a queue of another program, or of the kernel ──▶ seen to leave
              └── all that waited here at one reading is gone once as much was sent since

So nothing that leaves now came out of its class before the latest such reading. Owns a few readings back to that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import model

_MOST = 6  # readings


class _Reading(NamedTuple):
    uplinks: Mapping[str, model.UplinkCounters]
    bytes: Mapping[int, int]  # by class, on all devices


class Earlier(NamedTuple):
    """What may leave in a look though it came out of its class before that."""

    oldest: _Reading  # nothing that leaves came out before this one
    newest: _Reading
    waiting_bytes: int  # before the interfaces, of which it is not known when they came out

    def of(self, number: int) -> int:
        """Return how much a class has let out before the look that may leave in it."""
        return max(0, self.newest.bytes.get(number, 0) - self.oldest.bytes.get(number, 0))


class Outflow:
    """The last readings, as far back as what leaves now may have come out of its class."""

    def __init__(self) -> None:
        self._readings: list[_Reading] = []  # the oldest first

    def forget(self) -> None:
        """Forget all readings: classes were made anew."""
        self._readings = []

    def read(self, reading: model.QueueReading) -> Earlier:
        """Take the reading with which a look begins; return what may leave in that look from before."""
        sums: dict[int, int] = {}
        for classes in reading.classes.values():
            for number, counted in classes.items():
                sums[number] = sums.get(number, 0) + counted.bytes
        uplinks = {n: uplink for n, uplink in reading.uplinks.items() if n not in reading.classes}
        waiting = sum(uplink.backlog_bytes for uplink in uplinks.values())
        now = _Reading(uplinks, sums)
        gone = [n for n, then in enumerate(self._readings) if _gone(then, now)]
        if not waiting:
            self._readings = []
        elif gone:
            self._readings = self._readings[gone[-1] :]
        self._readings.append(now)
        if len(self._readings) > _MOST:
            del self._readings[_MOST // 2]
        return Earlier(self._readings[0], now, 0 if gone else waiting)


def _gone(then: _Reading, now: _Reading) -> bool:
    """Return whether all that waited then has left by now."""
    for name, uplink in then.uplinks.items():
        sent = now.uplinks[name].sent_bytes - uplink.sent_bytes if name in now.uplinks else 0
        if uplink.backlog_bytes > max(0, sent):
            return False
    return True
