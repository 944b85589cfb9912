"""What a policy is told of traffic on one host: the sums of a sampler, as reports.

A lease of the sight holds while a policy looks, and is renewed by whoever takes the reports; nothing is open before or
after. Memory is bounded: of a scan only what counts in one report is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from bandwidth_agent.kernel import contract, traffic
from bandwidth_agent.sight import leases
from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_api.policy.reports import BITS, CANDIDATES_MAX, Amount, Port, Report, Sampling

AGAIN_SECONDS = 30.0  # after a sampler could not be opened
_PORTS_MAX = 16
_PROTOCOLS = {traffic.TCP: "TCP", traffic.UDP: "UDP"}


class Grant(Protocol):
    """What `sight.Sight.lease` returns."""

    @property
    def holds(self) -> bool: ...

    def renew(self, seconds: float) -> bool: ...

    def close(self) -> None: ...


class _Sum:
    """What came in since the last report."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.ended = 0.0
        self.sent_bytes = 0
        self.clients: dict[bytes, float] = {}
        self.ports: dict[bytes, dict[tuple[int, int], float]] = {}

    def add(self, stretches: Mapping[str, traffic.Stretch]) -> None:
        for stretch in stretches.values():
            self.began = stretch.began if self.began is None else min(self.began, stretch.began)
            self.ended = max(self.ended, stretch.ended)
            self.sent_bytes += stretch.sent_bytes
            for client, estimate in stretch.clients.items():
                self.clients[client] = self.clients.get(client, 0.0) + estimate.bytes
            for client, ports in stretch.ports.items():
                held = self.ports.setdefault(client, {})
                for port, number_bytes in ports.items():
                    held[port] = held.get(port, 0.0) + number_bytes


class Sampled:
    """The traffic of one node. `take` is called by one thread; what is sampled comes from another."""

    def __init__(
        self,
        node: str,
        lease: Callable[[float, leases.Receive], Grant],
        capacity: Callable[[], int | None] = lambda: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lease` as `sight.Sight.lease`; `capacity`: of all uplinks together, bits per second; None: not known."""
        self._node, self._lease, self._capacity, self._monotonic = node, lease, capacity, monotonic
        self._lock = threading.Lock()
        self._grant: Grant | None = None
        self._sum = _Sum()
        self._again_at = float("-inf")
        self.trouble = ""  # why nothing is sampled though it should be

    def want(self, wanted: bool) -> None:
        """Have it sampled from now on for a minute, or no more."""
        if not wanted:
            self.close()
            return
        if self._grant is not None and self._grant.renew(leases.MOST_SECONDS):
            return
        now = self._monotonic()
        if now < self._again_at:
            return
        self._again_at = now + AGAIN_SECONDS
        with self._lock:
            self._sum = _Sum()
        try:
            self._grant = self._lease(leases.MOST_SECONDS, self._receive)
        except OSError as error:
            self._grant, self.trouble = None, f"no traffic is sampled for policies: {error.strerror or error}"
        else:
            self.trouble = ""

    def _receive(self, stretches: contract.Stretches) -> None:
        with self._lock:
            self._sum.add(stretches)

    def take(self, sampling: Sampling, named: Collection[Prefix]) -> tuple[Report, ...]:
        """Return what came since the last call as one report, or none; `named` clients are in it with 0 bytes too."""
        with self._lock:
            if self._sum.began is None or self._sum.ended <= self._sum.began:
                return ()
            taken, self._sum = self._sum, _Sum()
        seconds = taken.ended - (taken.began or 0.0)
        groups = _grouped(taken, sampling)
        floor = sampling.floor_bits_per_second * seconds / BITS
        asked = {client for client in groups if any(addresses.covers(each, client) for each in named)}
        others = (
            client for client, (number_bytes, _) in groups.items() if number_bytes >= floor and client not in asked
        )
        largest = sorted(others, key=lambda client: -groups[client][0])[:CANDIDATES_MAX]
        amounts = [Amount(client, groups[client][0], groups[client][1]) for client in (*asked, *largest)]
        silent = (each for each in named if not any(addresses.covers(each, client) for client in asked))
        amounts += [Amount(each, 0.0) for each in silent]
        return (
            Report(self._node, self._monotonic(), seconds, tuple(amounts), float(taken.sent_bytes), self._capacity()),
        )

    def close(self) -> None:
        """Have nothing sampled any more."""
        grant, self._grant = self._grant, None
        if grant is not None:
            grant.close()
        self.trouble, self._again_at = "", float("-inf")


def _grouped(taken: _Sum, sampling: Sampling) -> dict[Prefix, tuple[float, tuple[Port, ...]]]:
    """Return the bytes and ports of each group of addresses."""
    sums: dict[Prefix, float] = {}
    ports: dict[Prefix, dict[tuple[int, int], float]] = {}
    for client, number_bytes in taken.clients.items():
        family, length = (4, sampling.ipv4) if len(client) == 4 else (6, sampling.ipv6)
        spare = addresses.BITS[family] - length
        group = Prefix(family, int.from_bytes(client) >> spare << spare, length)
        sums[group] = sums.get(group, 0.0) + number_bytes
        if sampling.ports:
            held = ports.setdefault(group, {})
            for port, of_it in taken.ports.get(client, {}).items():
                held[port] = held.get(port, 0.0) + of_it
    return {group: (number_bytes, _ports(ports.get(group, {}))) for group, number_bytes in sums.items()}


def _ports(found: Mapping[tuple[int, int], float]) -> tuple[Port, ...]:
    total = sum(found.values())
    largest = sorted(found.items(), key=lambda each: -each[1])[:_PORTS_MAX]
    return tuple(
        Port(_PROTOCOLS[protocol], number, number_bytes / total)
        for (protocol, number), number_bytes in largest
        if protocol in _PROTOCOLS and total > 0
    )
