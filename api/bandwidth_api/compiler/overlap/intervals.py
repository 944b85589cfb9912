"""Overlapping prefixes as intervals of a list, so that nesting needs no recursion and no quadratic search.

All prefixes of one family that matter, sorted by address and then by length, are the *points* 0, 1, 2, …  The points
inside a prefix are those that follow it up to its end:

    10.0.0.0/8   10.1.0.0/16   10.1.2.3   10.7.0.0/16   192.0.2.1
    0 [──────────────────────────────────────────) 4    4 [─) 5
                 1 [─────────────) 3      3 [────) 4

A point stands for its own region: the addresses in it and in none of the points inside it. Within a region nothing
changes, so the winner at a point wins in its whole region. Pure; deals with prefixes and numbers, not with limits.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix

# The number of addresses in a prefix of each length, by family.
_SIZES = {family: tuple(1 << (bits - length) for length in range(bits + 1)) for family, bits in addresses.BITS.items()}


class Span(NamedTuple):
    """The points from `start` up to, not including, `end`."""

    start: int
    end: int


class Space(NamedTuple):
    """The points of one family."""

    points: list[Prefix]
    position: dict[Prefix, int]
    ends: list[int]
    around: list[int]  # the nearest point around; -1: none
    outer: list[int]  # the next longer region around: the nearest point around that has addresses of its own; -1: none
    hollow: list[bool]  # the points inside cover it whole: its region is empty


def space(prefixes: Iterable[Prefix]) -> Space:
    """Return the space of prefixes of one family; a prefix may be given more than once."""
    points = in_order(set(prefixes))
    count = len(points)
    size_of = _SIZES[points[0].family] if points else ()
    ends, around, hollow = [count] * count, [-1] * count, [False] * count
    left = [size_of[length] for _, _, length in points]  # addresses that no point directly inside holds
    path: list[int] = []  # the points around the present one, outermost first
    behind: list[int] = []  # the first address behind each of these
    for i, (_, network, length) in enumerate(points):
        while path and behind[-1] <= network:
            ends[path.pop()] = i
            behind.pop()
        if path:
            around[i] = outside = path[-1]
            left[outside] -= size_of[length]
            if not left[outside]:
                hollow[outside] = True
        path.append(i)
        behind.append(network + size_of[length])
    if True in hollow:
        outer: list[int] = []
        for j in around:
            outer.append(outer[j] if j >= 0 and hollow[j] else j)
    else:
        outer = around
    return Space(points, dict(zip(points, range(count), strict=True)), ends, around, outer, hollow)


def in_order(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """Return prefixes sorted by address, then the shorter first; faster than comparing tuples."""
    return sorted(sorted(prefixes, key=operator.itemgetter(2)), key=operator.itemgetter(1))


def without(spans: Iterable[Span], holes: Sequence[Span]) -> Iterator[Span]:
    """Return what is left of the spans without the points of the holes; both must be disjoint and in order."""
    at = 0
    for span in spans:
        start = span.start
        while at < len(holes) and holes[at].start < span.end:
            if holes[at].start > start:
                yield Span(start, holes[at].start)
            start = max(start, holes[at].end)
            if start >= span.end:
                break  # the hole may reach into the next span
            at += 1
        if start < span.end:
            yield Span(start, span.end)
