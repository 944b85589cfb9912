"""The metrics of the clients that get most: names, labels, and for how long it is sampled for them.

Sampled only while somebody scrapes: the first scrape begins it, and it ends `IDLE_SECONDS` after the last one. A client
that is no more among the largest of the last minute has no series. Networks instead of clients, unless asked for whole
addresses. Owns what was sampled for the metrics; never opens anything itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bandwidth_agent.kernel import contract
from bandwidth_agent.sight import estimates, leases
from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_sight import history, merging, rows

PREFIX = "client_bandwidth"
PEERS_SECONDS = 60.0  # so often all routes are read, while it is scraped
IDLE_SECONDS = 300.0  # without a scrape, until nothing is sampled any more


class Grant(Protocol):
    """What `sight.Sight.lease` returns."""

    @property
    def holds(self) -> bool: ...

    def renew(self, seconds: float) -> bool: ...

    def close(self) -> None: ...


Lease = Callable[[float, leases.Receive], Grant]


class ClientSeries(Collector):
    """The series of the `most` clients that are sent most. Thread-safe."""

    def __init__(
        self,
        lease: Lease,
        most: int,
        *,
        whole: bool,
        monotonic: Callable[[], float],
        peers: Callable[[], Collection[Prefix]] = tuple,
    ) -> None:
        """`lease` as `sight.Sight.lease`; `whole`: with whole addresses instead of their /24 or /64.

        `peers`: hosts that packets of others are handed to, which are no clients; called by the thread that collects.
        """
        self._lease = lease
        self._most = most
        self._whole = whole
        self._monotonic = monotonic
        self._read_peers = peers
        self._peers: Collection[Prefix] = ()
        self._peers_read_at = float("-inf")
        self._lock = threading.Lock()
        self._grant: Grant | None = None
        self._history: history.History | None = None
        self._asked_at = 0.0
        self._lost = 0  # samples, in what is forgotten already

    def collect(self) -> Iterator[Metric]:
        """Yield what the last minute's samples show, and have it sampled further."""
        sampled = self._ask()
        text = "1 while what leaves is sampled for these metrics, 0 if that is not possible."
        yield GaugeMetricFamily(f"{PREFIX}_clients_sampled", text, float(sampled))
        with self._lock:
            known = self._history
            lost = self._lost + (known.lost if known is not None else 0)
            seen = known.snapshot(0.0) if known is not None and known.ended > known.began else None
        text = "Samples of what leaves that found no room."
        yield CounterMetricFamily(f"{PREFIX}_clients_lost_samples", text, lost)
        if seen is not None and sampled:
            yield from self._of(seen)

    def close(self) -> None:
        """Have nothing sampled any more."""
        with self._lock:
            grant, self._grant = self._grant, None
        if grant is not None:
            grant.close()

    def _ask(self) -> bool:
        """Have it sampled from now on; return whether it is."""
        with self._lock:
            self._asked_at = self._monotonic()
            if self._grant is not None and self._grant.holds:
                return True
            self._forget()
            began = history.History(self._asked_at)
            try:
                self._grant = self._lease(leases.MOST_SECONDS, lambda stretches: self._receive(began, stretches))
            except OSError:
                return False
            self._history = began
            return True

    def _forget(self) -> None:
        if self._history is not None:
            self._lost += self._history.lost
        self._history = self._grant = None

    def _receive(self, into: history.History, stretches: contract.Stretches) -> None:
        """Take in a second, and renew the lease while somebody scrapes."""
        with self._lock:
            if into is not self._history or self._grant is None:
                return
            now = self._monotonic()
            estimates.add(into, stretches, now)
            if now - self._asked_at < IDLE_SECONDS:
                self._grant.renew(leases.MOST_SECONDS)

    def _known_peers(self) -> Collection[Prefix]:
        now = self._monotonic()
        if now - self._peers_read_at >= PEERS_SECONDS:
            self._peers_read_at = now
            with contextlib.suppress(OSError):
                self._peers = frozenset(self._read_peers())
        return self._peers

    def _of(self, seen: rows.Snapshot) -> Iterator[Metric]:
        everything = seen.totals[-1].bits_per_second
        yield _gauge("clients_bits_per_second", "Estimate of everything that left, average of a minute.", everything)
        if seen.not_seen is not None:
            text = "Share of what the interfaces sent that no sample stands for, 0 to 1, of ten seconds."
            yield _gauge("clients_not_seen_ratio", text, seen.not_seen)
        peers = self._known_peers()
        labelled = (dataclasses.replace(row, label="peer") if row.client in peers else row for row in seen.rows)
        seen = dataclasses.replace(seen, rows=tuple(labelled))
        seen = seen if self._whole else merging.group(seen)  # in which what is labelled stays alone
        clients = dataclasses.replace(seen, rows=tuple(row for row in seen.rows if not row.label))
        largest = merging.fold(clients, top=self._most, window=-1)
        text = "Estimate of what left for the clients that got most, average of a minute."
        family = GaugeMetricFamily(f"{PREFIX}_top_client_bits_per_second", text, labels=["client"])
        for row in largest.rows:
            family.add_metric([addresses.write(row.client)], row.rates[-1].bits_per_second)
        yield family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value)
