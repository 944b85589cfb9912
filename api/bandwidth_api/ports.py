"""Port selectors: any number of overlapping ones as pairwise disjoint sets of ports. Pure.

A *selector* is a normal form: ranges sorted, none touching another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from bandwidth_api.plan import PortRange

Selector = tuple[PortRange, ...]


class Atom(NamedTuple):
    """A set of ports that no selector divides."""

    ports: Selector
    chosen_by: frozenset[int]  # indices of the selectors that contain these ports


def normal(ranges: Iterable[PortRange]) -> Selector:
    """The same ports as sorted ranges, none overlapping or touching another."""
    merged: list[PortRange] = []
    for r in sorted(ranges):
        if merged and merged[-1].protocol == r.protocol and merged[-1].last + 1 >= r.first:
            merged[-1] = merged[-1]._replace(last=max(merged[-1].last, r.last))
        else:
            merged.append(r)
    return tuple(merged)


def atoms(selectors: Iterable[Selector]) -> list[Atom]:
    """The coarsest partition of all selected ports such that each selector is a union of its parts.

    In time proportional to the number of ranges plus the sizes of the answers' `chosen_by`.
    """
    starts: dict[tuple[str, int], list[int]] = {}
    ends: dict[tuple[str, int], list[int]] = {}
    for index, selector in enumerate(selectors):
        for protocol, first, last in selector:
            starts.setdefault((protocol, first), []).append(index)
            ends.setdefault((protocol, last + 1), []).append(index)
    by_choice: dict[frozenset[int], list[PortRange]] = {}
    open_selectors: set[int] = set()
    for border, following in itertools.pairwise(sorted(starts.keys() | ends.keys())):
        open_selectors.difference_update(ends.get(border, ()))
        open_selectors.update(starts.get(border, ()))
        if open_selectors:  # never across protocols: at the last border of one, all are closed
            piece = PortRange(border[0], border[1], following[1] - 1)
            by_choice.setdefault(frozenset(open_selectors), []).append(piece)
    return [Atom(normal(pieces), chosen_by) for chosen_by, pieces in by_choice.items()]
