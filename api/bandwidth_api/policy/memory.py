"""What outlives a program that decides: whose limits there are, and whose ended, as text for a status. Pure.

    ADDRESS STEP WORD SECONDS        Limited: its limit is there, and ends then; Ended, Pardoned: remembered until then

Whoever deletes a limit while no program runs leaves nothing but the word `Limited`. So it has to be written before the
limit is, and be gone before a policy deletes the limit itself: then a limit that is missing was deleted by a person.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Mode, Prefix
from bandwidth_api.policy import books, machine, made_limit
from bandwidth_api.policy.books import Book, Entry
from bandwidth_api.policy.decision import Decision, What
from bandwidth_api.policy.machine import Phase, State
from bandwidth_api.policy.made_limit import Made
from bandwidth_api.policy.reports import Now

REMEMBERED_MAX = 700  # more than the limits that a policy may have
ENDED_MAX = 200  # of these
LIMITED, PARDONED, ENDED = _WORDS = ("Limited", "Pardoned", "Ended")
WHY = "a person deleted the limit while nothing looked"


class _Line(NamedTuple):
    client: Prefix
    step: int
    word: str
    until: float  # seconds since the epoch


def remembered(entry: Entry, now: Now) -> tuple[str, ...]:
    """Return who is limited and whose limits ended, as text for the status, of each those for longest first.

    Where more are remembered than a status holds, whose limits ended give way first, then who was pardoned.
    """
    lines: dict[str, list[_Line]] = {word: [] for word in _WORDS}
    for client, state in entry.clients.items():
        line = _line(client, state, now)
        # What would have been is no record of anybody; that a person deleted a limit is one in every mode.
        if line is not None and (entry.mode is Mode.ENFORCE or line.word == PARDONED):
            lines[line.word].append(line)
    for each in lines.values():
        each.sort(key=lambda line: (-line.until, line.client))
    kept = (*lines[LIMITED], *lines[PARDONED], *lines[ENDED][:ENDED_MAX])[:REMEMBERED_MAX]
    return tuple(f"{addresses.write(each.client)} {each.step} {each.word} {round(each.until)}" for each in kept)


def _line(client: Prefix, state: State, now: Now) -> _Line | None:
    if state.phase is Phase.LIMITED or state.confirmed:
        return _Line(client, state.step, LIMITED, state.expires_at)
    if not state.memory(now) or now.steady < state.refused_until:
        return None
    word = PARDONED if state.pardoned else ENDED
    return _Line(client, state.step, word, now.wall + state.remembered_until - now.steady)


def limited(texts: object) -> dict[str, float]:
    """Return whose limits these texts tell of: by address when each ends at the latest, seconds since the epoch."""
    lines = map(_read, texts if isinstance(texts, (list, tuple)) else ())
    return {addresses.write(each.client): each.until for each in lines if each is not None and each.word == LIMITED}


def remember(
    book: Book, policy: Policy, texts: Iterable[object], made: Mapping[str, Made], now: Now
) -> tuple[Book, tuple[Decision, ...]]:
    """Return the book with what an earlier program remembered of a policy, and who was pardoned since.

    `made`: the limits that are there, by name. What is not of our form is left out. Nothing is remembered for longer
    than the policy says, whatever the clock was then, but for a pardon, which lasts as long as the limit would have.
    """
    entry, then = book.entries.get(policy.name), policy.spec.then
    if entry is None or entry.uid != policy.metadata.uid:
        entry = Entry(policy.metadata.uid, policy.metadata.generation, then.mode, now.steady)
    clients = dict(entry.clients)
    decisions: list[Decision] = []
    for line in map(_read, texts):
        if line is None or line.client in clients or len(clients) >= books.CLIENTS_MAX:
            continue
        if line.word == LIMITED:
            if made_limit.name(policy.name, line.client) in made:
                continue  # the next round takes it over
            found = _deleted(policy, line, now)
        else:
            longest = max(then.memory_seconds, then.steps[-1].ttl_seconds if line.word == PARDONED else 0)
            until = now.steady + min(line.until - now.wall, longest)
            found = State(step=line.step, remembered_until=until, pardoned=line.word == PARDONED)
        if not found.memory(now) or (line.word == ENDED and then.mode is not Mode.ENFORCE):
            continue
        clients[line.client] = found
        if line.word == LIMITED:
            decisions.append(_decision(policy, line, now))
    entry = dataclasses.replace(entry, clients=clients)
    return dataclasses.replace(book, entries={**book.entries, policy.name: entry}), tuple(decisions)


def _deleted(policy: Policy, line: _Line, now: Now) -> State:
    """Return the state of a client whose limit is gone. It was deleted by now, or before its end if that has passed."""
    then = policy.spec.then
    left = min(line.until - now.wall, then.steps[-1].ttl_seconds)
    found = machine.pardoned(policy, line.step, now.steady + left, now)
    return found if left > 0 else dataclasses.replace(found, remembered_until=now.steady + then.memory_seconds + left)


def _decision(policy: Policy, line: _Line, now: Now) -> Decision:
    steps = policy.spec.then.steps
    return Decision(
        at=now.wall,
        policy=policy.name,
        client=line.client,
        what=What.PARDONED,
        why=WHY,
        enforced=True,
        limit=made_limit.name(policy.name, line.client),
        step=line.step,
        rate_bits_per_second=steps[min(line.step, len(steps)) - 1].rate,
        expires_at=line.until,
    )


def _read(text: object) -> _Line | None:
    words = text.split() if isinstance(text, str) else []
    if len(words) != 4 or words[1] not in tuple("12345") or words[2] not in _WORDS or not words[3].isdecimal():
        return None
    try:
        return _Line(addresses.parse(words[0]), int(words[1]), words[2], float(words[3][:12]))
    except ValueError:
        return None
