"""Who could be limited at all, so that those who cannot do not fill the short list of clients that a node names. Pure.

It orders who is named, and decides nothing: whoever is named is decided about as before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from bandwidth_api import addresses
from bandwidth_api.compiler import protected_addresses
from bandwidth_api.compiler.protected_addresses import Index
from bandwidth_api.crds import watching
from bandwidth_api.crds.policy import EVERYBODY, Spec
from bandwidth_api.plan import Prefix

Limitable = Callable[[Prefix], bool]
Networks = tuple[Prefix, ...]
_EVERYBODY = frozenset(map(addresses.parse, EVERYBODY))


def watched(specs: Iterable[Spec]) -> Networks:
    """Return the networks in which any of these policies watches clients; none: everywhere."""
    return together(tuple(each.watch.clients) for each in specs)


def exempt(specs: Iterable[Spec]) -> Networks:
    """Return the networks that all of these policies exempt."""
    return common(tuple(tuple(each.safety.exempt) for each in specs))


def together(networks: Iterable[Networks]) -> Networks:
    """Return what is in any of these; none: everywhere, as it is for more than watching.NETWORKS_MAX."""
    found: set[Prefix] = set()
    for each in networks:
        if not each or found >= _EVERYBODY:
            return ()
        found.update(each)
    widest = _widest(found)
    return () if set(widest) >= _EVERYBODY or len(widest) > watching.NETWORKS_MAX else widest


@functools.lru_cache(16)
def common(networks: tuple[Networks, ...]) -> Networks:
    """Return what is in each of these; some of it where that is more than watching.NETWORKS_MAX."""
    if not networks:
        return ()
    found = _widest(networks[0])
    for each in networks[1:]:
        inside = {max(a, b, key=lambda of: of.length) for a in found for b in each if _touch(a, b)}
        found = _widest(inside)[: watching.NETWORKS_MAX]
    return found[: watching.NETWORKS_MAX]


def among(clients: Networks, exempt: Networks, untouchable: Callable[[], Iterable[Index]] = tuple) -> Limitable:
    """Return what says whether a client could be limited.

    `clients`: where clients are watched, none for everywhere; `untouchable`: what else no limit may touch, asked for
    when it is needed.
    """
    indexes: list[Index] = []

    def could_be(client: Prefix) -> bool:
        if not indexes:
            indexes.extend((protected_addresses.index(frozenset(exempt)), *untouchable()))
        if clients and not any(_touch(each, client) for each in clients):
            return False
        return all(next(iter(index.touching(client)), None) is None for index in indexes)

    return could_be


def _touch(one: Prefix, other: Prefix) -> bool:
    return addresses.covers(one, other) or addresses.covers(other, one)


def _widest(networks: Iterable[Prefix]) -> Networks:
    """Return them without those that lie in others, in order."""
    found: list[Prefix] = []
    for each in sorted(set(networks), key=lambda of: (of.family, of.network, of.length)):
        if not found or not addresses.covers(found[-1], each):
            found.append(each)
    return tuple(found)
