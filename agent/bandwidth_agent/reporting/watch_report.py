"""Makes what a node reports for policies, and decides whether it is worth a write. Pure.

nobody above the floor            nothing is written before `silence` seconds have passed
some, and none could matter now   each third interval, while all get about what they got before
else                              each interval
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from bandwidth_agent.sight.watch import classes, sums
from bandwidth_agent.sight.watch.classes import Moved
from bandwidth_agent.sight.watch.sums import Taken
from bandwidth_api.compiler import selector
from bandwidth_api.compiler.protected_addresses import Index
from bandwidth_api.crds import watched
from bandwidth_api.crds.client_rows import Port
from bandwidth_api.crds.watched import Client
from bandwidth_api.crds.watching import Watch, Watching
from bandwidth_api.plan import Prefix
from bandwidth_api.policy import limitable

CALM = 1 / 8  # a rate that has changed by no more than that is about the same
CALM_INTERVALS = 3
LEAST_FLOOR = 1  # bit/s: who gets nothing is no candidate


class Rows(NamedTuple):
    limited: tuple[Client, ...]
    candidates: tuple[Client, ...]

    def __bool__(self) -> bool:
        return bool(self.limited or self.candidates)


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What the last report said, as rates, and of whom a class held packets back."""

    rates: Mapping[Prefix, float]
    limited: frozenset[Prefix]
    held: frozenset[Prefix]


NOTHING_SAID = Said({}, frozenset(), frozenset())


def watch_of(asked: Watching, labels: Mapping[str, str]) -> Watch | None:
    """Return what a node with these labels looks for, the least of all that select it; None: nothing."""
    selecting = [each for each in asked.watches if selector.selects(each.node_selector, labels)]
    if not selecting:
        return None
    floors = [each.floor_bits_per_second for each in selecting if each.floor_bits_per_second is not None]
    shares = [each.share_percent for each in selecting if each.share_percent is not None]
    return Watch(
        min(floors, default=None),
        min(shares, default=None),
        max(each.ipv4 for each in selecting),
        max(each.ipv6 for each in selecting),
        any(each.ports for each in selecting),
        clients=limitable.together(each.clients for each in selecting),
        exempt=limitable.common(tuple(each.exempt for each in selecting)),
    )


def floor(watch: Watch, capacity_bits_per_second: int | None) -> float | None:
    """Return from which rate on a client could matter; None: nobody could, as far as is known."""
    found = [] if watch.floor_bits_per_second is None else [float(watch.floor_bits_per_second)]
    if watch.share_percent is not None and capacity_bits_per_second is not None:
        found.append(capacity_bits_per_second * watch.share_percent / 100)
    return max(LEAST_FLOOR, min(found)) if found else None


def rows(
    taken: Taken,
    watch: Watch,
    floor_bits_per_second: float | None,
    served: Collection[Prefix],
    moved: Mapping[Prefix, Moved],
    no_clients: Collection[Prefix] = (),
    untouchable: Callable[[], Iterable[Index]] = tuple,
) -> Rows:
    """Return who is named.

    `served`: limited clients, named in any case; `no_clients`: never named otherwise; `untouchable`: what no policy may
    limit, named where there is room.
    """
    limited = []
    for client in sorted(served):
        sampled, class_moved = taken.clients.get(client, sums.NOTHING), moved.get(client)
        number_bytes = sampled.bytes if watch.ports else classes.known_bytes(sampled, class_moved)
        over = None if class_moved is None else class_moved.over_limits
        limited.append(Client(client, number_bytes, over, _ports(sampled, watch)))
    if floor_bits_per_second is None:
        return Rows(tuple(limited), ())
    others = frozenset((*served, *no_clients))
    first = limitable.among(watch.clients, watch.exempt, untouchable)
    largest = taken.candidates(floor_bits_per_second, others, watched.CANDIDATES_MAX, first)
    return Rows(tuple(limited), tuple(Client(client, of.bytes, None, _ports(of, watch)) for client, of in largest))


def _ports(of: sums.Sum, watch: Watch) -> tuple[Port, ...]:
    return tuple(Port(*each) for each in sums.shares(of)) if watch.ports else ()


def said(of: Rows, seconds: float) -> Said:
    """Return what a report of these rows says."""
    everybody = (*of.limited, *of.candidates)
    return Said(
        {each.client: sums.BITS * each.bytes / seconds for each in everybody},
        frozenset(each.client for each in of.limited),
        frozenset(each.client for each in everybody if each.over_limits),
    )


def is_calm(of: Said, before: Said, floor_bits_per_second: float | None) -> bool:
    """Return whether a report of this would say nothing by which anything is decided.

    A candidate above twice the floor, the threshold itself, is about to be.
    """
    if (of.limited, of.held) != (before.limited, before.held) or set(of.rates) != set(before.rates):
        return False
    threshold = 2 * floor_bits_per_second if floor_bits_per_second is not None else 0.0
    if any(rate >= threshold for client, rate in of.rates.items() if client not in of.limited):
        return False
    return all(abs(rate - before.rates[client]) <= CALM * before.rates[client] for client, rate in of.rates.items())
