"""Which limits of a directory win against one that is only drafted, or lose to it, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.plan import ClassKey, Mode, PlanEntry, Prefix
from bandwidth_sight import amounts

_SHOWN = 3  # limits that are named


class Overlap(NamedTuple):
    """What is said of it."""

    lines: tuple[str, ...]
    idle: bool  # the draft wins for no packet, so it would slow nothing


NONE = Overlap((), False)


def found(added: PlanEntry, others: Iterable[PlanEntry], file_of: Callable[[str], str]) -> Overlap:
    """Return who wins where `added` overlaps other limits; `file_of`: the file of a limit, "" if it is not known."""
    near = {entry.limit: entry for entry in others if _touch(added, entry)}
    if not near:
        return NONE
    resolution = resolve.resolve([*near.values(), added])
    winners = [near[name] for name in resolution.overridden.get(added.limit, ()) if name in near]
    losers = [near[name] for name, by in resolution.overridden.items() if added.limit in by and name in near]
    idle = added.limit not in {key.limit for key in resolution.classes}
    return Overlap((*_won(winners, added, idle, file_of), *_lost(losers, resolution.classes, file_of)), idle)


def _won(winners: Sequence[PlanEntry], added: PlanEntry, idle: bool, file_of: Callable[[str], str]) -> Iterator[str]:
    if not winners:
        return
    for winner in winners[:_SHOWN]:
        wins = "wins" if idle else "wins in part"
        yield f"The {_named(winner, file_of)} {wins} against this limit: {_why(winner, added)}."
    if len(winners) > _SHOWN:
        yield f"So do {len(winners) - _SHOWN} more."
    several = len(winners) > 1
    edit = "their files" if several else file_of(winners[0].limit) or f"the limit {winners[0].limit}"
    priority = max(winner.priority for winner in winners) + 1
    yield (
        f"{'This limit would slow nothing. ' if idle else ''}To change that, edit {edit}, or write this one with w and "
        f"give it spec.priority: {priority}."
    )


def _lost(
    losers: Sequence[PlanEntry], classes: Mapping[ClassKey, PlanEntry], file_of: Callable[[str], str]
) -> Iterator[str]:
    left = {entry.limit for entry in classes.values()}
    for loser in losers[:_SHOWN]:
        still = "holds its other packets only" if loser.limit in left else "holds nothing any more"
        yield f"This limit wins against the {_named(loser, file_of)}, which then {still}."
    if len(losers) > _SHOWN:
        yield f"And against {len(losers) - _SHOWN} more."


def _named(entry: PlanEntry, file_of: Callable[[str], str]) -> str:
    """Return a limit in words: `limit web (5Mbit, only for 993/tcp, in /etc/…/web.yaml)`."""
    words = [amounts.limit_rate(entry.rate_bits_per_second)]
    if entry.ports:
        words.append(f"only for {', '.join(map(amounts.port_range, entry.ports[:_SHOWN]))}")
    if entry.mode is Mode.OBSERVE:
        words.append("Observe: it slows nothing")
    if file_of(entry.limit):
        words.append(f"in {file_of(entry.limit)}")
    return f"limit {entry.limit} ({'; '.join(words)})"


def _why(winner: PlanEntry, loser: PlanEntry) -> str:
    if winner.priority != loser.priority:
        return f"its priority is {winner.priority}"
    return "it names a smaller network" if _longest(winner, loser) > _longest(loser, winner) else "it is older"


def _longest(entry: PlanEntry, other: PlanEntry) -> int:
    """Return the length of the smallest network of a limit that touches the other one."""
    return max(client.length for client in entry.clients if any(_near(client, each) for each in other.clients))


def _touch(one: PlanEntry, other: PlanEntry) -> bool:
    return any(_near(mine, theirs) for mine in one.clients for theirs in other.clients)


def _near(one: Prefix, other: Prefix) -> bool:
    return addresses.covers(one, other) or addresses.covers(other, one)
