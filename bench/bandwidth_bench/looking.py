"""Somebody looks: the agent's sight of one interface, with the tables of a screen behind it, and what that costs.

Everything that the agent does for one who asks happens in one thread, whose CPU time is read in that thread.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from bandwidth_agent.kernel import contract, traffic
from bandwidth_agent.kernel.linux.packet import sampler
from bandwidth_agent.sight import estimates, sight
from bandwidth_bench import stage
from bandwidth_lab import Namespace
from bandwidth_sight import history

LEASE_SECONDS = 60.0
INTERFACE = "eth0"


@dataclasses.dataclass(frozen=True)
class Second:
    """One stretch, when it came, and what the thread had used of the CPU by then."""

    stretch: traffic.Stretch
    cpu_seconds: float
    beside: tuple[float, ...]  # what was read at the same moment


class Looking:
    """A lease from beginning to end; the seconds that came are in `seconds`."""

    def __init__(
        self, at: Namespace, beside: Callable[[], tuple[float, ...]] = tuple, *, sparing: bool = False
    ) -> None:
        """`sparing`: as a policy looks."""
        self._at, self._beside, self._sparing = at, beside, sparing
        self.seconds: list[Second] = []
        self.history = history.History(time.monotonic())

    def __enter__(self) -> Self:
        self._sight = sight.Sight(self._open, lambda: (INTERFACE,))
        self._grant = self._sight.lease(LEASE_SECONDS, self._receive, sparing=self._sparing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._grant.close()
        if self._grant.failure is not None:
            raise self._grant.failure

    def _open(self, names: Collection[str]) -> contract.Sampler:
        return self._at.call(lambda: sampler.Sampler(names))

    def _receive(self, stretches: contract.Stretches) -> None:
        beside = self._beside()
        estimates.add(self.history, stretches, time.monotonic())
        for stretch in stretches.values():
            self.seconds.append(Second(stretch, time.thread_time(), beside))

    def until(self, seconds: int) -> list[Second]:
        """Wait for so many more seconds, after one that is not looked at; return them with the one before."""
        wanted = len(self.seconds) + 1 + seconds
        deadline = time.monotonic() + LEASE_SECONDS
        while len(self.seconds) < wanted:
            self._grant.renew(LEASE_SECONDS)
            if time.monotonic() > deadline or not self._grant.holds:
                raise TimeoutError(f"{len(self.seconds)} of {wanted} stretches came") from self._grant.failure
            stage.pause(0.02)
        return self.seconds[wanted - 1 - seconds :][: seconds + 1] if seconds else []


def core_percent(seconds: list[Second]) -> float:
    """CPU of the thread from the first to the last of these, in percent of a core."""
    first, last = seconds[0], seconds[-1]
    elapsed = last.stretch.ended - first.stretch.ended
    return 100 * (last.cpu_seconds - first.cpu_seconds) / elapsed


def summed(stretches: Collection[traffic.Stretch]) -> dict[bytes, traffic.Estimate]:
    """The estimates of several stretches, which are those of the whole time."""
    found: dict[bytes, traffic.Estimate] = {}
    for stretch in stretches:
        for client, more in stretch.clients.items():
            had = found.get(client, traffic.Estimate(0.0, 0, 0.0))
            found[client] = traffic.Estimate(had[0] + more[0], had[1] + more[1], had[2] + more[2])
    return found
