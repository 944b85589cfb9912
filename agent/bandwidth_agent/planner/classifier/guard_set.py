"""The guard set: decides with one look-up whether a packet's destination has any limit, so that others go no further.

With one table it is that table's set; with several, a set of all prefixes for which one of them has a class.

A look-up tries each length of prefix that the set has: the 121 lengths that two limits can bring along cost every IPv6
packet of the node half as much again. Where there are many, the set holds the same addresses in prefixes of every
fourth length, 8 lengths of IPv4 and 32 of IPv6 at most: one of another length becomes up to eight.

Owns which set that is and what is in it. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import objects
from bandwidth_api import addresses, names
from bandwidth_api.plan import Prefix

CLIENT = objects.SetEntry(0, 0, 0, "")  # from which nothing is taken
LENGTHS_MAX = 12  # of prefixes, that a look-up may try; few installations have as many
_STEP = 4
_ENTRIES_MAX = 262_144  # beyond, as many lengths as there are cost less than their prefixes cut up


class Guard(NamedTuple):
    name: str
    made: Mapping[str, objects.IpSet]  # the set itself, where it is none of the tables'


def of(family: int, tables: Mapping[str, objects.IpSet]) -> Guard:
    """Return the guard set of one family's tables."""
    lengths = {prefix[2] for table in tables.values() for prefix in table.entries}
    if len(tables) == 1 and len(lengths) <= LENGTHS_MAX:
        return Guard(next(iter(tables)), {})
    named = {p for table in tables.values() for p, entry in table.entries.items() if not entry.hole}
    prefixes = _in_few_lengths(named) if len(lengths) > LENGTHS_MAX else named
    name = names.clients_set(family)
    return Guard(name, {name: objects.IpSet(family, dict.fromkeys(prefixes, CLIENT))})


def _in_few_lengths(prefixes: Collection[Prefix]) -> Collection[Prefix]:
    """Return the same addresses as prefixes of every fourth length."""
    if sum(1 << -prefix.length % _STEP for prefix in prefixes) > _ENTRIES_MAX:
        return prefixes
    return {piece for prefix in prefixes for piece in pieces(prefix)}


def pieces(prefix: Prefix) -> Iterator[Prefix]:
    """Yield the addresses of a prefix as prefixes of the next length that is a multiple of four."""
    family, network, length = prefix
    longer = length + -length % _STEP
    size = 1 << (addresses.BITS[family] - longer)
    for number in range(1 << (longer - length)):
        yield Prefix(family, network + number * size, longer)
