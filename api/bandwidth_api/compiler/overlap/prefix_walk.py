"""Walks the prefixes of one family in the order of addresses, outer before inner, and finds who wins at each. Pure.

All strips of ports are handled at once: a set of strips is a number, a *mask*.

    bit 0      ports that no limit names: the table without ports
    bit k+1    strip k

A prefix that an entry excepts is walked too: there the entry loses what it had won, and the next in rank takes over.
Takes steps in proportion to the claims plus what is written, never claims times strips.
"""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bandwidth_api.compiler.overlap import intervals, losing_limits, port_strips
from bandwidth_api.compiler.overlap.or_tree import OrTree
from bandwidth_api.plan import ClassKey, PlanEntry, Prefix

Entries = dict[Prefix, ClassKey | None]
_WITHOUT_PORTS = 1  # the mask of the table without ports


class Field(NamedTuple):
    """Everything that the walk needs. Limits are numbered by age."""

    entries: Sequence[PlanEntry]  # by limit
    limit_of: Sequence[int]  # by claim
    key_of: Callable[[int], ClassKey]  # by claim; equal ones are the same object
    masks: Sequence[int]  # by limit: the bits that it claims, wherever it does
    space: intervals.Space
    claimed: Sequence[Sequence[int]]  # by point: claims to exactly it, by rank
    excepted: Sequence[Sequence[int]]  # by point: the limits that except exactly it
    strips: Sequence[port_strips.Selector]


class _Place:
    """A prefix around the current one, and what changed there: `touched` bits have another winner than outside."""

    __slots__ = ("claims", "end", "excepted", "hollow", "index", "keyed", "losing", "names", "touched", "tree", "won")

    def __init__(self, index: int, end: int, hollow: bool, claims: Sequence[int], excepted: Sequence[int]) -> None:
        self.index, self.end, self.hollow, self.claims, self.excepted = index, end, hollow, claims, excepted
        self.tree: OrTree | None = None  # of the claims' masks, without those of limits that except this place
        self.touched = 0
        self.keyed = 0  # the bits that have a class here
        self.losing = 0  # what limits claim here that others win, if they claim nothing outside
        self.won: _Won | None = None
        self.names: dict[ClassKey, int] = {}


class _Won:
    """The winners of the bits that a place touched, the best first."""

    __slots__ = ("_tree", "by_limit", "masks", "numbers", "sums")

    def __init__(self, numbers: list[int], masks: list[int], by_limit: dict[int, int]) -> None:
        self.numbers, self.masks, self.by_limit = numbers, masks, by_limit  # numbers of claims
        self.sums = list(itertools.accumulate(masks, operator.or_))  # the masks of the claims up to here together
        self._tree: OrTree | None = None

    def first(self, mask: int) -> int:
        """Return the first that won a bit of the mask; -1 if none did."""
        if self._tree is None:
            self._tree = OrTree(self.masks)
        return self._tree.first(mask)


class Walk:
    """The walk from the first point to the last; `groups`, `events` and `before` are its results."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._path: list[_Place] = []  # around the present point, outermost first, the point itself included
        self._touching: list[_Place] = []  # those of them that changed something
        self._out = [0] * len(field.entries)  # by limit: how many of them it excepts
        self._standing: list[list[tuple[_Place, int]]] = [[] for _ in field.entries]  # by limit: its claims there
        self.groups: dict[int, Entries] = {}  # by mask: the entries of the tables of all its bits
        self.events: list[losing_limits.Event] = []
        # By limit: who had won what it claims outermost, before it came to it.
        self.before: dict[int, set[int]] = {}
        self._places_left = [losing_limits.PLACES_MAX] * len(field.entries)
        self._repeats_left = losing_limits.REPEATS_MAX

    def all(self) -> None:
        field, space = self._field, self._field.space
        for index, end in enumerate(space.ends):
            while self._path and self._path[-1].end <= index:
                self._leave()
            claims = field.claimed[index]
            if end == index + 1 and not self._path and len(claims) == 1 and not field.excepted[index]:
                limit = field.limit_of[claims[0]]
                mask = field.masks[limit] if field.entries[limit].ports else _WITHOUT_PORTS
                self.groups.setdefault(mask, {})[space.points[index]] = field.key_of(claims[0])
            else:
                place = _Place(index, end, space.hollow[index], claims, field.excepted[index])
                if end > index + 1 or place.excepted:
                    self._enter(place)
                else:
                    self._pass(place)

    def _leave(self) -> None:
        place = self._path.pop()
        if self._touching and self._touching[-1] is place:
            self._touching.pop()
        for number in place.claims:
            self._standing[self._field.limit_of[number]].pop()
        for limit in place.excepted:
            self._out[limit] -= 1
            if not self._out[limit]:
                for around, at in self._standing[limit]:
                    if around.tree is not None:
                        around.tree.put(at, self._field.masks[limit])

    def _enter(self, place: _Place) -> None:
        field = self._field
        lost = 0
        for limit in place.excepted:
            self._out[limit] += 1
            if self._out[limit] == 1 and self._standing[limit]:
                lost |= self._won_by(limit)
                for around, at in self._standing[limit]:
                    if around.tree is not None:
                        around.tree.put(at, 0)
        candidates = self._next_in_rank(lost) if lost else []
        candidates += [(n, -1) for n in place.claims if not self._out[field.limit_of[n]]]
        candidates.sort()
        place.keyed = self._touching[-1].keyed if self._touching else 0
        self._decide(place, candidates, lost)
        for at, number in enumerate(place.claims):
            self._standing[field.limit_of[number]].append((place, at))
        self._path.append(place)
        if not place.hollow:
            self._write(place)

    def _pass(self, place: _Place) -> None:
        """Enter and leave a place that contains no other and excepts nothing."""
        limit_of, out = self._field.limit_of, self._out
        place.keyed = self._touching[-1].keyed if self._touching else 0
        self._decide(place, [(n, -1) for n in place.claims if not out[limit_of[n]]], 0)
        self._write(place)
        if place.touched:
            self._touching.pop()

    def _decide(self, place: _Place, candidates: Sequence[tuple[int, int]], lost: int) -> None:
        """Decide who wins here that did not win outside. A candidate: its claim and the bits that it takes over."""
        field = self._field
        numbers, masks, taken = [], [], 0
        edge: list[tuple[int, int]] = []
        for number, given in candidates:
            limit = field.limit_of[number]
            wanted = field.masks[limit] if given < 0 else given
            mask = wanted & ~taken
            if mask and given < 0:
                mask &= ~(self._better(number, mask & ~lost))
            if given < 0 and mask != wanted and not self._standing[limit]:
                edge.append((limit, wanted & ~mask))
            if mask:
                numbers.append(number)
                masks.append(mask)
                taken |= mask
        place.touched = taken | lost
        if place.touched:
            by_limit: dict[int, int] = {}
            for number, mask in zip(numbers, masks, strict=True):
                limit = field.limit_of[number]
                by_limit[limit] = by_limit.get(limit, 0) | mask
                with_class = mask if field.entries[limit].ports else mask & _WITHOUT_PORTS
                name = field.key_of(number)
                place.names[name] = place.names.get(name, 0) | with_class
            place.won = _Won(numbers, masks, by_limit)
            place.keyed &= ~place.touched
            for mask in place.names.values():
                place.keyed |= mask
            self._touching.append(place)
        for limit, mask in edge:
            if place.hollow:
                place.losing |= mask
            elif (
                self._places_left[limit] > 0
                and len(names := self.before.setdefault(limit, set())) < losing_limits.NAMED_MAX
            ):
                for winner, _ in self._winners(mask, losing_limits.NAMED_MAX - len(names)):
                    names.add(winner)
                    self._places_left[limit] -= 1

    def _better(self, number: int, mask: int) -> int:
        """Return the bits of the mask whose winner outside has a lower number."""
        found = 0
        for place in reversed(self._touching):
            if not mask:
                break
            seen = mask & place.touched
            if seen and place.won is not None:
                at = bisect.bisect_left(place.won.numbers, number)
                if at:
                    found |= seen & place.won.sums[at - 1]
            mask ^= seen
        return found

    def _won_by(self, limit: int) -> int:
        """Return the bits that a limit has won around the current point."""
        found, left = 0, self._field.masks[limit]
        for place in reversed(self._touching):
            if place.won is not None:
                found |= left & place.won.by_limit.get(limit, 0)
            left &= ~place.touched
            if not left:
                break
        return found

    def _next_in_rank(self, lost: int) -> list[tuple[int, int]]:
        """Yield the claims around the current point that take over lost bits, each with its bits, disjoint."""
        found: list[tuple[int, int]] = []
        for place in self._path:
            if not place.claims:
                continue
            if place.tree is None:
                limits = [self._field.limit_of[n] for n in place.claims]
                place.tree = OrTree([0 if self._out[limit] else self._field.masks[limit] for limit in limits])
            left = lost
            while left and (at := place.tree.first(left)) >= 0:
                number = place.claims[at]
                hit = left & self._field.masks[self._field.limit_of[number]]
                found.append((number, hit))
                left ^= hit
        found.sort()
        best, left = [], lost
        for number, mask in found:
            if mask & left:
                best.append((number, mask & left))
                left &= ~mask
        return best

    def _winners(self, mask: int, most: int) -> Iterator[tuple[int, int]]:
        """Return at most so many of the limits that win bits of the mask at the current point, each with its bits.

        Called while the current place is the last that touches.
        """
        for place in reversed(self._touching):
            seen = mask & place.touched
            mask ^= seen
            if place.won is None:
                continue
            while seen and most and (at := place.won.first(seen)) >= 0:
                won = place.won.masks[at] & seen
                yield self._field.limit_of[place.won.numbers[at]], won
                seen ^= won
                most -= 1
            if not mask or not most:
                return

    def _write(self, place: _Place) -> None:
        """Write the entries of this point that differ from the next prefix around it with addresses of its own."""
        field = self._field
        outer = field.space.outer[place.index]
        changed, repeated = 0, 0
        pieces: dict[ClassKey, int] = {}
        for around in reversed(self._touching):
            if around.index <= outer:
                break
            fresh = around.touched & ~changed
            if around.won is not None and fresh:
                for number, won in zip(around.won.numbers, around.won.masks, strict=True):
                    if won & fresh:
                        self.events.append(losing_limits.Event(place.index, field.limit_of[number], won & fresh))
                for name, won in around.names.items():
                    if won & fresh:
                        pieces[name] = pieces.get(name, 0) | won & fresh
            changed |= fresh
        if place.index - 1 != outer:
            for around in reversed(self._path):
                if around.index <= outer:
                    break
                repeated |= around.losing
        if repeated & ~changed and self._repeats_left > 0:
            for limit, won in self._winners(repeated & ~changed, self._repeats_left):
                self.events.append(losing_limits.Event(place.index, limit, won))
                self._repeats_left -= 1
        if not changed:
            return
        outside = [around for around in self._touching if around.index <= outer]
        point, without = field.space.points[place.index], changed
        for name, mask in pieces.items():
            without &= ~mask
            new = mask & ~_named(outside, name)
            if new:
                self.groups.setdefault(new, {})[point] = name
        without &= outside[-1].keyed if outside else 0
        if without:
            self.groups.setdefault(without, {})[point] = None


def _named(places: Sequence[_Place], name: ClassKey) -> int:
    """Return the bits that have this class at the last of these places."""
    found, seen = 0, 0
    for place in reversed(places):
        found |= place.names.get(name, 0) & ~seen
        seen |= place.touched
    return found
