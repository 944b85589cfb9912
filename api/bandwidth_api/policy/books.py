"""The book: what a program that decides keeps between two rounds, and what it is told of its writes. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bandwidth_api.plan import Mode, Prefix
from bandwidth_api.policy import machine
from bandwidth_api.policy.decision import WHY_MAX, Decision, What, Write
from bandwidth_api.policy.machine import Phase, State
from bandwidth_api.policy.reports import Now
from bandwidth_api.policy.traffic import Node

CLIENTS_MAX = 2048  # that stay known where there are twice as many; those that got least lately are forgotten


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What is known under one policy. Times are `Now.steady`."""

    uid: str
    generation: int
    mode: Mode
    since: float
    clients: Mapping[Prefix, State] = dataclasses.field(default_factory=dict)
    nodes: Mapping[str, Node] = dataclasses.field(default_factory=dict)
    starts: tuple[float, ...] = ()  # of the limits that were made in the last minute
    pruned_at: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Book:
    """What a program that decides keeps between two rounds."""

    entries: Mapping[str, Entry] = dataclasses.field(default_factory=dict)  # by the policy's name
    deleted: Mapping[str, float] = dataclasses.field(default_factory=dict)  # limits that should be gone, and since when


def limited(book: Book) -> frozenset[Prefix]:
    """Return the clients that reports must name however little they get: those that are limited, or would be."""
    return frozenset(
        client
        for entry in book.entries.values()
        for client, state in entry.clients.items()
        if state.phase is Phase.LIMITED
    )


def written(book: Book, decision: Decision, now: Now) -> Book:
    """Return the book after it was answered that a limit is written: it was there, whoever has read it or not."""
    entry = book.entries.get(decision.policy)
    state = entry.clients.get(decision.client) if entry is not None else None
    if entry is None or state is None or state.phase is not Phase.LIMITED:
        return book
    state = dataclasses.replace(state, written_at=now.steady)
    entry = dataclasses.replace(entry, clients={**entry.clients, decision.client: state})
    return dataclasses.replace(book, entries={**book.entries, decision.policy: entry})


def refused(book: Book, decision: Decision, message: str, now: Now) -> tuple[Book, Decision]:
    """Return the book after a write of a decision failed for good: the client is watched, and left alone for a while.

    What may pass (no connection, a conflict) is tried again by whoever writes, and is none of this. A limit that was to
    be changed is there as it was, and is taken over again after that while.
    """
    failed = decision._replace(at=now.wall, what=What.FAILED, why=message[:WHY_MAX])
    entry = book.entries.get(decision.policy)
    state = entry.clients.get(decision.client) if entry is not None else None
    if entry is None or state is None:
        return book, failed
    after = State(
        seen=state.seen,
        step=max(0, state.step - 1),
        remembered_until=now.steady + machine.REFUSED_SECONDS,
        refused_until=now.steady + machine.REFUSED_SECONDS,
        refusal=message[:WHY_MAX],
    )
    if decision.write is Write.CHANGE:
        after = dataclasses.replace(after, step=max(1, after.step), confirmed=True, expires_at=state.expires_at)
    entry = dataclasses.replace(entry, clients={**entry.clients, decision.client: after})
    return dataclasses.replace(book, entries={**book.entries, decision.policy: entry}), failed
