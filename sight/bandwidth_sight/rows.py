"""What is shown of traffic: rates with their errors, one row for each client, a snapshot of them all.

Owns the values alone. They hold sums, so that those of two nodes, or of two clients, can be added (`merging`).
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from bandwidth_api import address_text
from bandwidth_api.plan import PortRange, Prefix

WINDOWS_SECONDS = (2, 10, 60)  # the times that rates are averages of, in the order of `Rates`
WINDOW_NAMES = tuple(f"{seconds}s" for seconds in WINDOWS_SECONDS)
_NOT_IP_BITS_PER_SECOND = 20_000.0  # ARP, LLDP and the like, which no sample stands for: about 40 packets a second
SHARE_WINDOW = 1  # the index of the window that shares, errors and ports are of


class Rate(NamedTuple):
    """An estimate without bias, from samples. Two of them are added field by field."""

    bits_per_second: float
    samples: int
    variance: float  # of bits_per_second

    @property
    def error(self) -> float | None:
        """The relative standard error: 0.03 is 3 %; None for a rate of nothing."""
        return math.sqrt(self.variance) / self.bits_per_second if self.bits_per_second > 0 else None


NOTHING = Rate(0.0, 0, 0.0)
Rates = tuple[Rate, Rate, Rate]
NO_RATES: Rates = (NOTHING, NOTHING, NOTHING)


class Port(NamedTuple):
    """A service port, as the client dialled it, and what the client received from it."""

    protocol: str  # "TCP" or "UDP"
    number: int
    bits_per_second: float


class MadeBy(NamedTuple):
    """The policy that made a limit."""

    policy: str
    step: int  # counted from 1
    steps: int | None  # so many it has; None: not known


class Hold(NamedTuple):
    """A limit that holds a client."""

    limit: str
    rate_bits_per_second: int | None  # None: not known
    at_limit: bool  # it is being slowed now
    observes: bool  # it only counts
    ports: tuple[PortRange, ...] | None = ()  # empty: every port, or every other one; None: some, not known which
    made_by: MadeBy | None = None  # None: a person wrote it, or it is not known


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One client, or one network of clients."""

    client: Prefix
    rates: Rates
    since_bytes: float  # since somebody began to look
    ports: tuple[Port, ...] = ()  # the largest first
    holds: tuple[Hold, ...] | None = ()  # None: not known
    label: str = ""  # what the address is, where it is no client: "node worker-1"
    nodes: tuple[str, ...] = ()  # that sent to it, in alphabetical order; empty on one host

    @property
    def samples(self) -> int:
        """The samples that the longest rate is made of."""
        return self.rates[-1].samples


class Folded(NamedTuple):
    """The clients that have no row: too small, or not asked for."""

    clients: int  # at least so many; one that several nodes sent to counts at each of them
    rates: Rates
    since_bytes: float


NONE_FOLDED = Folded(0, NO_RATES, 0.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one time. All that was sampled is in a row or in `folded`."""

    at: float  # seconds since the epoch
    seconds: float  # since somebody began to look
    rows: tuple[Row, ...]
    folded: Folded = NONE_FOLDED
    interfaces: tuple[str, ...] = ()  # on one host
    nodes: tuple[str, ...] = ()  # that answered, in a cluster
    nodes_asked: int = 0
    sent: tuple[float, float, float] | None = None  # bit/s by window, as the devices count; None: not known
    capacity_bits_per_second: int | None = None  # of all these interfaces together; None: not known
    lost_samples: int = 0
    grouped: bool = False  # rows are networks
    networks: tuple[Row, ...] = ()  # the largest /24 and /64, with their clients that have no row
    notes: tuple[str, ...] = ()  # what the reader should know, such as why limits are not known

    @property
    def totals(self) -> Rates:
        """What went to all clients together, by window."""
        return total([*(row.rates for row in self.rows), self.folded.rates])

    @property
    def clients(self) -> int:
        """How many clients, or networks, were seen: at least so many."""
        return len(self.rows) + self.folded.clients

    @property
    def not_seen(self) -> float | None:
        """The share of what the devices sent that no sample stands for, 0 to 1; None: not known.

        What lies within the error of the estimate counts as seen, and so does the little that is not IP.
        """
        if self.sent is None or self.sent[SHARE_WINDOW] <= 0:
            return None
        sent, seen = self.sent[SHARE_WINDOW], self.totals[SHARE_WINDOW]
        missing = sent - seen.bits_per_second
        allowed = max(2 * math.sqrt(seen.variance), _NOT_IP_BITS_PER_SECOND)
        return min(1.0, missing / sent) if missing > allowed else 0.0


def add(one: Rates, other: Rates) -> Rates:
    """Return the rates of two clients together, or of one at two nodes."""
    first, second, third = (Rate(a[0] + b[0], a[1] + b[1], a[2] + b[2]) for a, b in zip(one, other, strict=True))
    return first, second, third


def total(many: list[Rates]) -> Rates:
    """Return the sum of rates; its last digits do not depend on their order."""
    first, second, third = (
        Rate(
            math.fsum(rates[window].bits_per_second for rates in many),
            sum(rates[window].samples for rates in many),
            math.fsum(rates[window].variance for rates in many),
        )
        for window in range(len(WINDOWS_SECONDS))
    )
    return first, second, third


def share(row: Row, totals: Rates) -> float:
    """Return the share of one row in what went to all clients, 0 to 1."""
    everything = totals[SHARE_WINDOW].bits_per_second
    return row.rates[SHARE_WINDOW].bits_per_second / everything if everything > 0 else 0.0


def is_address(client: Prefix) -> bool:
    """Return whether a client is a single address."""
    return client.length == address_text.BITS[client.family]
