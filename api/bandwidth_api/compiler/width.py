"""Bounds the number of addresses of one limit: half of the Internet is no client, and nearly always a mistake. Pure.

Counts what the clients hold together, each address once, without what is excepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.plan import PlanEntry, Prefix

_MANY_BITS = 6  # so many clients as a limit can have are together as wide as one that is shorter by so much


class Widest(NamedTuple):
    """One limit may hold as many addresses as one network of this length; 0: any number."""

    ipv4: int = 16
    ipv6: int = 32


DEFAULT = Widest()


def refused(entry: PlanEntry, widest: Widest, how_to_lift: str) -> Problem | None:
    """The problem of an entry that holds too many addresses; `how_to_lift` names the setting."""
    for prefix in entry.clients:
        if prefix.length < widest[prefix.family == 6] + _MANY_BITS:
            break
    else:  # nearly every limit
        return None
    for family, length in zip(addresses.BITS, widest, strict=True):
        clients = [p for p in entry.clients if p.family == family]
        if not clients or not length or _held(clients, entry.excepted) <= _most(family, length):
            continue
        message = (
            f"the clients hold more IPv{family} addresses than one limit may, those of a /{length}: name narrower"
            f" networks, or put what is not meant into spec.except; {how_to_lift} allows more"
        )
        return Problem(Reason.TOO_WIDE, f"rule widest: {message}", "spec.clients")
    return None


def _most(family: int, length: int) -> int:
    return 1 << (addresses.BITS[family] - length)


def _held(clients: Iterable[Prefix], excepted: Iterable[Prefix]) -> int:
    """Count the addresses that are in one of the clients and in no excepted prefix."""
    holes = _outermost(excepted)
    total = 0
    for client in _outermost(clients):
        if not any(addresses.covers(hole, client) for hole in holes):
            inside = sum(addresses.size(hole) for hole in holes if addresses.covers(client, hole))
            total += addresses.size(client) - inside
    return total


def _outermost(prefixes: Iterable[Prefix]) -> list[Prefix]:
    found: list[Prefix] = []
    for prefix in sorted(set(prefixes), key=lambda p: p.length):
        if not any(addresses.covers(outer, prefix) for outer in found):
            found.append(prefix)
    return found
