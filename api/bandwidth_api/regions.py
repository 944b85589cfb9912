"""Overlapping prefixes as intervals of a list, so that nesting needs no recursion and no quadratic search.

All prefixes of one family that matter, sorted by address and then by length, are the *points* 0, 1, 2, …  The points
inside a prefix are those that follow it up to its end:

    10.0.0.0/8   10.1.0.0/16   10.1.2.3   10.7.0.0/16   192.0.2.1
    0 [──────────────────────────────────────────) 4    4 [─) 5
                 1 [─────────────) 3      3 [────) 4

A point stands for its own region: the addresses in it and in none of the points inside it. Within a region nothing
changes, so whoever wins at a point wins for its whole region. Pure; knows prefixes and numbers, not limits.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.plan import Prefix


class Span(NamedTuple):
    """The points from `start` up to, not including, `end`, and whose they are. A lower `claim` beats a higher one."""

    start: int
    end: int
    claim: int


class Space(NamedTuple):
    """The points of one family."""

    points: list[Prefix]
    position: dict[Prefix, int]
    ends: list[int]
    outer: list[int]  # the next longer region around: the nearest point around that has addresses of its own; -1: none
    hollow: list[bool]  # the points inside cover it whole: its region is empty
    regions_before: list[int]  # how many points before this one have a region that is not empty

    def span(self, prefix: Prefix, claim: int) -> Span:
        start = self.position[prefix]
        return Span(start, self.ends[start], claim)

    def has_addresses(self, start: int, end: int) -> bool:
        """Whether the points of this interval stand for any address at all."""
        return start < end and self.regions_before[end] > self.regions_before[start]


def space(prefixes: Iterable[Prefix]) -> Space:
    """Lay out prefixes of one family; each may come more than once."""
    points = in_order(set(prefixes))
    count = len(points)
    ends, around, covered = [count] * count, [-1] * count, [0] * count
    sizes = [addresses.size(point) for point in points]
    path: list[int] = []  # the points around the present one, outermost first
    behind: list[int] = []  # the first address behind each of these
    for i, point in enumerate(points):
        while path and behind[-1] <= point.network:
            ends[path.pop()] = i
            behind.pop()
        if path:
            around[i] = path[-1]
            covered[path[-1]] += sizes[i]
        path.append(i)
        behind.append(point.network + sizes[i])
    hollow = [inside == size for inside, size in zip(covered, sizes, strict=True)]
    outer: list[int] = []
    for j in around:
        outer.append(outer[j] if j >= 0 and hollow[j] else j)
    regions_before = [0, *itertools.accumulate(not is_hollow for is_hollow in hollow)]
    return Space(points, {point: i for i, point in enumerate(points)}, ends, outer, hollow, regions_before)


def in_order(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """Sorted by address, then the shorter first; faster than comparing tuples."""
    return sorted(sorted(prefixes, key=operator.itemgetter(2)), key=operator.itemgetter(1))


def without(span: Span, holes: Iterable[Span]) -> list[Span]:
    """What is left of a span when the points of the holes, in order, are taken out."""
    left: list[Span] = []
    start = span.start
    for hole in holes:
        if hole.end <= start or hole.start >= span.end:
            continue
        if hole.start > start:
            left.append(Span(start, hole.start, span.claim))
        start = hole.end
    if start < span.end:
        left.append(Span(start, span.end, span.claim))
    return left


def winners(spans: Iterable[Span]) -> list[Span]:
    """The winning claim at every point that anybody claims, as disjoint spans in order. O(n log n)."""
    waiting = sorted(spans)
    won: list[Span] = []
    open_claims: list[tuple[int, int]] = []  # heap of (claim, end)
    at, following = 0, 0
    while open_claims or following < len(waiting):
        if not open_claims:
            at = waiting[following].start
        while following < len(waiting) and waiting[following].start <= at:
            heapq.heappush(open_claims, (waiting[following].claim, waiting[following].end))
            following += 1
        claim, end = open_claims[0]
        if end <= at:
            heapq.heappop(open_claims)
            continue
        stop = min(end, waiting[following].start) if following < len(waiting) else end
        _append(won, Span(at, stop, claim))
        at = stop
    return won


def over(upper: Sequence[Span], lower: Sequence[Span]) -> list[Span]:
    """The winning claim at every point of `upper`, where `lower` has a say too; both as `winners` returns them."""
    won: list[Span] = []
    for start, end, claim in upper:
        at = start
        for other in overlapping(lower, start, end):
            if other.claim < claim:
                if at < other.start:
                    _append(won, Span(at, other.start, claim))
                at = min(end, other.end)
                _append(won, Span(max(start, other.start), at, other.claim))
        if at < end:
            _append(won, Span(at, end, claim))
    return won


def overlapping(spans: Sequence[Span], start: int, end: int) -> Iterator[Span]:
    """Those of disjoint, ordered spans that have a point in common with the interval."""
    i = bisect.bisect_left(spans, (start + 1,))  # the first that starts behind `start`
    if i and spans[i - 1].end > start:
        yield spans[i - 1]
    count = len(spans)
    while i < count and spans[i].start < end:
        yield spans[i]
        i += 1


def _append(spans: list[Span], span: Span) -> None:
    if spans and spans[-1].claim == span.claim and spans[-1].end == span.start:
        spans[-1] = Span(spans[-1].start, span.end, span.claim)
    else:
        spans.append(span)


def outermost(spans: Iterable[Span]) -> list[Span]:
    """The spans of points that lie in no other of them; touching ones stay apart."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not found or span.start >= found[-1].end:
            found.append(span)
    return found
