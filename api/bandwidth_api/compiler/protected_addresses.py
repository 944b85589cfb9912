"""Refuses limits on protected addresses: a node's own, gateways, cluster nodes, and those an administrator names.

Pure: the addresses are parameters. A limit that touches one is rejected as a whole, because the rest of it would not
be what its author wrote.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.plan import PlanEntry, Prefix

_WHY = "a protected address (of a node, of a gateway, or set by the administrator)"


def protected(
    entry: PlanEntry, protected_prefixes: Index, why: Mapping[Prefix, str] = MappingProxyType({})
) -> Problem | None:
    """Return the problem of an entry whose clients, without the excepted ones, hold a protected address; else None.

    `why`: by protected prefix what it is, and the rule that protects it, if known.
    """
    for position, client in enumerate(entry.clients):
        for found in protected_prefixes.touching(client):
            common = max(client, found, key=lambda p: p.length)
            if not _within(common, entry.excepted):
                return Problem(
                    Reason.PROTECTED_ADDRESS, _message(client, found, why.get(found, _WHY)), f"spec.clients[{position}]"
                )
    return None


def _message(client: Prefix, found: Prefix, why: str) -> str:
    if addresses.covers(found, client):
        within = "is" if client == found else f"lies in {addresses.write(found)},"
        return f"{addresses.write(client)} {within} {why}; remove it from the clients"
    cidr = addresses.write_cidr(found)
    return f"{addresses.write(client)} contains {addresses.write(found)}, {why}; add {cidr} to spec.except"


def _within(prefix: Prefix, excepted: Iterable[Prefix]) -> bool:
    """Return whether the excepted prefixes together cover every address of `prefix`."""
    covered = 0
    inside: list[Prefix] = []
    for e in sorted(set(excepted), key=lambda p: p.length):
        if addresses.covers(e, prefix):
            return True
        if addresses.covers(prefix, e) and not any(addresses.covers(outer, e) for outer in inside):
            inside.append(e)
            covered += addresses.size(e)
    return covered == addresses.size(prefix)


class Index(NamedTuple):
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


def index(protected_prefixes: frozenset[Prefix]) -> Index:
    """The index of these prefixes; it is worth keeping for as long as they are the same."""
    lengths: dict[int, set[int]] = {}
    for p in protected_prefixes:
        lengths.setdefault(p.family, set()).add(p.length)
    by_family = {family: tuple(sorted(found)) for family, found in lengths.items()}
    return Index(sorted(protected_prefixes), by_family, protected_prefixes)
