"""Which limits meet at an address, and which of them wins there, by the rule that every node follows. Pure.

The rule itself is `bandwidth_api.compiler.overlap`; here it is asked, for a few limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.compiler import selector
from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.plan import ClassKey, PlanEntry, PortRange, Prefix
from bandwidth_cli.objects.limits import Limit


class Won(NamedTuple):
    """What holds an address at some ports on a node."""

    ports: tuple[PortRange, ...]  # empty: all that no other has
    key: ClassKey


class Outcome(NamedTuple):
    """What becomes of a limit among others."""

    loses_to: tuple[Limit, ...]
    wins_over: tuple[Limit, ...]
    left_out: str  # why it would be in force nowhere; "" if it would


def touching(limits: Iterable[Limit], clients: Sequence[Prefix], now: float) -> list[Limit]:
    """Return the limits in force that share an address with one of the clients."""
    return [limit for limit in naming(limits, clients) if limit.in_force(now)]


def naming(limits: Iterable[Limit], clients: Sequence[Prefix]) -> list[Limit]:
    """Return the limits, in force or not, that share an address with one of the clients."""
    return [limit for limit in limits if any(_meets(limit, client) for client in clients)]


def outcome(entry: PlanEntry, others: Sequence[Limit], now: float) -> Outcome:
    """Return what becomes of a new limit beside the others; nodes that only some of them select do not count."""
    beside = [limit for limit in touching(others, entry.clients, now) if limit.name != entry.limit]
    if not beside:
        return Outcome((), (), "")
    found = resolve.resolve([*(limit.entry() for limit in beside), entry])
    winners = found.overridden.get(entry.limit, ())
    problem = found.left_out.get(entry.limit)
    return Outcome(
        tuple(limit for limit in beside if limit.name in winners),
        tuple(limit for limit in beside if entry.limit in found.overridden.get(limit.name, ())),
        "" if problem is None else str(problem),
    )


def held(address: Prefix, limits: Sequence[Limit], labels: selector.Labels, now: float) -> tuple[Won, ...]:
    """Return which limits hold an address on a node with these labels, by ports; `address`: of full length."""
    entries = [
        limit.entry() for limit in touching(limits, [address], now) if selector.selects(limit.node_selector, labels)
    ]
    if not entries:
        return ()
    found: list[Won] = []
    for table in resolve.resolve(entries).tables:
        if table.family == address.family:
            key = _longest(table.entries, address)
            if key is not None:
                found.append(Won(table.ports, key))
    return tuple(found)


def _longest(entries: Mapping[Prefix, ClassKey | None], address: Prefix) -> ClassKey | None:
    around = [prefix for prefix in entries if addresses.covers(prefix, address)]
    return entries[max(around, key=lambda prefix: prefix.length)] if around else None


def _meets(limit: Limit, client: Prefix) -> bool:
    if any(addresses.covers(hole, client) for hole in limit.excepted):
        return False
    return any(addresses.covers(own, client) or addresses.covers(client, own) for own in limit.clients)
