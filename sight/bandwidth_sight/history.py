"""What was sampled in the last minute, second by second, and since the beginning; from it a snapshot at any time.

Owns sums of fixed size, whatever the number of clients: of each second the largest clients and those that are known
already; all others are one sum. Beside them the same of networks, in which no client is too small to count: who changes
his address with every packet is small everywhere but there. Never reads a clock: times are handed in, in monotonic
seconds.
"""

from __future__ import annotations

import dataclasses
import heapq
import operator
from collections.abc import Iterable, Mapping, Sequence

from bandwidth_api import address_text
from bandwidth_api.plan import Prefix
from bandwidth_sight import rows, space_saving, windows
from bandwidth_sight.rows import Folded, Port, Rate, Rates, Row, Snapshot

LARGEST = 256  # of each second, whether known or not
KNOWN = 512  # of each second, with those that were seen before: a small but steady client is not cut off each time
SINCE_SIZE = 1024
PORTS_MAX = 4  # of one client in one second
ROWS_MAX = 512  # of one snapshot: the largest of the longest window
NETWORKS = 64  # of each second and of one snapshot, of /24 and /64 together; twice as many with those that are known

_PROTOCOLS = {6: "TCP", 17: "UDP"}
_Estimate = tuple[float, int, float]  # bytes, samples, bytes × bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled:
    """What was sampled on one interface in some time."""

    clients: Mapping[bytes, _Estimate]  # by address, 4 or 16 bytes
    ports: Mapping[bytes, Mapping[windows.Port, float]]  # by address: (protocol number, service port) → bytes
    sent_bytes: float | None  # what the device sent, without link headers; None: not known
    lost: int  # samples that found no room


class History:
    """The last minute, and the sums since the beginning. One thread at a time."""

    def __init__(self, began: float, *, of_networks: bool = False) -> None:
        """`of_networks`: what is counted are networks, in fewer rows."""
        self.began = began
        self._largest, self._known = (NETWORKS, 2 * NETWORKS) if of_networks else (LARGEST, KNOWN)
        self._rows_max = NETWORKS if of_networks else ROWS_MAX
        self._networks = None if of_networks else History(began, of_networks=True)
        self.lost = 0
        self.ended = began  # of what is in the sums
        self._windows = tuple(map(windows.Window, rows.WINDOWS_SECONDS))
        self._since = space_saving.SpaceSaving(SINCE_SIZE)
        self._since_all = 0
        self._ports: dict[bytes, dict[windows.Port, int]] = {}  # of the window that ports are of
        self._open: list[Sampled] = []

    def start(self, began: float) -> None:
        """Count from then on, unless something has been taken in: what comes first may have begun earlier."""
        if not self._open and not self._windows[0].buckets:
            self.began = self.ended = began
            if self._networks is not None:
                self._networks.start(began)

    def add(self, sampled: Sampled) -> None:
        """Take in what was sampled on one interface; it counts from the next `turn` on that returns True."""
        self.lost += sampled.lost
        self._open.append(sampled)

    def turn(self, now: float) -> bool:
        """End the second if it is over; return whether there is something new."""
        # A twentieth earlier is no loss, and keeps one that is called each second from waiting for two.
        if now - self.ended < windows.BUCKET_SECONDS * 0.95:
            return False
        bucket = self._bucket(now)
        if self._networks is not None:
            self._networks.add(Sampled(_by_network([each.clients for each in self._open]), {}, None, 0))
            self._networks.turn(now)
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

    def _bucket(self, now: float) -> windows.Bucket:
        """The second as it is kept. Little is done for each client of it: there may be thousands."""
        clients = _together([sampled.clients for sampled in self._open])
        kept = {key: _whole(clients[key]) for key in self._kept(clients)}
        everything = (_rest(clients, kept), *kept.values())
        ports: dict[bytes, dict[windows.Port, int]] = {}
        for key in kept:
            for sampled in self._open:
                for port, amount in (sampled.ports.get(key) or {}).items():
                    of = ports.setdefault(key, {})
                    of[port] = of.get(port, 0) + round(amount)
        sent = [sampled.sent_bytes for sampled in self._open]
        known = [x for x in sent if x is not None]
        return windows.Bucket(
            began=self.ended,
            ended=now,
            clients=kept,
            ports={key: _largest_ports(found) for key, found in ports.items()},
            everything=windows.Sums(*map(sum, zip(*everything, strict=True))),
            others=len(clients) - len(kept),
            sent_bytes=round(sum(known)) if len(known) == len(sent) and sent else None,
        )

    def _kept(self, clients: Mapping[bytes, _Estimate]) -> Iterable[bytes]:
        """Return the largest clients of a second, and of the others the largest that are known already."""
        if len(clients) <= self._largest:
            return clients
        sizes = map(operator.itemgetter(0), clients.values())
        chosen = [key for _, key in heapq.nlargest(self._largest, zip(sizes, clients, strict=True))]
        known = clients.keys() & self._since.keys() - set(chosen)
        return chosen + heapq.nlargest(self._known - self._largest, sorted(known), key=lambda key: clients[key][0])

    def _sum_ports(self, bucket: windows.Bucket, sign: int) -> None:
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
        chosen = heapq.nlargest(self._rows_max, longest.clients.items(), key=_bytes_of)
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
            networks=self._networks.snapshot(at).rows if self._networks is not None else (),
        )
        return dataclasses.replace(snapshot, **more)  # type: ignore[arg-type]

    def _row(self, key: bytes) -> Row:
        first, second, third = (window.rate(window.clients.get(key, windows.NONE)) for window in self._windows)
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

    def _rest(self, index: int, chosen: list[tuple[bytes, windows.Sums]]) -> Rate:
        """Return the rate of all that has no row."""
        window = self._windows[index]
        a = b = c = 0
        for key, _ in chosen:
            x, y, z = window.clients.get(key, windows.NONE)
            a, b, c = a + x, b + y, c + z
        everything = window.everything
        return window.rate(windows.Sums(everything[0] - a, everything[1] - b, everything[2] - c))

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


def _rest(clients: Mapping[bytes, _Estimate], kept: Mapping[bytes, windows.Sums]) -> windows.Sums:
    """The sums of all clients that are not kept: those of all without those of the few that are."""
    if len(kept) == len(clients):
        return windows.NONE
    of_all = map(sum, zip(*clients.values(), strict=True))
    of_kept = map(sum, zip(*(clients[key] for key in kept), strict=True))
    return _whole([max(0.0, a - b) for a, b in zip(of_all, of_kept, strict=True)])


def _whole(sums: Sequence[float]) -> windows.Sums:
    amount, samples, squares = sums
    return windows.Sums(round(amount), round(samples), round(squares))


def _by_network(found: Iterable[Mapping[bytes, _Estimate]]) -> dict[bytes, _Estimate]:
    """The sums of /24 and /64, by their first bytes."""
    networks: dict[bytes, _Estimate] = {}
    for clients in found:
        for address, (amount, samples, squares) in clients.items():
            key = address[:8] if len(address) > 4 else address[:3]
            had = networks.get(key)
            networks[key] = (
                (amount, samples, squares) if had is None else (had[0] + amount, had[1] + samples, had[2] + squares)
            )
    return networks


def prefix(address: bytes) -> Prefix:
    """Return an address of a header, 4 or 16 bytes, as a client; or its first 3 or 8 bytes, as a network."""
    family, length = 4 if len(address) <= 4 else 6, len(address) * 8
    return Prefix(family, int.from_bytes(address) << address_text.BITS[family] - length, length)


def _bytes_of(item: tuple[bytes, windows.Sums]) -> int:
    return item[1][0]


def _by_size(port: Port) -> tuple[float, Port]:
    return -port.bits_per_second, port


def _largest_ports(ports: dict[windows.Port, int]) -> tuple[tuple[windows.Port, int], ...]:
    if len(ports) <= PORTS_MAX:
        return tuple(ports.items())
    return tuple(heapq.nlargest(PORTS_MAX, ports.items(), key=lambda item: item[1]))
