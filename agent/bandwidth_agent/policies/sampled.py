"""What a policy is told of traffic on one host: what was sampled, and what classes counted, as reports.

Nothing is open while no policy looks, and memory is bounded whatever passes by (`sight.watch`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from bandwidth_agent.sight.watch import classes, sums
from bandwidth_agent.sight.watch.classes import Moved
from bandwidth_agent.sight.watch.groups import Groups
from bandwidth_agent.sight.watch.look import Lease, Look
from bandwidth_api.plan import Prefix
from bandwidth_api.policy.limitable import Limitable
from bandwidth_api.policy.reports import CANDIDATES_MAX, Amount, Port, Report, Sampling

_LEAST_FLOOR = 1.0  # bit/s: who gets nothing is no candidate


class Sampled:
    """The traffic of one node. Used by one thread."""

    def __init__(
        self,
        node: str,
        lease: Lease,
        capacity: Callable[[], int | None] = lambda: None,
        moved: Callable[[frozenset[Prefix]], Mapping[Prefix, Moved]] = lambda named: {},
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lease` as `sight.Sight.lease`, `moved` as `classes.Classes.read`.

        `capacity`: of all uplinks together, bits per second; None: not known.
        """
        self._node, self._capacity, self._moved, self._monotonic = node, capacity, moved, monotonic
        self._look = Look(lease, monotonic)
        self._groups, self._ports = Groups(32, 64), False

    @property
    def trouble(self) -> str:
        """Why nothing is sampled though it should be."""
        return f"no traffic is sampled for policies: {self._look.trouble}" if self._look.trouble else ""

    def want(self, wanted: bool) -> None:
        """Have it sampled from now on for a minute, or no more."""
        if wanted:
            self._look.hold(self._groups, ports=self._ports)
        else:
            self.close()

    def take(
        self, sampling: Sampling, named: Collection[Prefix], limitable: Limitable = lambda client: True
    ) -> tuple[Report, ...]:
        """Return what came since the last call as one report, or none; `named` clients are in it with 0 bytes too.

        `limitable`: who is in it first, where there are more than a report names.
        """
        limited = frozenset(named)
        asked = {4: sampling.ipv4, 6: sampling.ipv6}
        if (self._groups.named, self._groups.lengths, self._ports) != (limited, asked, sampling.ports):
            self._groups, self._ports = Groups(sampling.ipv4, sampling.ipv6, limited), sampling.ports
            self._look.hold(self._groups, ports=self._ports)
        taken = self._look.take()
        if taken.seconds <= 0:
            return ()
        moved = self._moved(limited)  # not before: what classes count meanwhile goes with the next report
        amounts = []
        for client in sorted(limited):
            sampled, of_class = taken.clients.get(client, sums.NOTHING), moved.get(client)
            number_bytes = sampled.bytes if self._ports else classes.known_bytes(sampled, of_class)
            over = None if of_class is None else of_class.over_limits
            amounts.append(Amount(client, number_bytes, _ports(sampled), over))
        floor = max(_LEAST_FLOOR, sampling.floor_bits_per_second)
        for client, found in taken.candidates(floor, limited, CANDIDATES_MAX, limitable):
            amounts.append(Amount(client, found.bytes, _ports(found)))
        return (
            Report(self._node, self._monotonic(), taken.seconds, tuple(amounts), taken.sent_bytes, self._capacity()),
        )

    def close(self) -> None:
        """Have nothing sampled any more."""
        self._look.close()


def _ports(of: sums.Sum) -> tuple[Port, ...]:
    return tuple(Port(*each) for each in sums.shares(of))
