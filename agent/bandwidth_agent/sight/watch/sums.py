"""Sums of what was sampled, by client, since they were last taken. Pure, and bounded whatever passes by.

    a stretch of a second ──▶ the 256 largest groups, and the limited ones ──▶ sums ──▶ take(): seconds and bytes

Of a client that is not among the largest in some second the bytes of that second are lost: a sum is at most what the
client got, as far as sampling knows, and of one that is large all the time it is the whole.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import contract, traffic
from bandwidth_agent.sight.watch.groups import Groups
from bandwidth_api.plan import Prefix

A_SECOND_MAX = 256  # clients of one second
CLIENTS_MAX, KEPT = 4096, 1024  # of all seconds: more than the first number are reduced to the second
PORTS_MAX = 16  # of a client
PAUSE_MAX_SECONDS = 1.2  # a longer one is a time of which nothing is known
ERROR_MAX = 0.25  # of a candidate: the relative standard error
BITS = 8


class Sum(NamedTuple):
    """What one client was sent. `squares` as in `traffic.Estimate`; ports: (protocol, number) → bytes."""

    bytes: float
    squares: float
    ports: Mapping[tuple[int, int], float]

    @property
    def error(self) -> float:
        """The relative standard error; infinite of nothing."""
        return math.sqrt(max(0.0, self.squares)) / self.bytes if self.bytes > 0 else math.inf


NOTHING = Sum(0.0, 0.0, {})


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What came in some seconds; of no seconds nothing is known."""

    seconds: float = 0.0
    sent_bytes: float = 0.0  # by the interfaces together
    clients: Mapping[Prefix, Sum] = dataclasses.field(default_factory=dict)

    def plus(self, later: Taken) -> Taken:
        """Return what came in both times."""
        if not self.seconds:
            return later
        clients = dict(self.clients)
        for client, more in later.clients.items():
            had = clients.get(client, NOTHING)
            clients[client] = Sum(had.bytes + more.bytes, had.squares + more.squares, _merged(had.ports, more.ports))
        return Taken(self.seconds + later.seconds, self.sent_bytes + later.sent_bytes, clients)

    def candidates(
        self,
        floor_bits_per_second: float,
        other_than: Collection[Prefix],
        most: int,
        first: Callable[[Prefix], bool] = lambda client: True,
    ) -> list[tuple[Prefix, Sum]]:
        """Return the largest clients from this rate on that are known well enough, the largest first.

        Where there are more than `most`, those of whom `first` is true go before all others.
        """
        floor = floor_bits_per_second * self.seconds / BITS
        found = [
            (client, of)
            for client, of in self.clients.items()
            if of.bytes >= floor and client not in other_than and of.error <= ERROR_MAX
        ]
        found.sort(key=lambda each: (-each[1].bytes, each[0]))
        if len(found) > most:
            last = [each for each in found if not first(each[0])]
            behind = {client for client, _ in last}
            found = [each for each in found if each[0] not in behind][:most] + last
            found = sorted(found[:most], key=lambda each: (-each[1].bytes, each[0]))
        return found


class Sums:
    """The sums since the last `take`. One thread at a time."""

    def __init__(self, groups: Groups, *, ports: bool = False) -> None:
        self.groups, self._ports = groups, ports  # other `groups` may be put here, of the same lengths
        self._began: float | None = None
        self._ended = float("-inf")  # of the last stretch, also after `take`
        self._sent_bytes = 0.0
        self._clients: dict[Prefix, Sum] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, stretches: contract.Stretches) -> None:
        """Take what was sampled in about a second."""
        if not stretches:
            return
        second: dict[Prefix, list[float]] = {}
        group = self.groups.of
        began = min(stretch.began for stretch in stretches.values())
        ended = max(stretch.ended for stretch in stretches.values())
        stands_for = self._stands_for(began, ended)
        for stretch in stretches.values():
            self._sent_bytes += stretch.sent_bytes * stands_for
            for address, (number_bytes, _, squares) in stretch.clients.items():
                client = group(address)
                had = second.get(client)
                if had is None:
                    second[client] = [number_bytes, squares]
                else:
                    had[0] += number_bytes
                    had[1] += squares
        whole = ended - (ended - began) * stands_for
        self._began = whole if self._began is None else min(self._began, whole)
        self._ended = ended
        kept = self._largest(second)
        ports = self._ports_of(stretches, kept) if self._ports else {}
        for client in kept:
            had_bytes, had_squares, had_ports = self._clients.get(client, NOTHING)
            number_bytes, squares = second[client][0] * stands_for, second[client][1] * stands_for**2
            more = _merged(had_ports, {port: of * stands_for for port, of in ports.get(client, {}).items()})
            self._clients[client] = Sum(had_bytes + number_bytes, had_squares + squares, more)
        if len(self._clients) > CLIENTS_MAX:
            largest = heapq.nlargest(KEPT, self._clients, key=lambda client: self._clients[client].bytes)
            kept_all = {*largest, *self.groups.named}
            self._clients = {client: of for client, of in self._clients.items() if client in kept_all}

    def take(self) -> Taken:
        """Return the sums, and begin new ones."""
        began, self._began = self._began, None
        sent, self._sent_bytes = self._sent_bytes, 0.0
        clients, self._clients = self._clients, {}
        return Taken(self._ended - began, sent, clients) if began is not None and self._ended > began else Taken()

    def _stands_for(self, began: float, ended: float) -> float:
        """How many times itself a stretch counts, for the pause before it: what passed then is taken to be alike."""
        pause = began - self._ended
        return (ended - self._ended) / (ended - began) if 0.0 < pause <= PAUSE_MAX_SECONDS and ended > began else 1.0

    def _largest(self, second: Mapping[Prefix, list[float]]) -> Collection[Prefix]:
        if len(second) <= A_SECOND_MAX:
            return second
        largest = heapq.nlargest(A_SECOND_MAX, second, key=lambda client: second[client][0])
        return {*largest, *(client for client in self.groups.named if client in second)}

    def _ports_of(
        self, stretches: contract.Stretches, kept: Collection[Prefix]
    ) -> dict[Prefix, dict[tuple[int, int], float]]:
        found: dict[Prefix, dict[tuple[int, int], float]] = {}
        for stretch in stretches.values():
            for address in stretch.clients:
                client = self.groups.of(address)
                of = stretch.ports.get(address) if client in kept else None
                if of:
                    held = found.setdefault(client, {})
                    for port, number_bytes in of.items():
                        held[port] = held.get(port, 0.0) + number_bytes
        return found


def shares(of: Sum) -> list[tuple[str, int, float]]:
    """Return the ports of a client as (TCP or UDP, number, part of all it got), the largest first."""
    names = {traffic.TCP: "TCP", traffic.UDP: "UDP"}
    largest = sorted(of.ports.items(), key=lambda each: (-each[1], each[0]))
    return [(names[p], n, min(1.0, b / of.bytes)) for (p, n), b in largest if p in names and of.bytes > 0]


def _merged(
    had: Mapping[tuple[int, int], float], more: Mapping[tuple[int, int], float]
) -> Mapping[tuple[int, int], float]:
    if not more:
        return had
    found = dict(had)
    for port, number_bytes in more.items():
        found[port] = found.get(port, 0.0) + number_bytes
    if len(found) > 2 * PORTS_MAX:
        found = dict(heapq.nlargest(PORTS_MAX, found.items(), key=lambda each: each[1]))
    return found
