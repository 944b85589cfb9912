"""What a policy is told of traffic: one report of one node, in units. Owns the types and what a node must be asked for.

Whoever feeds them takes the difference of two readings of a node's sums: bytes and seconds that came in between. Times
are of the monotonic clock of the program that decides, when it got the reading; the clocks of nodes do not matter.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple

from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Mode, Prefix

CANDIDATES_MAX = 10  # clients that a node names by itself
RECENT_SECONDS = 10.0  # what counts as now
BITS = 8


class Now(NamedTuple):
    """One moment by both clocks, in seconds. All that lasts is measured by `steady`, which is never set."""

    steady: float  # monotonic
    wall: float  # since the epoch


class Port(NamedTuple):
    """A part of what a client got, 0 to 1, by the service port that it dialled."""

    protocol: str  # TCP or UDP
    number: int
    share: float


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    """What one node sent one address, or one network, in the time of its report."""

    client: Prefix
    bytes: float
    ports: tuple[Port, ...] = ()  # empty: not known, and a policy of ports then counts nothing
    over_limits: int | None = None  # how often its class held a packet back in that time; None: not known


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What one node sent in some seconds.

    No two amounts speak of the same address. A client that is not named counts as one that got nothing, but for a
    limited one: of that nothing is known then. So each limited client (`books.limited`) is named, with 0 bytes too.
    """

    node: str
    ended_at: float  # `Now.steady`
    seconds: float
    amounts: tuple[Amount, ...] = ()
    sent_bytes: float | None = None  # by the uplinks of the node to everybody; None: not known
    capacity_bits_per_second: int | None = None  # of these uplinks together; None: not known

    @property
    def sound(self) -> bool:
        """Whether it can be counted: a time that passed, and finite numbers."""
        numbers = (self.ended_at, self.seconds, self.sent_bytes or 0.0, *(each.bytes for each in self.amounts))
        return self.seconds > 0 and all(map(math.isfinite, numbers)) and min(numbers[2:]) >= 0


class Sampling(NamedTuple):
    """What nodes are asked for all the time: at most CANDIDATES_MAX clients above a rate."""

    floor_bits_per_second: float
    ipv4: int  # the longest groups that a policy counts, bits of an address
    ipv6: int
    ports: bool  # amounts need ports


def sampling(policies: Iterable[Policy]) -> Sampling | None:
    """Return what these policies need; None: nothing, and no node looks at anything.

    The floor is half of the least threshold: a client below it counts as one that gets nothing.
    """
    specs = [each.spec for each in policies if each.spec.then.mode is not Mode.DISABLED]
    if not specs:
        return None
    floors: list[float] = []
    for spec in specs:
        if spec.when.rate is not None:
            floors.append(spec.when.rate.above / 2)
        elif spec.when.volume is not None:
            floors.append(BITS * spec.when.volume.above / spec.when.volume.within_seconds / 2)
        else:  # of a share nobody knows here how much it is
            floors.append(0.0)
    return Sampling(
        min(floors),
        max(spec.watch.group_by.ipv4 for spec in specs),
        max(spec.watch.group_by.ipv6 for spec in specs),
        any(spec.watch.ports for spec in specs),
    )
