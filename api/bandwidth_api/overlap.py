"""Who wins where, on one node at one time: entries in force → tables that mean the same without any order.

    entries ─┬─ prefixes that touch no other, every port, nothing excepted ──▶ straight into the table
             └─ all the rest ── contest.settle ──▶ tables
In a large installation nearly all are of the first kind, and from one call to the next usually one of ten thousand
changes: `resolve` remembers its last answer and works out what differs. Nobody can tell but by the clock: it is
pure from outside, and safe in threads.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api import addresses, contest, regions
from bandwidth_api.plan import ClassKey, PlanEntry, Prefix, Resolution, Sharing, Table

# The bits of an address behind a prefix of each length, by family.
_HOST_BITS = {
    family: tuple((1 << (bits - length)) - 1 for length in range(bits + 1)) for family, bits in addresses.BITS.items()
}
_KEY = functools.partial(tuple.__new__, ClassKey)
_CHANGES_MAX = 64  # more differences than this are not looked at one by one


def resolve(entries: Iterable[PlanEntry]) -> Resolution:
    """Decide who wins where. Limits have unique names; the order of the entries does not matter.

    `overridden` names at most `contest.NAMED_MAX` winners for one limit.
    """
    global _last
    by_id = _by_id(entries)
    last = _last
    layout = last and _changed(last, by_id)
    _last = layout = layout or _laid_out(by_id)
    return layout.resolution


def resolve_anew(entries: Iterable[PlanEntry]) -> Resolution:
    """The same without a look at the last answer."""
    return _laid_out(_by_id(entries)).resolution


def _by_id(entries: Iterable[PlanEntry]) -> dict[int, PlanEntry]:
    given = tuple(entries)
    return dict(zip(map(id, given), given, strict=True))


class _Layout(NamedTuple):
    """An answer and what it takes to change it."""

    by_id: Mapping[int, PlanEntry]
    clusters: Mapping[int, Sequence[Prefix]]  # by family: the prefixes that lie in no other, in order
    crowded: frozenset[Prefix]  # the prefixes that went through `contest`
    resolution: Resolution


_last: _Layout | None = None


def _laid_out(by_id: Mapping[int, PlanEntry]) -> _Layout:
    """Work everything out."""
    plain = [entry for entry in by_id.values() if not entry.ports and not entry.excepted]
    owners = {client: entry for entry in plain for client in entry.clients}
    claims: list[contest.Claim] = []
    touched: set[Prefix] = set()  # by something that is not plain, or by a second entry
    if len(owners) < sum(len(entry.clients) for entry in plain):
        for entry in plain:
            for client in entry.clients:
                if owners[client] is not entry:
                    claims.append(contest.Claim(client, entry))
                    touched.add(client)
    if len(plain) < len(by_id):
        for entry in by_id.values():
            if entry.ports or entry.excepted:
                claims += [contest.Claim(client, entry) for client in entry.clients]
                touched.update(entry.clients, entry.excepted)
    clusters, crowded = _clustered([*owners, *(touched - owners.keys())], touched)
    claims += [contest.Claim(prefix, owners.pop(prefix)) for prefix in crowded if prefix in owners]
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
    return _Layout(by_id, clusters, frozenset(crowded), Resolution(tables, classes, overridden))


def _keys(owners: Mapping[Prefix, PlanEntry]) -> list[ClassKey]:
    """The classes of clients that nobody else claims."""
    if set(map(operator.attrgetter("sharing"), owners.values())) == {Sharing.SHARED}:
        limits = map(operator.attrgetter("limit"), owners.values())
        return list(
            map(_KEY, zip(limits, itertools.repeat(""), strict=False))
        )  # as contest.key, in a third of the time
    return [contest.key(entry, prefix) for prefix, entry in owners.items()]


def _settled(
    claims: Iterable[contest.Claim],
    entries: dict[int, dict[Prefix, ClassKey | None]],
    classes: dict[ClassKey, PlanEntry],
) -> tuple[tuple[Table, ...], dict[str, tuple[str, ...]]]:
    """All tables, and who is overridden; `entries` and `classes` come with the uncontested and leave complete."""
    tables: list[Table] = []
    overridden: dict[str, set[str]] = {}
    by_limit = {claim.entry.limit: claim.entry for claim in claims}
    for family, uncontested in entries.items():
        contested = [claim for claim in claims if claim.prefix.family == family]
        outcome = contest.settle(family, contested)
        for table in outcome.tables:
            classes.update((key, by_limit[key.limit]) for key in table.entries.values() if key is not None)
            if table.ports:
                tables.append(table)
            else:
                uncontested.update(table.entries)
        for limit, winners in outcome.overridden.items():
            overridden.setdefault(limit, set()).update(winners)
        tables.append(Table(family, (), uncontested))
    named = {limit: tuple(sorted(winners)) for limit, winners in sorted(overridden.items())}
    return _in_order(tables), named


def _in_order(tables: Iterable[Table]) -> tuple[Table, ...]:
    return tuple(sorted((t for t in tables if t.entries), key=lambda table: (table.family, table.ports)))


def _clustered(prefixes: Iterable[Prefix], touched: set[Prefix]) -> tuple[dict[int, list[Prefix]], set[Prefix]]:
    """The outermost prefixes by family, and all prefixes that are touched or share an address with another one."""
    outermost: dict[int, list[Prefix]] = {4: [], 6: []}
    crowded: set[Prefix] = set(touched)
    ordered = regions.in_order(prefixes)
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
    """The layout of other entries, if they differ in ways that are easy to follow; else None."""
    gone = [layout.by_id[i] for i in layout.by_id.keys() - by_id.keys()]
    come = [by_id[i] for i in by_id.keys() - layout.by_id.keys()]
    if not gone and not come:
        return layout
    if len(gone) + len(come) > _CHANGES_MAX:
        return None
    classes = dict(layout.resolution.classes)
    gone_by_limit = {entry.limit: entry for entry in gone}
    for entry in [e for e in come if e.limit in gone_by_limit and _claims_the_same(e, gone_by_limit[e.limit])]:
        come.remove(entry)
        gone.remove(gone_by_limit[entry.limit])
        for key in {contest.key(entry, client) for client in entry.clients} & classes.keys():
            classes[key] = entry
    if not gone and not come:
        return layout._replace(by_id=by_id, resolution=dataclasses.replace(layout.resolution, classes=classes))
    return _moved(layout, by_id, gone, come, classes)


def _claims_the_same(one: PlanEntry, other: PlanEntry) -> bool:
    """Whether nothing differs that decides who wins where; a rate, for example, does not."""
    return _CLAIMED(one) == _CLAIMED(other)


_CLAIMED = operator.attrgetter("limit", "clients", "excepted", "ports", "sharing", "priority", "created_at")


def _moved(
    layout: _Layout,
    by_id: Mapping[int, PlanEntry],
    gone: Sequence[PlanEntry],
    come: Sequence[PlanEntry],
    classes: dict[ClassKey, PlanEntry],
) -> _Layout | None:
    """The layout when plain entries that touch no other went away or came; None if one of them is not so."""
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
            del outermost[_place(outermost, client)]
            del bases[client.family][client]
            classes.pop(contest.key(entry, client), None)
    for entry in come:
        for client in set(entry.clients):
            outermost = clusters[client.family]
            place = _place(outermost, client)
            if any(_touch(client, neighbour) for neighbour in outermost[max(0, place - 1) : place + 1]):
                return None
            outermost.insert(place, client)
            key = contest.key(entry, client)
            bases.setdefault(client.family, {})[client] = key
            classes[key] = entry
    others = (t for t in layout.resolution.tables if t.ports or t.family not in families)
    tables = _in_order([*others, *(Table(family, (), entries) for family, entries in bases.items())])
    resolution = dataclasses.replace(layout.resolution, tables=tables, classes=classes)
    return layout._replace(by_id=by_id, clusters=clusters, resolution=resolution)


def _place(outermost: Sequence[Prefix], prefix: Prefix) -> int:
    """Where a prefix is, or would be, in the order of addresses."""
    return bisect.bisect_left(outermost, prefix)


def _touch(one: Prefix, other: Prefix) -> bool:
    return addresses.covers(one, other) or addresses.covers(other, one)
