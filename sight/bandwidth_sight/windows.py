"""Sums over the last two, ten and sixty seconds, kept up to date second by second, in whole numbers.

Owns the arithmetic alone: which clients are in a second is decided in `history`. Pure.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import NamedTuple

from bandwidth_sight import rows
from bandwidth_sight.rows import Rate

BUCKET_SECONDS = 1.0

Port = tuple[int, int]  # protocol number, port


class Sums(NamedTuple):
    """Sums of samples, in whole numbers: adding and taking away again is exact."""

    bytes: int
    samples: int
    squares: int  # bytes × bytes


NONE = Sums(0, 0, 0)


@dataclasses.dataclass(slots=True)
class Bucket:
    began: float
    ended: float
    clients: dict[bytes, Sums]
    ports: dict[bytes, tuple[tuple[Port, int], ...]]
    everything: Sums
    others: int  # clients of this time that are not in `clients`
    sent_bytes: int | None


class Window:
    """Sums over the last so many seconds, kept up to date as buckets come and go."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.buckets: collections.deque[Bucket] = collections.deque()
        self.clients: dict[bytes, Sums] = {}
        self.everything = NONE
        self.sent_bytes = 0
        self.unknown_sent = 0  # buckets
        self.covered_seconds = 0.0

    def add(self, bucket: Bucket) -> list[Bucket]:
        """Take a bucket in, and return those that are too old now."""
        self._sum(bucket, 1)
        self.buckets.append(bucket)
        gone = []
        # A bucket is a little longer than a second: half of one may stick out.
        while len(self.buckets) > 1 and self.buckets[0].ended <= bucket.ended - self.seconds + BUCKET_SECONDS / 2:
            gone.append(self.buckets.popleft())
            self._sum(gone[-1], -1)
        return gone

    def _sum(self, bucket: Bucket, sign: int) -> None:
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
