"""Bounds the number of table entries of overlapping limits with ports: which limits are left out beyond it. Pure.

Where port ranges cross, every address that several limits share is written once for each strip of ports: a few limits
with many networks and ranges each would need more entries than a kernel can hold. Each limit may use one entry for
every prefix that it names and `FREE` more; entries beyond that come from `SHARED`, which all limits of a family share.
Where that is used up, the newest limit of the most expensive crowd (limits joined by networks that touch) is left out,
then the next one, until the rest fits. A limit without ports, or within its free entries, is never left out.

Only counts: the number is an upper bound of the entries that the tables will have.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bandwidth_api import addresses
from bandwidth_api.compiler.overlap import intervals, port_strips
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.plan import PlanEntry, Prefix

if TYPE_CHECKING:
    from bandwidth_api.compiler.overlap.winners import Claim

FREE = 32  # entries of one limit, beyond one for each prefix that it names
SHARED = 131_072  # entries of all limits of one family together, beyond the free ones
# A limit that is left out removes port borders that made others dear: entries are counted again when they are down to
# one in so many, not only at the end.
_CLOSER = 4


def left_out(claims: Iterable[Claim]) -> dict[str, Problem]:
    """Return the limits to leave out, by name, each with the reason; `claims` are all claims that touch another.

    A limit that exceeds the budget of one family is left out in both.
    """
    beyond: dict[str, int] = {}
    by_family: dict[int, list[Claim]] = {}
    for claim in claims:
        by_family.setdefault(claim.prefix.family, []).append(claim)
    for family, found in sorted(by_family.items()):
        beyond |= _left_out(family, found)
    return {limit: _problem(entries) for limit, entries in beyond.items()}


def _problem(entries: int) -> Problem:
    return Problem(
        Reason.OVERLAP_BUDGET,
        "left out, because its addresses and port ranges cross those of other limits so often that it would need"
        f" {entries:,} table entries beyond its own {FREE}, and the budget of {SHARED:,} that all limits of a node have"
        " together is used up by older ones; write fewer clients or port ranges, or the ranges that the others have",
        "spec.egress.ports",
    )


def _left_out(family: int, claims: Collection[Claim]) -> dict[str, int]:
    """Return by limit to leave out the number of entries that it would need."""
    dialled = {id(claim.entry): claim.entry for claim in claims if claim.entry.ports}
    if not dialled or _surely_fits(family, claims, dialled.values()):
        return {}
    beyond: dict[str, int] = {}
    staying = sorted(dialled.values(), key=_age)
    while True:
        crowd = _crowd(family, claims, staying)
        if _fits(crowd):
            return beyond
        costs = _costs(crowd)
        order = _newest_first(crowd.members, costs, max(SHARED, _total(costs) // _CLOSER))
        needed = _needed(crowd, order)
        beyond |= {staying[at].limit: costs[at].own for at in order[:needed]}
        if needed < len(order):
            return beyond
        claims = [claim for claim in claims if claim.entry.limit not in beyond]
        staying = [entry for entry in staying if entry.limit not in beyond]


def _surely_fits(family: int, claims: Collection[Claim], dialled: Collection[PlanEntry]) -> bool:
    """Return True if the claims certainly fit, found without counting: few different ports, or no nesting."""
    points = {claim[0] for claim in claims}
    entries = {id(claim[1]): claim[1] for claim in claims}
    points.update(p for entry in entries.values() for p in entry.excepted if p.family == family)
    normal = {chosen: port_strips.normal(chosen) for chosen in {entry.ports for entry in dialled}}
    masks = port_strips.masks(normal.values())
    strips = max(masks.values()).bit_length()
    lengths = len({point[2] for point in points})
    if strips * len(points) * lengths <= SHARED:  # each point is written at most once for each one around it
        return True
    sizes = {chosen: masks[selector].bit_count() for chosen, selector in normal.items()}
    return lengths == 1 and sum(len(entry.clients) * sizes[entry.ports] for entry in dialled) <= SHARED


def _age(entry: PlanEntry) -> tuple[float, str]:
    return entry.created_at, entry.limit


def _needed(crowd: _Crowd, order: Sequence[int]) -> int:
    """Return how many of these, in this order, must be left out so that the rest fits; all if that is not enough."""
    too_few, enough = 0, len(order)
    if not _fits(_without(crowd, order)):
        return enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _fits(_without(crowd, order[:middle])):
            enough = middle
        else:
            too_few = middle
    return enough


def _newest_first(members: Sequence[_Member], costs: Sequence[_Cost], goal: int) -> list[int]:
    """Return the limits to leave out until the costs are near the goal: each time the newest of the dearest crowd."""
    crossing: dict[int, list[int]] = {}
    totals: dict[int, int] = {}
    for at, (member, cost) in enumerate(zip(members, costs, strict=True)):
        if cost.own > 0:
            crossing.setdefault(member.crowd, []).append(at)
            totals[member.crowd] = totals.get(member.crowd, 0) + cost.added
    # What a limit removes is known only by counting again: here all of a crowd count alike.
    shares = {crowd: -(-total // len(crossing[crowd])) for crowd, total in totals.items()}
    heap = [(-total, crowd) for crowd, total in totals.items() if total]
    heapq.heapify(heap)
    left = _total(costs)
    gone: list[int] = []
    while left > goal and heap:
        total, crowd = heapq.heappop(heap)
        gone.append(crossing[crowd].pop())
        left -= min(shares[crowd], -total)
        if crossing[crowd] and total + shares[crowd] < 0:
            heapq.heappush(heap, (total + shares[crowd], crowd))
    return gone


class _Cost(NamedTuple):
    """The entries of a limit beyond its free ones."""

    own: int  # if it were alone, with the borders of all
    added: int  # that those of older limits do not hold already


def _total(costs: Iterable[_Cost]) -> int:
    return sum(cost.added for cost in costs)


class _Member(NamedTuple):
    """A limit with ports; places are the points of a space."""

    selector: port_strips.Selector
    claimed: Sequence[int]
    excepted: Sequence[int]
    crowd: int  # equal for limits that are joined by prefixes that touch


class _Crowd(NamedTuple):
    members: Sequence[_Member]  # the oldest first
    space: intervals.Space
    portless: Collection[int]  # the places of limits without ports
    weights: Sequence[int]  # by place: how many entries one strip that is claimed there may come to


def _crowd(family: int, claims: Collection[Claim], dialled: Sequence[PlanEntry]) -> _Crowd:
    wanted: dict[int, list[Prefix]] = {id(entry): [] for entry in dialled}
    portless: set[Prefix] = set()
    others: dict[int, PlanEntry] = {}
    for prefix, entry in claims:
        if entry.ports:
            wanted[id(entry)].append(prefix)
        else:
            portless.add(prefix)
            others[id(entry)] = entry
    portless.update(p for entry in others.values() for p in entry.excepted if p.family == family)
    excepted = [[p for p in entry.excepted if p.family == family] for entry in dialled]
    space = intervals.space(itertools.chain(portless, *wanted.values(), *excepted))
    outermost: list[int] = []
    for at, around in enumerate(space.around):
        outermost.append(at if around < 0 else outermost[around])
    normal = {chosen: port_strips.normal(chosen) for chosen in {entry.ports for entry in dialled}}
    joined = _Joined(len(space.points))
    members = []
    for entry, excepts in zip(dialled, excepted, strict=True):
        claimed = [space.position[prefix] for prefix in dict.fromkeys(wanted[id(entry)])]
        without = [space.position[prefix] for prefix in dict.fromkeys(excepts)]
        members.append(_Member(normal[entry.ports], claimed, without, outermost[claimed[0]]))
        for place in {outermost[place] for place in claimed}:
            joined.join(members[-1].crowd, place)
    members = [member._replace(crowd=joined.first(member.crowd)) for member in members]
    places = {space.position[prefix] for prefix in portless}
    return _Crowd(members, space, places, _weights(space, places, members))


def _without(crowd: _Crowd, gone: Collection[int]) -> _Crowd:
    """Return the crowd without some members, for the costs only: which members are joined is not computed again."""
    names = set(gone)
    members = [member for at, member in enumerate(crowd.members) if at not in names]
    if True not in crowd.space.hollow:  # then a prefix weighs the same with any other limits
        return crowd._replace(members=members)
    return crowd._replace(members=members, weights=_weights(crowd.space, crowd.portless, members))


def _fits(crowd: _Crowd) -> bool:
    """Return whether the costs are within the budget; stops counting as soon as that is known."""
    masks = port_strips.masks(member.selector for member in crowd.members)
    counted: dict[int, int] = {}
    holes: dict[int, int] = {}
    total = 0
    for selector, claimed, excepted, _ in crowd.members:
        added = _added(counted, claimed, masks[selector], crowd.weights)
        added += _added(holes, excepted, masks[selector], crowd.weights)
        total += max(0, added - len(claimed) - len(excepted) - FREE)
        if total > SHARED:
            return False
    return True


def _costs(crowd: _Crowd) -> list[_Cost]:
    """Return the cost of each limit, the oldest first."""
    masks = port_strips.masks(member.selector for member in crowd.members)
    counted: dict[int, int] = {}  # by place: the strips that are counted there already
    holes: dict[int, int] = {}  # the same of what is excepted
    costs = []
    for selector, claimed, excepted, _ in crowd.members:
        mask = masks[selector]
        added = _added(counted, claimed, mask, crowd.weights) + _added(holes, excepted, mask, crowd.weights)
        whole = mask.bit_count() * sum(crowd.weights[place] for place in (*claimed, *excepted))
        free = len(claimed) + len(excepted) + FREE
        costs.append(_Cost(max(0, whole - free), max(0, added - free)))
    return costs


def _added(counted: dict[int, int], places: Iterable[int], mask: int, weights: Sequence[int]) -> int:
    """Count the entries that the strips of a mask add at these places, and mark them as counted."""
    added = 0
    whole = mask.bit_count()
    for place in places:
        before = counted.get(place)
        if before is None:
            counted[place] = mask
            added += whole * weights[place]
        elif before is not mask:
            new = mask & ~before
            if new:
                counted[place] = before | new
                added += new.bit_count() * weights[place]
    return added


def _weights(space: intervals.Space, portless: Collection[int], members: Iterable[_Member]) -> list[int]:
    """Return the weight of each place, as if only the places of these limits existed."""
    count = len(space.points)
    here = bytearray(count)
    for place in itertools.chain(portless, *(places for _, *both, _ in members for places in both)):
        here[place] = 1
    written = [1] * count
    if True in space.hollow:  # what is claimed where no address is left is written at each place directly inside
        around: list[int] = []
        for at in space.around:
            around.append(at if at < 0 or here[at] else around[at])
        left = [addresses.size(point) for point in space.points]
        inside = [0] * count
        for at in range(count - 1, -1, -1):
            if not left[at]:
                written[at] = inside[at]
            if here[at] and (outside := around[at]) >= 0:
                left[outside] -= addresses.size(space.points[at])
                inside[outside] += written[at]
    if not portless:
        return written
    # A limit without ports that wins inside of one with ports is a hole in each of its strips.
    holes = [0] * count
    for place in portless:
        holes[place] = written[place]
    sums = list(itertools.accumulate(holes, initial=0))
    return [written[at] + sums[end] - sums[at] for at, end in enumerate(space.ends)]


class _Joined:
    """Groups of numbers that were joined, directly or through others (union-find)."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def first(self, number: int) -> int:
        while (above := self._above[number]) != number:
            self._above[number] = self._above[above]
            number = above
        return number

    def join(self, one: int, other: int) -> None:
        self._above[self.first(one)] = self.first(other)
