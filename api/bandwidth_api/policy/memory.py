"""What outlives a program that decides: whose limits ended, as text for the status of each policy. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from bandwidth_api import addresses
from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Mode
from bandwidth_api.policy import rounds
from bandwidth_api.policy.machine import Phase, State
from bandwidth_api.policy.reports import Now
from bandwidth_api.policy.rounds import Book, Entry

REMEMBERED_MAX = 200
ENDED, PARDONED = "Ended", "Pardoned"


def remembered(entry: Entry, now: Now) -> tuple[str, ...]:
    """Return whose limits ended, as text for the status, those that are remembered for longest first."""
    if entry.mode is not Mode.ENFORCE:  # what would have been is no record of anybody
        return ()
    found = [
        (state.remembered_until - now.steady, client, state)
        for client, state in entry.clients.items()
        if state.phase is not Phase.LIMITED
        and state.step
        and state.refused_until <= now.steady < state.remembered_until
    ]
    found.sort(key=lambda each: (-each[0], each[1]))
    return tuple(
        f"{addresses.write(client)} {state.step} {PARDONED if state.pardoned else ENDED} {round(now.wall + left)}"
        for left, client, state in found[:REMEMBERED_MAX]
    )


def remember(book: Book, policy: Policy, texts: Iterable[object], now: Now) -> Book:
    """Return the book with what an earlier program remembered of a policy; what is not of that form is left out.

    Nothing is remembered for longer than the policy says, whatever the clock was then, but for a pardon, which lasts
    as long as the limit would have.
    """
    entry = book.entries.get(policy.name)
    then = policy.spec.then
    if entry is None:
        if then.mode is Mode.DISABLED:
            return book
        entry = Entry(policy.metadata.uid, policy.metadata.generation, then.mode, now.steady)
    clients = dict(entry.clients)
    for text in texts:
        words = text.split() if isinstance(text, str) else []
        if len(words) != 4 or words[1] not in "12345" or words[2] not in (ENDED, PARDONED) or not words[3].isdigit():
            continue
        try:
            client = addresses.parse(words[0])
        except ValueError:
            continue
        longest = max(then.memory_seconds, then.steps[-1].ttl_seconds if words[2] == PARDONED else 0)
        left = min(float(words[3][:12]) - now.wall, longest)
        if left > 0 and client not in clients and len(clients) < rounds.CLIENTS_MAX:
            clients[client] = State(
                step=int(words[1]), remembered_until=now.steady + left, pardoned=words[2] == PARDONED
            )
    return dataclasses.replace(book, entries={**book.entries, policy.name: dataclasses.replace(entry, clients=clients)})
