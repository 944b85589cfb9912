"""What the classes of limited clients counted between two readings: bytes, and whether they held packets back."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.planner.classifier import ownership
from bandwidth_agent.sight.watch.sums import Sum
from bandwidth_api.plan import Prefix

_UNSEEN = 0.05  # of what a class counts: link headers, and that it is read a moment earlier or later


class Moved(NamedTuple):
    """Since the last reading; `ever`: whether it has counted anything since it is there."""

    bytes: int
    over_limits: int  # how often a packet had to wait, or was dropped
    ever: bool

    def plus(self, later: Moved) -> Moved:
        """Return what moved in both times."""
        return Moved(self.bytes + later.bytes, self.over_limits + later.over_limits, self.ever or later.ever)


class Classes:
    """The counters at the last reading. One thread at a time."""

    def __init__(
        self, believed: Callable[[], model.State | None], counters: Callable[[], model.Counters | None]
    ) -> None:
        """`believed`: what the last pass left in the kernel; `counters` as of the kernel, None if it cannot be read."""
        self._believed, self._counters = believed, counters
        self._state: model.State | None = None
        self._named: frozenset[Prefix] = frozenset()
        self._numbers: Mapping[Prefix, frozenset[int]] = {}
        self._before: dict[Prefix, tuple[frozenset[int], int, int]] = {}

    def read(self, named: frozenset[Prefix]) -> Mapping[Prefix, Moved]:
        """Return what moved, by client; those without a class, and at the first reading of one, are left out."""
        state = self._believed()
        if state is not None and (state is not self._state or named != self._named):
            self._state, self._named, self._numbers = state, named, _numbers(state, named)
        counters = self._counters() if named and self._numbers else None
        if counters is None:
            self._before = {}
            return {}
        found, read = {}, {}
        for client, numbers in self._numbers.items():
            held = [classes[number] for classes in counters.classes.values() for number in numbers if number in classes]
            if not held:
                continue
            sent, over = sum(c.bytes for c in held), sum(c.overlimits + c.drops for c in held)
            read[client] = numbers, sent, over
            before = self._before.get(client)
            if before is not None and before[0] == numbers and sent >= before[1] and over >= before[2]:
                found[client] = Moved(sent - before[1], over - before[2], sent > 0)
            elif sent > 0:
                found[client] = Moved(0, 0, ever=True)
        self._before = read
        return found


def known_bytes(sampled: Sum, moved: Moved | None) -> float:
    """Return the bytes of a client: those of its class, unless samples say that more went by.

    A class counts each packet, where samples of a slow client are few; and it does not see what goes past it.
    """
    if moved is None:
        return sampled.bytes
    most = moved.bytes * (1 + _UNSEEN) + 3 * math.sqrt(max(0.0, sampled.squares))
    return float(moved.bytes) if sampled.bytes <= most else sampled.bytes


def _numbers(state: model.State, named: Collection[Prefix]) -> Mapping[Prefix, frozenset[int]]:
    found: dict[Prefix, set[int]] = {}
    if named:
        for match in ownership.matches(state):
            if match.prefix in named:
                found.setdefault(match.prefix, set()).add(match.number)
    return {client: frozenset(numbers) for client, numbers in found.items()}
