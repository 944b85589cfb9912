"""Sums over the last seconds, from a bounded number of buckets. Pure: times are parameters, in seconds of one clock."""

from __future__ import annotations

import math
from typing import NamedTuple

BUCKETS = 60  # a sum is of a time that is right to a sixtieth


class Bucket(NamedTuple):
    began: float
    ended: float
    amount: float


class Window(NamedTuple):
    """What came in the last `seconds`. What is not known counts as nothing."""

    seconds: float
    buckets: tuple[Bucket, ...] = ()  # the oldest first


def add(window: Window, began: float, ended: float, amount: float) -> Window:
    """Add what came between two times. A time before that of the last bucket counts as that."""
    kept = window.buckets
    if kept:
        ended = max(ended, kept[-1].ended)
        start = ended - window.seconds
        gone = next((n for n, each in enumerate(kept) if each.ended > start), len(kept))
        kept = kept[gone:]
    if kept and ended - kept[-1].began <= window.seconds / BUCKETS:
        last = kept[-1]
        return Window(window.seconds, (*kept[:-1], Bucket(last.began, ended, last.amount + amount)))
    return Window(window.seconds, (*kept, Bucket(min(began, ended), ended, amount))[-2 * BUCKETS :])


def total(window: Window, at: float) -> float:
    """Return the sum of the window that ends at this time; of a bucket that reaches out of it, the part inside."""
    start, found = at - window.seconds, 0.0
    for began, ended, amount in reversed(window.buckets):
        if ended <= start:
            break
        found += amount if began >= start else amount * (ended - start) / (ended - began)
    return found


def mean(window: Window, at: float) -> float:
    """Return the sum divided by the seconds of the window."""
    return total(window, at) / window.seconds


def parts(window: Window, at: float, number: int) -> list[float]:
    """Return the sums of so many equal parts of the window that ends at this time, the newest first."""
    found, length = [0.0] * number, window.seconds / number
    for began, ended, amount in reversed(window.buckets):
        newest, oldest = max(0.0, (at - ended) / length), (at - began) / length
        if newest >= number:
            break
        if oldest <= newest:  # of no time
            found[int(newest)] += amount
            continue
        each = amount / (ended - began) * length  # in a whole part
        for part in range(int(newest), min(number, math.ceil(oldest))):
            found[part] += each * (min(oldest, part + 1) - max(newest, part))
    return found
