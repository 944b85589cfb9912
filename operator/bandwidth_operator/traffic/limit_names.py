"""Finds the limits of the plan that hold a client. Pure; made once for each plan, and only while somebody asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bandwidth_api import addresses
from bandwidth_api.plan import PlanEntry, Prefix


class LimitNames:
    """The limits by the prefixes that they name."""

    def __init__(self, entries: Mapping[str, PlanEntry]) -> None:
        self.of = entries
        self._by_prefix: dict[Prefix, list[str]] = {}
        for name, entry in entries.items():
            for prefix in entry.clients:
                self._by_prefix.setdefault(prefix, []).append(name)
        self._lengths = {
            family: sorted({p.length for p in self._by_prefix if p.family == family}, reverse=True) for family in (4, 6)
        }

    def holding(self, clients: Iterable[Prefix]) -> dict[Prefix, tuple[str, ...]]:
        """Return the limits that hold all of a client, the narrowest first; clients without one are left out."""
        found = {}
        for client in clients:
            names = tuple(dict.fromkeys(self._around(client)))
            if names:
                found[client] = names
        return found

    def _around(self, client: Prefix) -> Iterable[str]:
        bits = addresses.BITS[client.family]
        for length in self._lengths[client.family]:
            if length <= client.length:
                shift = bits - length
                for name in self._by_prefix.get(Prefix(client.family, client.network >> shift << shift, length), ()):
                    if not any(_covers(hole, client) for hole in self.of[name].excepted):
                        yield name


def _covers(wide: Prefix, narrow: Prefix) -> bool:
    shift = addresses.BITS[wide.family] - wide.length
    return (
        wide.family == narrow.family
        and wide.length <= narrow.length
        and narrow.network >> shift == wide.network >> shift
    )
