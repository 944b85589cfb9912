"""Finds which limits lose somewhere, and to which others: a few names for each, not all. Pure.

`prefix_walk` records *events* in the order of points: from this point on inwards, this limit wins these strips, which
it did not win outside. A limit loses to the winners of the events within its claims, and to the winners around its
outermost claims. Looks at a bounded number of events for each limit.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bandwidth_api.compiler.overlap import intervals
from bandwidth_api.compiler.overlap.or_tree import OrTree

# How many winners are named for one overridden limit: all of them would be quadratic where many limits share a prefix.
NAMED_MAX = 16
PLACES_MAX = 128  # that are looked at for one limit after the first name is found
REPEATS_MAX = 4096  # events repeated for the parts of a prefix that has no addresses of its own


class Event(NamedTuple):
    """From this point on inwards, the limit `winner` wins these bits."""

    at: int  # point
    winner: int  # the number of a limit
    mask: int


class Stake(NamedTuple):
    """What one limit claims: the same bits in each of the spans, which are disjoint and in order."""

    limit: int
    mask: int
    spans: Iterable[intervals.Span]


def overridden(events: Sequence[Event], before: dict[int, set[int]], stakes: Iterable[Stake]) -> dict[int, set[int]]:
    """Return by losing limit some of the limits that win over it: all, if they are few.

    `before`: winners that are already known.
    """
    found = {limit: names for limit, names in before.items() if names}
    points = [event.at for event in events]
    winners = [event.winner for event in events]
    count = len(points)
    tree = OrTree([event.mask for event in events])
    for limit, mask, spans in stakes:
        names = found.get(limit, set())
        left = PLACES_MAX
        for start, end in spans:
            if len(names) >= NAMED_MAX or (left <= 0 and names):
                break
            at = bisect.bisect_left(points, start)
            while 0 <= (at := tree.first(mask, at)) < count and points[at] < end:
                left -= 1
                if winners[at] != limit:
                    names.add(winners[at])
                    if len(names) >= NAMED_MAX or left <= 0:
                        break
                at += 1
        if names:
            found[limit] = names
    return found
