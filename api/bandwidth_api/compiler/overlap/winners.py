"""Decides which entry wins where entries of one family overlap: tables of the winners, and who overrides whom.

A *claim* is one prefix of one entry. All claims are numbered by rank, so that the lower number wins everywhere:
higher priority, then longer prefix, then the older limit, then its name. So within an entry the longest prefix that
contains an address always wins.

Pure. `prefix_walk` goes over the prefixes; `overlap` decides which entries need this at all, and `overlap_budget` keeps
the number of table entries bounded.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.compiler.overlap import intervals, losing_limits, port_strips, prefix_walk
from bandwidth_api.plan import ClassKey, PlanEntry, Prefix, Sharing, Table

_LENGTHS = 129  # of prefixes
_NONE: list[int] = []  # shared, and never changed


class Claim(NamedTuple):
    prefix: Prefix
    entry: PlanEntry


class Outcome(NamedTuple):
    tables: tuple[Table, ...]
    classes: tuple[ClassKey, ...]  # that the tables name, each once, in the order of their first addresses
    overridden: Mapping[str, set[str]]  # by limit; at most losing_limits.NAMED_MAX winners


def key(entry: PlanEntry, client: Prefix) -> ClassKey:
    """Return the class key of one client of an entry."""
    return ClassKey(entry.limit, "" if entry.sharing is Sharing.SHARED else addresses.write(client))


def settle(family: int, claims: Collection[Claim]) -> Outcome:
    """Return the tables of distinct claims of one family, and which limits are overridden."""
    if not claims:
        return Outcome((), (), {})
    field = _field(family, claims)
    walked = prefix_walk.Walk(field)
    walked.all()
    limits = [entry.limit for entry in field.entries]
    losers = losing_limits.overridden(walked.events, walked.before, _stakes(field))
    return Outcome(
        tuple(_tables(family, walked.groups, field.strips)),
        tuple(dict.fromkeys(k for entries in walked.groups.values() for k in entries.values() if k is not None)),
        {limits[loser]: {limits[winner] for winner in winners} for loser, winners in losers.items()},
    )


def _field(family: int, claims: Collection[Claim]) -> prefix_walk.Field:
    entries = sorted({id(claim.entry): claim.entry for claim in claims}.values(), key=lambda e: (e.created_at, e.limit))
    numbers = {id(entry): number for number, entry in enumerate(entries)}
    count = len(entries)
    ranks = {id(entry): -entry.priority * _LENGTHS * count + number for number, entry in enumerate(entries)}
    ranked = sorted(claims, key=lambda claim: ranks[id(claim[1])] - claim[0][2] * count)
    excepts = [(p, n) for n, e in enumerate(entries) if e.excepted for p in set(e.excepted) if p.family == family]
    space = intervals.space(itertools.chain((claim[0] for claim in ranked), (p for p, _ in excepts)))
    shared = [ClassKey(entry.limit, "") if entry.sharing is Sharing.SHARED else None for entry in entries]
    limit_of = [numbers[id(claim[1])] for claim in ranked]
    keys = _Keys(ranked, [shared[n] for n in limit_of])
    claimed = _by_point(space, ((claim[0], n) for n, claim in enumerate(ranked)))
    normal = {chosen: port_strips.normal(chosen) for chosen in {entry.ports for entry in entries if entry.ports}}
    strips = port_strips.strips(normal.values())
    every = (1 << (len(strips.ports) + 1)) - 1
    masks = [strips.masks[normal[entry.ports]] << 1 if entry.ports else every for entry in entries]
    return prefix_walk.Field(entries, limit_of, keys.of, masks, space, claimed, _by_point(space, excepts), strips.ports)


class _Keys:
    """The class key of each claim, made when it is first used: most of many overlapping claims win nowhere."""

    def __init__(self, claims: Sequence[Claim], known: list[ClassKey | None]) -> None:
        self._claims, self._known = claims, known

    def of(self, claim: int) -> ClassKey:
        known = self._known[claim]
        if known is None:
            prefix, entry = self._claims[claim]
            known = self._known[claim] = key(entry, prefix)
        return known


def _by_point(space: intervals.Space, found: Iterable[tuple[Prefix, int]]) -> list[list[int]]:
    """Return by point the numbers that were found with it, in order."""
    by_point = [_NONE] * len(space.points)
    position = space.position
    for prefix, number in found:
        at = position[prefix]
        numbers = by_point[at]
        if numbers is _NONE:
            by_point[at] = [number]
        else:
            numbers.append(number)
    return by_point


def _stakes(field: prefix_walk.Field) -> Iterator[losing_limits.Stake]:
    """Return where each limit claims addresses, without those that it excepts."""
    space = field.space
    spans: list[list[intervals.Span]] = [[] for _ in field.entries]
    holes: list[list[intervals.Span]] = [[] for _ in field.entries]
    for into, found in ((spans, field.claimed), (holes, field.excepted)):
        for at, numbers in enumerate(found):
            for number in numbers:
                limit = field.limit_of[number] if into is spans else number
                if not into[limit] or into[limit][-1].end <= at:  # else it lies in one that is there
                    into[limit].append(intervals.Span(at, space.ends[at]))
    for limit, mask in enumerate(field.masks):
        yield losing_limits.Stake(limit, mask, intervals.without(spans[limit], holes[limit]))


def _tables(
    family: int, groups: Mapping[int, prefix_walk.Entries], strips: Sequence[port_strips.Selector]
) -> Iterator[Table]:
    """Return one table for all strips that have the same entries; the table without ports is separate."""
    of_bit: dict[int, list[int]] = {}
    for mask in groups:
        for bit in port_strips.bits(mask):
            of_bit.setdefault(bit, []).append(mask)
    alike: dict[tuple[int, ...], list[int]] = {}
    for bit, masks in of_bit.items():
        alike.setdefault(tuple(map(id, masks)) if bit else (), []).append(bit)
    for together in alike.values():
        entries: prefix_walk.Entries = {}
        for mask in of_bit[together[0]]:
            entries.update(groups[mask])
        chosen = port_strips.normal(itertools.chain.from_iterable(strips[bit - 1] for bit in together if bit))
        yield Table(family, chosen, entries)
