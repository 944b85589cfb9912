"""Addresses that no limit may touch: a node's own, gateways, cluster nodes, and what an administrator names.

Pure: the addresses are given. A limit that touches one is rejected as a whole, because the part of it that is left
would not be what its author wrote.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.conditions import Reason, Rejection
from bandwidth_api.plan import PlanEntry, Prefix


def prefixes(texts: Iterable[str]) -> frozenset[Prefix]:
    """Addresses and CIDRs as prefixes; raises ValueError, with what would be right, for anything else."""
    return frozenset(addresses.parse(text) for text in texts)


def protected(entry: PlanEntry, protected_prefixes: Collection[Prefix]) -> Rejection | None:
    """The rejection of an entry whose clients, without what is excepted, hold a protected address; else None.

    Of a frozenset that is given again the index is kept.
    """
    index = _index(frozenset(protected_prefixes))
    for position, client in enumerate(entry.clients):
        for found in index.touching(client):
            common = max(client, found, key=lambda p: p.length)
            if not _within(common, entry.excepted):
                return Rejection(Reason.PROTECTED_ADDRESS, f"spec.clients[{position}]", _message(client, found))
    return None


def _message(client: Prefix, found: Prefix) -> str:
    why = "a protected address (of a node, of a gateway, or set by the administrator)"
    if addresses.covers(found, client):
        within = "is" if client == found else f"lies in {addresses.write(found)},"
        return f"{addresses.write(client)} {within} {why}; remove it from the clients"
    cidr = addresses.write_cidr(found)
    return f"{addresses.write(client)} contains {addresses.write(found)}, {why}; add {cidr} to spec.except"


def _within(prefix: Prefix, excepted: Iterable[Prefix]) -> bool:
    """Whether the excepted prefixes together cover every address of `prefix`."""
    covered = 0
    inside: list[Prefix] = []
    for e in sorted(set(excepted), key=lambda p: p.length):
        if addresses.covers(e, prefix):
            return True
        if addresses.covers(prefix, e) and not any(addresses.covers(outer, e) for outer in inside):
            inside.append(e)
            covered += addresses.size(e)
    return covered == addresses.size(prefix)


class _Index(NamedTuple):
    """Finds the protected prefixes that touch a client without looking at all of them."""

    ordered: list[Prefix]  # by family, network, length
    lengths: dict[int, tuple[int, ...]]  # by family
    known: frozenset[Prefix]

    def touching(self, client: Prefix) -> Iterator[Prefix]:
        bits = addresses.BITS[client.family]
        for length in self.lengths.get(client.family, ()):
            if length < client.length:
                around = Prefix(client.family, client.network >> (bits - length) << (bits - length), length)
                if around in self.known:
                    yield around
        end = addresses.last(client)
        position = bisect.bisect_left(self.ordered, client)
        while position < len(self.ordered):
            found = self.ordered[position]
            if found.family != client.family or found.network > end:
                return
            yield found
            position += 1


@functools.lru_cache(maxsize=4)
def _index(protected_prefixes: frozenset[Prefix]) -> _Index:
    lengths: dict[int, set[int]] = {}
    for p in protected_prefixes:
        lengths.setdefault(p.family, set()).add(p.length)
    by_family = {family: tuple(sorted(found)) for family, found in lengths.items()}
    return _Index(sorted(protected_prefixes), by_family, protected_prefixes)
