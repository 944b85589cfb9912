"""What many simulated nodes see of traffic that nobody sends: samples of clients at known rates.

    truth: bit/s by client and node ──▶ Fleet of sights ──▶ each node's real TrafficReporter

One thread hands out the stretches of all nodes, each second. Samples have the error of real ones: their number is
drawn by Poisson's law. Looks at no packet and opens no socket.
"""

from __future__ import annotations

import collections
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from bandwidth_agent.kernel import contract, traffic

PERIOD_BYTES = 32768  # 1,350 samples a second of 355 Mbit/s; a real sampler takes about 2,000
STEP_SECONDS = 1.0


class Lease:
    """A lease of one node's sight, as `bandwidth_agent.sight.sight.Grant`."""

    def __init__(self, receive: Callable[[contract.Stretches], None], ends: float) -> None:
        self.receive, self.ends, self.closed = receive, ends, False
        self.failure: BaseException | None = None

    @property
    def holds(self) -> bool:
        return not self.closed and time.monotonic() < self.ends

    def renew(self, seconds: float) -> bool:
        if self.holds:
            self.ends = time.monotonic() + seconds
        return self.holds

    def close(self) -> None:
        self.closed = True


class SimulatedSight:
    """One node, whose clients get these rates in bit/s; by 4 or 16 bytes of address."""

    def __init__(self, rates: Mapping[bytes, float], luck: random.Random) -> None:
        self.rates = rates
        self.leases: list[Lease] = []
        self._luck = luck

    def lease(self, seconds: float, receive: Callable[[contract.Stretches], None]) -> Lease:
        made = Lease(receive, time.monotonic() + seconds)
        self.leases.append(made)
        return made

    @property
    def open(self) -> bool:
        """Whether anybody looks here."""
        return any(lease.holds for lease in self.leases)

    def step(self, began: float, ended: float) -> None:
        """Hand out what was sampled in this time."""
        holding = [lease for lease in self.leases if lease.holds]
        if not holding:
            return
        seen = {}
        for key, rate in self.rates.items():
            count = _poisson(self._luck, rate * (ended - began) / 8 / PERIOD_BYTES)
            if count:
                seen[key] = traffic.Estimate(float(count * PERIOD_BYTES), count, float(count * PERIOD_BYTES**2))
        ports = {key: {(traffic.TCP, 443): estimate.bytes} for key, estimate in seen.items()}
        sent = round(sum(self.rates.values()) * (ended - began) / 8)
        for lease in holding:
            lease.receive({"eth0": traffic.Stretch(began, ended, seen, ports, sent, 0, PERIOD_BYTES)})


def by_zipf(nodes: int, clients: int, largest: float, luck: random.Random) -> list[SimulatedSight]:
    """Return the sights of some nodes: the n-th client gets `largest` ÷ n bit/s, half of it from each of two nodes."""
    rates: list[dict[bytes, float]] = [{} for _ in range(nodes)]
    for number in range(clients):
        for node in luck.sample(range(nodes), 2):
            rates[node][bytes([10, 1, number >> 8, number & 255])] = largest / 2 / (number + 1)
    return [SimulatedSight(each, random.Random(number)) for number, each in enumerate(rates)]


def largest(sights: Sequence[SimulatedSight], count: int) -> dict[str, float]:
    """Return the clients that get most of all nodes together, as text, and their rates in bit/s."""
    sums: collections.Counter[str] = collections.Counter()
    for sight in sights:
        for key, rate in sight.rates.items():
            sums[".".join(map(str, key))] += rate  # type: ignore[assignment]
    return dict(sums.most_common(count))


class Ticker:
    """Moves all sights on, in a thread of its own."""

    def __init__(self, sights: list[SimulatedSight]) -> None:
        self._sights = sights
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stopping.wait(STEP_SECONDS):
            now = time.monotonic()
            for sight in self._sights:
                sight.step(before, now)
            before = now

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()


def _poisson(luck: random.Random, mean: float) -> int:
    """A number drawn by Poisson's law; by the normal one where the mean is large."""
    if mean > 50:
        return max(0, round(luck.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, luck.random()
    while product > limit:
        count, product = count + 1, product * luck.random()
    return count
