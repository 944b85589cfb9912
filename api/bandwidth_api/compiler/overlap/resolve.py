"""Resolves overlaps: from the entries in force on one node to tables in which no two entries conflict.

    entries ─┬─ prefixes that touch no other, every port, nothing excepted ──▶ straight into the table
             └─ all the rest ── budget ── winners.settle ──▶ tables
In a large installation nearly all are of the first kind, and from one call to the next usually one of ten thousand
changes: with the memo of the last call `resolve` computes only the difference. Its results do not depend on that.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import functools
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.compiler.overlap import budget, intervals, winners
from bandwidth_api.conditions import Problem
from bandwidth_api.plan import ClassKey, PlanEntry, Prefix, Resolution, Sharing, Table

# The bits of an address behind a prefix of each length, by family.
_HOST_BITS = {
    family: tuple((1 << (bits - length)) - 1 for length in range(bits + 1)) for family, bits in addresses.BITS.items()
}
_KEY = functools.partial(tuple.__new__, ClassKey)
_CLAIM = functools.partial(tuple.__new__, winners.Claim)
_CHANGES_MAX = 64  # more differences than this are not looked at one by one


@dataclasses.dataclass(slots=True)
class Memo:
    """What the last calls computed, for the next ones. It saves time only: the results are the same without it."""

    layout: _Layout | None = None
    # Of a plan that changes elsewhere, for some kinds of nodes: claims with the budget, and which limits are beyond it.
    counted: collections.deque[tuple[tuple[int, int, list[winners.Claim]], Mapping[str, Problem]]] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=32)
    )


def resolve(entries: Iterable[PlanEntry], memo: Memo | None = None) -> Resolution:
    """Return the tables of the entries in force, which must have unique names; their order does not matter.

    `overridden` names at most NAMED_MAX winners for one limit. Limits beyond the budget are in `left_out`.
    """
    memo = memo or Memo()
    by_id = _by_id(entries)
    memo.layout = (memo.layout and _changed(memo.layout, by_id)) or _laid_out(by_id)
    return memo.layout.resolution


def left_out(entries: Iterable[PlanEntry], memo: Memo | None = None) -> Mapping[str, Problem]:
    """Return the limits that `resolve` would leave out of all tables because of the budget, each with the reason."""
    memo = memo or Memo()
    given = tuple(entries)
    if not any(entry.ports for entry in given):
        return {}
    asked = (budget.FREE, budget.SHARED, _sorted(_by_id(given)).claims)
    for before, answer in memo.counted:
        if before == asked:
            return answer
    answer = budget.left_out(asked[2])
    memo.counted.appendleft((asked, answer))
    return answer


def _by_id(entries: Iterable[PlanEntry]) -> dict[int, PlanEntry]:
    given = tuple(entries)
    return dict(zip(map(id, given), given, strict=True))


class _Layout(NamedTuple):
    """An answer, and the values that are needed to change it."""

    by_id: Mapping[int, PlanEntry]
    clusters: Mapping[int, Sequence[Prefix]]  # by family: the prefixes that lie in no other, in order
    crowded: frozenset[Prefix]  # the prefixes that went through `winners`
    resolution: Resolution


class _Sorted(NamedTuple):
    """Entries sorted by whether their prefixes touch another one."""

    owners: dict[Prefix, PlanEntry]  # of prefixes that touch no other
    claims: list[winners.Claim]  # all the rest
    clusters: dict[int, list[Prefix]]
    crowded: set[Prefix]


def _sorted(by_id: Mapping[int, PlanEntry]) -> _Sorted:
    plain = [entry for entry in by_id.values() if not entry.ports and not entry.excepted]
    owners = {client: entry for entry in plain for client in entry.clients}
    claims: list[winners.Claim] = []
    touched: set[Prefix] = set()  # by something that is not plain, or by a second entry
    if len(owners) < sum(len(entry.clients) for entry in plain):
        for entry in plain:
            for client in dict.fromkeys(entry.clients):
                if owners[client] is not entry:
                    claims.append(winners.Claim(client, entry))
                    touched.add(client)
    if len(plain) < len(by_id):
        for entry in by_id.values():
            if entry.ports or entry.excepted:
                claims += map(_CLAIM, zip(dict.fromkeys(entry.clients), itertools.repeat(entry), strict=False))
                touched.update(entry.clients, entry.excepted)
    clusters, crowded = _clustered([*owners, *(touched - owners.keys())], touched)
    claims += [winners.Claim(prefix, owners.pop(prefix)) for prefix in crowded if prefix in owners]
    return _Sorted(owners, claims, clusters, crowded)


def _laid_out(by_id: Mapping[int, PlanEntry]) -> _Layout:
    """Compute the whole answer."""
    owners, claims, clusters, crowded = _sorted(by_id)
    beyond = budget.left_out(claims)
    if beyond:
        claims = [claim for claim in claims if claim.entry.limit not in beyond]
    keys = _keys(owners)
    entries: dict[int, dict[Prefix, ClassKey | None]] = {4: {}, 6: {}}
    for family, outermost in clusters.items():
        if not outermost:
            continue
        if not any(clusters[other] for other in clusters if other != family):
            entries[family].update(zip(owners, keys, strict=True))
        else:
            entries[family].update(item for item in zip(owners, keys, strict=True) if item[0][0] == family)
    classes = dict(zip(keys, owners.values(), strict=True))
    tables, overridden = _settled(claims, entries, classes)
    return _Layout(by_id, clusters, frozenset(crowded), Resolution(tables, classes, overridden, beyond))


def _keys(owners: Mapping[Prefix, PlanEntry]) -> list[ClassKey]:
    """Return the class keys of clients that no other entry claims."""
    if set(map(operator.attrgetter("sharing"), owners.values())) == {Sharing.SHARED}:
        limits = map(operator.attrgetter("limit"), owners.values())
        return list(
            map(_KEY, zip(limits, itertools.repeat(""), strict=False))
        )  # as winners.key, in a third of the time
    return [winners.key(entry, prefix) for prefix, entry in owners.items()]


def _settled(
    claims: Iterable[winners.Claim],
    entries: dict[int, dict[Prefix, ClassKey | None]],
    classes: dict[ClassKey, PlanEntry],
) -> tuple[tuple[Table, ...], dict[str, tuple[str, ...]]]:
    """Return all tables, and which limits are overridden; adds the contested ones to `entries` and `classes`."""
    tables: list[Table] = []
    overridden: dict[str, set[str]] = {}
    by_limit = {claim.entry.limit: claim.entry for claim in claims}
    for family, uncontested in entries.items():
        contested = [claim for claim in claims if claim.prefix.family == family]
        outcome = winners.settle(family, contested)
        classes.update((key, by_limit[key.limit]) for key in outcome.classes)
        for table in outcome.tables:
            if table.ports:
                tables.append(table)
            else:
                uncontested.update(table.entries)
        for limit, names in outcome.overridden.items():
            overridden.setdefault(limit, set()).update(names)
        tables.append(Table(family, (), uncontested))
    named = {limit: tuple(sorted(winners)) for limit, winners in sorted(overridden.items())}
    return _in_order(tables), named


def _in_order(tables: Iterable[Table]) -> tuple[Table, ...]:
    return tuple(sorted((t for t in tables if t.entries), key=lambda table: (table.family, table.ports)))


def _clustered(prefixes: Iterable[Prefix], touched: set[Prefix]) -> tuple[dict[int, list[Prefix]], set[Prefix]]:
    """Return the outermost prefixes by family, and all prefixes that are touched or share an address with another."""
    outermost: dict[int, list[Prefix]] = {4: [], 6: []}
    crowded: set[Prefix] = set(touched)
    ordered = intervals.in_order(prefixes)
    for family in outermost:
        candidates = [prefix for prefix in ordered if prefix[0] == family]
        if len({prefix[2] for prefix in candidates}) <= 1:
            outermost[family] = candidates
            continue
        host_bits = _HOST_BITS[family]
        found: list[Prefix] = []
        last = -1
        for prefix in candidates:
            if prefix[1] > last:
                found.append(prefix)
                last = prefix[1] | host_bits[prefix[2]]
            else:
                crowded.add(prefix)
                crowded.add(found[-1])
        outermost[family] = found
    return outermost, crowded


# ── what changed since the last answer ─────────────────────────────────────────────────────────────────────────


def _changed(layout: _Layout, by_id: Mapping[int, PlanEntry]) -> _Layout | None:
    """Return the layout changed to other entries if the difference is simple; else None."""
    gone = [layout.by_id[i] for i in layout.by_id.keys() - by_id.keys()]
    come = sorted((by_id[i] for i in by_id.keys() - layout.by_id.keys()), key=lambda entry: entry.limit)
    if not gone and not come:
        return layout
    if len(gone) + len(come) > _CHANGES_MAX:
        return None
    classes = dict(layout.resolution.classes)
    gone_by_limit = {entry.limit: entry for entry in gone}
    for entry in [e for e in come if e.limit in gone_by_limit and _claims_the_same(e, gone_by_limit[e.limit])]:
        come.remove(entry)
        gone.remove(gone_by_limit[entry.limit])
        for key in {winners.key(entry, client) for client in entry.clients} & classes.keys():
            classes[key] = entry
    if not gone and not come:
        return layout._replace(by_id=by_id, resolution=dataclasses.replace(layout.resolution, classes=classes))
    return _moved(layout, by_id, gone, come, classes)


def _claims_the_same(one: PlanEntry, other: PlanEntry) -> bool:
    """Return whether two entries are equal in everything that decides who wins; a rate, for example, does not."""
    return _CLAIMED(one) == _CLAIMED(other)


_CLAIMED = operator.attrgetter("limit", "clients", "excepted", "ports", "sharing", "priority", "created_at")


def _moved(
    layout: _Layout,
    by_id: Mapping[int, PlanEntry],
    gone: Sequence[PlanEntry],
    come: Sequence[PlanEntry],
    classes: dict[ClassKey, PlanEntry],
) -> _Layout | None:
    """Return the layout after plain entries that touch no other came or went; None if one of them is not plain."""
    if any(entry.ports or entry.excepted for entry in (*gone, *come)):
        return None
    if any(client in layout.crowded for entry in gone for client in entry.clients):
        return None
    families = {client.family for entry in (*gone, *come) for client in entry.clients}
    clusters = {family: list(found) for family, found in layout.clusters.items()}
    bases = {t.family: dict(t.entries) for t in layout.resolution.tables if t.family in families and not t.ports}
    for entry in gone:
        for client in set(entry.clients):
            outermost = clusters[client.family]
            del outermost[bisect.bisect_left(outermost, client)]
            del bases[client.family][client]
            classes.pop(winners.key(entry, client), None)
    for entry in come:
        for client in set(entry.clients):
            outermost = clusters[client.family]
            place = bisect.bisect_left(outermost, client)
            if any(_touch(client, neighbour) for neighbour in outermost[max(0, place - 1) : place + 1]):
                return None
            outermost.insert(place, client)
            key = winners.key(entry, client)
            bases.setdefault(client.family, {})[client] = key
            classes[key] = entry
    others = (t for t in layout.resolution.tables if t.ports or t.family not in families)
    tables = _in_order([*others, *(Table(family, (), entries) for family, entries in bases.items())])
    resolution = dataclasses.replace(layout.resolution, tables=tables, classes=classes)
    return layout._replace(by_id=by_id, clusters=clusters, resolution=resolution)


def _touch(one: Prefix, other: Prefix) -> bool:
    return addresses.covers(one, other) or addresses.covers(other, one)
