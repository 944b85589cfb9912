"""What was sampled in the last minute, second by second, and since the beginning; from it a snapshot at any time.

Owns sums of fixed size, whatever the number of clients: of each second the largest clients and those that are known
already; all others are one sum. Never reads a clock: times are handed in, in monotonic seconds.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api.plan import Prefix
from bandwidth_sight import rows, space_saving
from bandwidth_sight.rows import Folded, Port, Rate, Rates, Row, Snapshot

BUCKET_SECONDS = 1.0
LARGEST = 256  # of each second, whether known or not
KNOWN = 512  # of each second, with those that were seen before: a small but steady client is not cut off each time
SINCE_SIZE = 1024
PORTS_MAX = 4  # of one client in one second
ROWS_MAX = 512  # of one snapshot: the largest of the longest window

_PROTOCOLS = {6: "TCP", 17: "UDP"}
_Port = tuple[int, int]  # protocol number, port
_Estimate = tuple[float, int, float]  # bytes, samples, bytes × bytes


class Sums(NamedTuple):
    """Sums of samples, in whole numbers: adding and taking away again is exact."""

    bytes: int
    samples: int
    squares: int  # bytes × bytes


_NONE = Sums(0, 0, 0)
_NO_PORTS: Mapping[_Port, float] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled:
    """What was sampled on one interface in some time."""

    clients: Mapping[bytes, _Estimate]  # by address, 4 or 16 bytes
    ports: Mapping[bytes, Mapping[_Port, float]]  # by address: (protocol number, service port) → bytes
    sent_bytes: float | None  # what the device sent, without link headers; None: not known
    lost: int  # samples that found no room


@dataclasses.dataclass(slots=True)
class _Bucket:
    began: float
    ended: float
    clients: dict[bytes, Sums]
    ports: dict[bytes, tuple[tuple[_Port, int], ...]]
    everything: Sums
    others: int  # clients of this time that are not in `clients`
    sent_bytes: int | None


class _Window:
    """Sums over the last so many seconds, kept up to date as buckets come and go."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.buckets: collections.deque[_Bucket] = collections.deque()
        self.clients: dict[bytes, Sums] = {}
        self.everything = _NONE
        self.sent_bytes = 0
        self.unknown_sent = 0  # buckets
        self.covered_seconds = 0.0

    def add(self, bucket: _Bucket) -> list[_Bucket]:
        """Take a bucket in, and return those that are too old now."""
        self._sum(bucket, 1)
        self.buckets.append(bucket)
        gone = []
        # A bucket is a little longer than a second: half of one may stick out.
        while len(self.buckets) > 1 and self.buckets[0].ended <= bucket.ended - self.seconds + BUCKET_SECONDS / 2:
            gone.append(self.buckets.popleft())
            self._sum(gone[-1], -1)
        return gone

    def _sum(self, bucket: _Bucket, sign: int) -> None:
        clients = self.clients
        for key, sums in bucket.clients.items():
            had = clients.get(key)
            if had is None:
                clients[key] = sums  # the same object: most clients of a scan are in one second only
            elif had[1] + sign * sums[1]:
                clients[key] = Sums(had[0] + sign * sums[0], had[1] + sign * sums[1], had[2] + sign * sums[2])
            else:
                del clients[key]
        a, b = self.everything, bucket.everything
        self.everything = Sums(a[0] + sign * b[0], a[1] + sign * b[1], a[2] + sign * b[2])
        self.unknown_sent += sign * (bucket.sent_bytes is None)
        self.sent_bytes += sign * (bucket.sent_bytes or 0)
        self.covered_seconds += sign * (bucket.ended - bucket.began)

    def rate(self, sums: Sums) -> Rate:
        seconds = self.covered_seconds
        if seconds <= 0:
            return rows.NOTHING
        bits = 8 / seconds
        return Rate(sums[0] * bits, sums[1], max(0, sums[2]) * bits * bits)


class History:
    """The last minute, and the sums since the beginning. One thread at a time."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.lost = 0
        self.ended = began  # of what is in the sums
        self._windows = tuple(map(_Window, rows.WINDOWS_SECONDS))
        self._since = space_saving.SpaceSaving(SINCE_SIZE)
        self._since_all = 0
        self._ports: dict[bytes, dict[_Port, int]] = {}  # of the window that ports are of
        self._open: list[Sampled] = []

    def start(self, began: float) -> None:
        """Count from then on, unless something has been taken in: what comes first may have begun earlier."""
        if not self._open and not self._windows[0].buckets:
            self.began = self.ended = began

    def add(self, sampled: Sampled) -> None:
        """Take in what was sampled on one interface; it counts from the next `turn` on that returns True."""
        self.lost += sampled.lost
        self._open.append(sampled)

    def turn(self, now: float) -> bool:
        """End the second if it is over; return whether there is something new."""
        # A twentieth earlier is no loss, and keeps one that is called each second from waiting for two.
        if now - self.ended < BUCKET_SECONDS * 0.95:
            return False
        bucket = self._bucket(now)
        self._open, self.ended = [], now
        for key, sums in bucket.clients.items():
            self._since.add(key, sums[0])
        self._since_all += bucket.everything[0]
        for index, window in enumerate(self._windows):
            gone = window.add(bucket)
            if index == rows.SHARE_WINDOW:
                self._sum_ports(bucket, 1)
                for old in gone:
                    self._sum_ports(old, -1)
                    old.ports = {}  # a longer window has it still, and needs no ports
        return True

    def _bucket(self, now: float) -> _Bucket:
        """The second as it is kept. Little is done for each client of it: there may be thousands."""
        clients = _together([sampled.clients for sampled in self._open])
        kept = {key: _whole(clients[key]) for key in self._kept(clients)}
        everything = (_rest(clients, kept), *kept.values())
        ports: dict[bytes, dict[_Port, int]] = {}
        for key in kept:
            for sampled in self._open:
                for port, amount in sampled.ports.get(key, _NO_PORTS).items():
                    of = ports.setdefault(key, {})
                    of[port] = of.get(port, 0) + round(amount)
        sent = [sampled.sent_bytes for sampled in self._open]
        known = [x for x in sent if x is not None]
        return _Bucket(
            began=self.ended,
            ended=now,
            clients=kept,
            ports={key: _largest_ports(found) for key, found in ports.items()},
            everything=Sums(*map(sum, zip(*everything, strict=True))),
            others=len(clients) - len(kept),
            sent_bytes=round(sum(known)) if len(known) == len(sent) and sent else None,
        )

    def _kept(self, clients: Mapping[bytes, _Estimate]) -> Iterable[bytes]:
        """Return the largest clients of a second, and of the others the largest that are known already."""
        if len(clients) <= LARGEST:
            return clients
        sizes = map(operator.itemgetter(0), clients.values())
        chosen = [key for _, key in heapq.nlargest(LARGEST, zip(sizes, clients, strict=True))]
        known = clients.keys() & self._since.keys() - set(chosen)
        return chosen + heapq.nlargest(KNOWN - LARGEST, sorted(known), key=lambda key: clients[key][0])

    def _sum_ports(self, bucket: _Bucket, sign: int) -> None:
        for key, ports in bucket.ports.items():
            sums = self._ports.setdefault(key, {})
            for port, amount in ports:
                now = sums.get(port, 0) + sign * amount
                if now > 0:
                    sums[port] = now
                else:
                    sums.pop(port, None)
            if not sums:
                del self._ports[key]

    def snapshot(self, at: float, **more: object) -> Snapshot:
        """Return what is known; `at` in seconds since the epoch, `more`: fields that others know."""
        longest = self._windows[-1]
        chosen = heapq.nlargest(ROWS_MAX, longest.clients.items(), key=_bytes_of)
        made = tuple(self._row(key) for key, _ in chosen)
        short, middle, long = (self._rest(index, chosen) for index in range(len(self._windows)))
        others = max((bucket.others for bucket in longest.buckets), default=0)
        count = max(len(longest.clients) - len(chosen), others)
        folded = Folded(
            count, (short, middle, long), float(max(0, self._since_all - round(sum(row.since_bytes for row in made))))
        )
        known = not any(window.unknown_sent for window in self._windows)
        snapshot = Snapshot(
            at=at,
            seconds=self.ended - self.began,
            rows=made,
            folded=folded,
            sent=self._sent() if known else None,
            lost_samples=self.lost,
        )
        return dataclasses.replace(snapshot, **more)  # type: ignore[arg-type]

    def _row(self, key: bytes) -> Row:
        first, second, third = (window.rate(window.clients.get(key, _NONE)) for window in self._windows)
        rates: Rates = (first, second, third)
        bits = 8 / self._windows[rows.SHARE_WINDOW].covered_seconds
        ports = (
            Port(_PROTOCOLS.get(protocol, str(protocol)), number, amount * bits)
            for (protocol, number), amount in self._ports.get(key, {}).items()
        )
        return Row(
            client=prefix(key),
            rates=rates,
            since_bytes=float(self._since.get(key).least),
            ports=tuple(sorted(ports, key=_by_size)),
        )

    def _rest(self, index: int, chosen: list[tuple[bytes, Sums]]) -> Rate:
        """Return the rate of all that has no row."""
        window = self._windows[index]
        a = b = c = 0
        for key, _ in chosen:
            x, y, z = window.clients.get(key, _NONE)
            a, b, c = a + x, b + y, c + z
        everything = window.everything
        return window.rate(Sums(everything[0] - a, everything[1] - b, everything[2] - c))

    def _sent(self) -> tuple[float, float, float] | None:
        if not self._windows[0].buckets:
            return None
        first, second, third = (
            window.sent_bytes * 8 / window.covered_seconds if window.covered_seconds > 0 else 0.0
            for window in self._windows
        )
        return first, second, third


def _together(found: Sequence[Mapping[bytes, _Estimate]]) -> Mapping[bytes, _Estimate]:
    """What was sampled on all interfaces; of one it is what it is."""
    if len(found) == 1:
        return found[0]
    clients: dict[bytes, _Estimate] = {}
    for each in found:
        for key, (amount, samples, squares) in each.items():
            had = clients.get(key, (0.0, 0, 0.0))
            clients[key] = had[0] + amount, had[1] + samples, had[2] + squares
    return clients


def _rest(clients: Mapping[bytes, _Estimate], kept: Mapping[bytes, Sums]) -> Sums:
    """The sums of all clients that are not kept: those of all without those of the few that are."""
    if len(kept) == len(clients):
        return _NONE
    of_all = map(sum, zip(*clients.values(), strict=True))
    of_kept = map(sum, zip(*(clients[key] for key in kept), strict=True))
    return _whole([max(0.0, a - b) for a, b in zip(of_all, of_kept, strict=True)])


def _whole(sums: Sequence[float]) -> Sums:
    amount, samples, squares = sums
    return Sums(round(amount), round(samples), round(squares))


def prefix(address: bytes) -> Prefix:
    """Return an address of a header, 4 or 16 bytes, as a client."""
    return Prefix(4 if len(address) == 4 else 6, int.from_bytes(address), len(address) * 8)


def _bytes_of(item: tuple[bytes, Sums]) -> int:
    return item[1][0]


def _by_size(port: Port) -> tuple[float, Port]:
    return -port.bits_per_second, port


def _largest_ports(ports: dict[_Port, int]) -> tuple[tuple[_Port, int], ...]:
    if len(ports) <= PORTS_MAX:
        return tuple(ports.items())
    return tuple(heapq.nlargest(PORTS_MAX, ports.items(), key=lambda item: item[1]))
