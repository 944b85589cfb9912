"""Who wins where entries overlap, within one family: tables of the winners, and who is overridden by whom.

A *claim* is one prefix of one entry. All claims are numbered by rank, so that the lower number wins everywhere:
higher priority, then longer prefix, then the older limit, then its name. Within an entry the longest prefix that
holds an address therefore counts by itself. What an entry excepts is cut out of the spans of its claims.
Pure. `overlap` decides which entries need this at all.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api import addresses, ports, regions
from bandwidth_api.plan import ClassKey, PlanEntry, PortRange, Prefix, Sharing, Table
from bandwidth_api.regions import Span

# How many winners are named for one overridden limit: all of them would be quadratic where many limits share a prefix.
NAMED_MAX = 16

Entries = dict[Prefix, ClassKey | None]


class Claim(NamedTuple):
    prefix: Prefix
    entry: PlanEntry


class Outcome(NamedTuple):
    tables: tuple[Table, ...]
    overridden: Mapping[str, set[str]]  # by limit; the first NAMED_MAX winners in the order of addresses


def key(entry: PlanEntry, client: Prefix) -> ClassKey:
    """The class of one client of an entry."""
    return ClassKey(entry.limit, "" if entry.sharing is Sharing.SHARED else addresses.write(client))


def settle(family: int, claims: Collection[Claim]) -> Outcome:
    """The tables of these claims, all of one family."""
    if not claims:
        return Outcome((), {})
    contest = _contest(sorted(claims, key=_rank))
    overridden = _Overridden(contest)
    overridden.note(contest.portless, contest.base)
    everywhere = Span(0, len(contest.space.points), 0)
    tables: dict[ports.Selector, Entries] = {(): _entries(contest, contest.base, [everywhere])}
    by_content: dict[frozenset[tuple[Prefix, ClassKey | None]], ports.Selector] = {}
    won_by_ports: set[Span] = set()
    for atom, members in _atoms(contest.claims):
        upper = regions.winners(span for n in members for span in contest.spans[n])
        final = regions.over(upper, contest.base)
        overridden.note(members, final)
        won = [span for span in final if contest.claims[span.claim].entry.ports]
        won_by_ports.update(won)
        entries = _entries(contest, won, regions.outermost(contest.whole[n] for n in members))
        content = frozenset(entries.items())
        already = by_content.get(content, ())
        if already:
            del tables[already]
        by_content[content] = ports.normal((*already, *atom))
        tables[by_content[content]] = entries
    overridden.note_overlapping(contest.portless, won_by_ports)
    made = tuple(Table(family, selector, entries) for selector, entries in sorted(tables.items()) if entries)
    return Outcome(made, overridden.limits)


def _rank(claim: Claim) -> tuple[int, int, float, str]:
    entry = claim.entry
    return (-entry.priority, -claim.prefix.length, entry.created_at, entry.limit)


class _Contest(NamedTuple):
    claims: Sequence[Claim]  # by rank
    keys: Sequence[ClassKey]  # by claim; equal ones are the same object
    space: regions.Space
    whole: Sequence[Span]  # by claim: the points in its prefix
    spans: Sequence[list[Span]]  # by claim: the same without what its entry excepts
    portless: Sequence[int]  # the claims to every port
    base: Sequence[Span]  # who wins among these


def _contest(claims: Sequence[Claim]) -> _Contest:
    family = claims[0].prefix.family
    entries = {id(claim.entry): claim.entry for claim in claims}
    excepted = {i: [p for p in e.excepted if p.family == family] for i, e in entries.items() if e.excepted}
    space = regions.space(itertools.chain((claim.prefix for claim in claims), *excepted.values()))
    same: dict[ClassKey, ClassKey] = {}
    keys = [same.setdefault(k, k) for k in (key(c.entry, c.prefix) for c in claims)]
    holes = {i: sorted(space.span(p, 0) for p in prefixes) for i, prefixes in excepted.items()}
    whole = [space.span(claim.prefix, number) for number, claim in enumerate(claims)]
    spans = [
        regions.without(span, holes[id(claim.entry)]) if claim.entry.excepted else [span]
        for span, claim in zip(whole, claims, strict=True)
    ]
    portless = [n for n, claim in enumerate(claims) if not claim.entry.ports]
    base = regions.winners(span for n in portless for span in spans[n])
    return _Contest(claims, keys, space, whole, spans, portless, base)


def _atoms(claims: Sequence[Claim]) -> Iterator[tuple[ports.Selector, list[int]]]:
    """Each disjoint set of ports with the claims that want it, in an order that does not depend on the input's."""
    selectors: dict[tuple[PortRange, ...], ports.Selector] = {}
    members: dict[ports.Selector, list[int]] = {}
    for n, claim in enumerate(claims):
        if claim.entry.ports:
            if claim.entry.ports not in selectors:
                selectors[claim.entry.ports] = ports.normal(claim.entry.ports)
            members.setdefault(selectors[claim.entry.ports], []).append(n)
    by_selector = list(members.values())
    for atom in sorted(ports.atoms(members), key=lambda atom: atom.ports):
        yield atom.ports, [n for chosen in atom.chosen_by for n in by_selector[chosen]]


def _entries(contest: _Contest, won: Sequence[Span], within: Iterable[Span]) -> Entries:
    """As few table entries as say who won at every point `within` disjoint intervals; nobody wins outside."""
    entries: Entries = {}
    space, keys = contest.space, contest.keys
    for start, end, _ in within:
        winner: list[ClassKey | None] = [None] * (end - start)
        for s, e, claim in regions.overlapping(won, start, end):
            winner[s - start : e - start] = [keys[claim]] * (e - s)
        for i in range(start, end):
            outer = space.outer[i]
            if winner[i - start] is not (winner[outer - start] if outer >= start else None) and not space.hollow[i]:
                entries[space.points[i]] = winner[i - start]
    return entries


class _Overridden:
    """Notes which limits lose somewhere, and to whom."""

    def __init__(self, contest: _Contest) -> None:
        self._contest = contest
        self.limits: dict[str, set[str]] = {}

    def note(self, claims: Iterable[int], won: Sequence[Span]) -> None:
        """Look who wins, by `won`, in the spans of these claims."""
        for n in claims:
            for start, end, _ in self._contest.spans[n]:
                for span in regions.overlapping(won, start, end):
                    if self._lost(n, span, start, end):
                        break

    def note_overlapping(self, claims: Iterable[int], won: Collection[Span]) -> None:
        """The same where the `won` may overlap one another: one sweep over all starts."""
        if not won:
            return
        losers = [span for n in claims for span in self._contest.spans[n]]
        starts = sorted(
            itertools.chain(((s.start, 0, s) for s in won), ((s.start, 1, s) for s in losers)),
        )
        open_winners: list[tuple[int, Span]] = []  # heaps by end
        open_losers: list[tuple[int, Span]] = []
        for start, is_loser, span in starts:
            for heap in (open_winners, open_losers):
                while heap and heap[0][0] <= start:
                    heapq.heappop(heap)
            if is_loser:
                full = any(self._lost(span.claim, winner, span.start, span.end) for _, winner in open_winners)
                if not full:
                    heapq.heappush(open_losers, (span.end, span))
            else:
                left = [
                    (end, loser) for end, loser in open_losers if not self._lost(loser.claim, span, loser.start, end)
                ]
                if len(left) < len(open_losers):
                    heapq.heapify(left)
                    open_losers = left
                heapq.heappush(open_winners, (span.end, span))

    def _lost(self, n: int, winner: Span, start: int, end: int) -> bool:
        """Note that claim `n` loses to a winner in their common points; True when enough winners are named for it."""
        loser = self._contest.claims[n].entry.limit
        other = self._contest.claims[winner.claim].entry.limit
        named = self.limits.get(loser, set())
        meet = max(start, winner.start), min(end, winner.end)
        if other != loser and other not in named and self._contest.space.has_addresses(*meet):
            named = self.limits.setdefault(loser, named)
            named.add(other)
        return len(named) >= NAMED_MAX
