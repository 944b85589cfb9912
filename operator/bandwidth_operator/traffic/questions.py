"""The life and death of questions, and what all living ones together ask of the nodes. Pure: times are parameters.

    asked or renewed ──▶ lives for spec.seconds ──▶ ended ──▶ deleted LIFE_SECONDS after the last renewal

At most QUESTIONS_MAX live: the oldest of each author before the second of anyone, so that nobody keeps others from
asking. What one author has beyond PER_AUTHOR_MAX is deleted at once. All share one stream of reports: the nodes are
asked for the union. What is asked is written into the head of the plan, which every node reads, so it is written
rarely: when something else is asked, and when the time that the nodes were given is about to end. Nodes get no more
time than is left since the last renewal, so they end by themselves if nobody writes any more.

Times are monotonic seconds.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from bandwidth_api.crds import asked
from bandwidth_api.crds.asked import Asked
from bandwidth_api.crds.traffic_query import Query

QUESTIONS_MAX = 16
PER_AUTHOR_MAX = 32
ASK_AGAIN_SECONDS = 15.0  # of the time of the nodes; renewals before that are not handed on
ASK_SPACING_SECONDS = 2.0  # between two writes of what is asked, whatever people do


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    uid: str
    generation: int
    renewed_at: float


class Census(NamedTuple):
    """The questions at one moment, each kind the oldest of each author first."""

    living: tuple[Query, ...]
    ended: tuple[Query, ...]
    surplus: tuple[Query, ...]  # beyond QUESTIONS_MAX
    dead: tuple[Query, ...]  # to be deleted
    flood: tuple[Query, ...]  # beyond PER_AUTHOR_MAX, to be deleted even if they are renewed
    next_at: float  # when the next one ends or dies; infinite if there is none


class Questions:
    """All questions of one term, and what was last asked of the nodes."""

    def __init__(self) -> None:
        self._queries: Mapping[str, Query] = {}
        self._seen: dict[str, _Seen] = {}
        self._asked_at = -math.inf
        self._asked_until = -math.inf  # when the nodes stop looking

    def note(self, queries: Mapping[str, Query], now: float, server: float | None) -> None:
        """Take all questions by name. `server`: the API server's clock, seconds since the epoch; None: not known."""
        seen = {}
        for name, query in queries.items():
            before = self._seen.get(name)
            if before is None or before.uid != query.uid:
                # Not seen until now, it may be old: another replica may have led until now.
                age = 0.0 if server is None or query.renewed_at is None else server - query.renewed_at
                seen[name] = _Seen(query.uid, query.generation, now - min(max(0.0, age), float(asked.LIFE_SECONDS)))
            elif before.generation != query.generation:
                seen[name] = _Seen(query.uid, query.generation, now)
            else:
                seen[name] = before
        self._queries, self._seen = dict(queries), seen

    def census(self, now: float) -> Census:
        """Return which questions live now."""
        ordered = sorted(self._queries.values(), key=lambda query: (query.created, query.name))
        dead = [q for q in ordered if self._dies_at(q) <= now]
        ended = [q for q in ordered if self._ends_at(q) <= now < self._dies_at(q)]
        living, flood = _in_turn_of_authors(q for q in ordered if now < self._ends_at(q))
        moments = [self._dies_at(q) for q in ended] + [self._ends_at(q) for q in living]
        return Census(
            tuple(living[:QUESTIONS_MAX]),
            tuple(ended),
            tuple(living[QUESTIONS_MAX:]),
            tuple(dead),
            tuple(flood),
            min(moments, default=math.inf),
        )

    def to_ask(
        self,
        living: Iterable[Query],
        agents: Collection[str],
        candidates: tuple[str, ...],
        before: Asked | None,
        now: float,
        first_renewal: int = 1,
    ) -> Asked | None:
        """Return what the head of the plan should carry; the same as `before` while that will do.

        `agents`: the nodes that run an agent. `candidates`: the clients that every node is asked for.
        `first_renewal`: a number that was not used before.
        """
        questions = tuple(living)
        if not questions:
            self._asked_at = self._asked_until = -math.inf
            return None
        until = max(self._ends_at(q) for q in questions)
        union = _kept(_union(questions, agents, candidates), before)
        same = before is not None and union == dataclasses.replace(before, renewal=0, seconds=0)
        if now - self._asked_at < ASK_SPACING_SECONDS:
            return before
        given = self._asked_until - self._asked_at
        waits = min(ASK_AGAIN_SECONDS, given / 3) if math.isfinite(given) else 0.0
        if same and (until <= self._asked_until + 1.0 or now - self._asked_at < waits):
            return before
        renewal = (before.renewal + 1) % asked.RENEWAL_MAX if before is not None else first_renewal
        seconds = min(math.ceil(until - now), asked.LIFE_SECONDS)
        return dataclasses.replace(union, renewal=renewal, seconds=seconds)

    def was_asked(self, written: Asked, now: float) -> None:
        """Record that the head carries this since now."""
        self._asked_at, self._asked_until = now, now + written.seconds

    def ask_next_at(self, living: Iterable[Query], now: float) -> float:
        """Return when `to_ask` should be called again, if no question changes."""
        questions = tuple(living)
        if not questions:
            return math.inf
        if now - self._asked_at < ASK_SPACING_SECONDS:
            return self._asked_at + ASK_SPACING_SECONDS
        given = self._asked_until - self._asked_at
        if max(self._ends_at(q) for q in questions) <= self._asked_until + 1.0:
            return math.inf
        return max(now, self._asked_at + min(ASK_AGAIN_SECONDS, given / 3)) if math.isfinite(given) else now

    def _ends_at(self, query: Query) -> float:
        return self._seen[query.name].renewed_at + min(query.spec.seconds, asked.LIFE_SECONDS)

    def _dies_at(self, query: Query) -> float:
        return self._seen[query.name].renewed_at + asked.LIFE_SECONDS


def nodes_of(query: Query, agents: Collection[str]) -> frozenset[str]:
    """Return the nodes that a question asks, of those that run an agent."""
    return frozenset(agents).intersection(query.spec.nodes) if query.spec.nodes else frozenset(agents)


def _in_turn_of_authors(queries: Iterable[Query]) -> tuple[list[Query], list[Query]]:
    """Return the first of each author, then the second of each, and so on; and what any of them has too many of."""
    counts: collections.Counter[str] = collections.Counter()
    turns: list[list[Query]] = []
    flood = []
    for query in queries:
        turn = counts[query.author]
        counts[query.author] += 1
        if turn >= PER_AUTHOR_MAX:
            flood.append(query)
            continue
        if turn == len(turns):
            turns.append([])
        turns[turn].append(query)
    return list(itertools.chain.from_iterable(turns)), flood


def _kept(union: Asked, before: Asked | None) -> Asked:
    """Return what is asked, in the same times as before where those will do: nodes come and go."""
    if before is None or not union.interval_seconds <= before.interval_seconds <= 1.25 * union.interval_seconds:
        return union
    spread = max(union.spread_seconds, min(before.spread_seconds, before.interval_seconds))
    return dataclasses.replace(union, interval_seconds=before.interval_seconds, spread_seconds=spread)


def _union(questions: tuple[Query, ...], agents: Collection[str], candidates: tuple[str, ...]) -> Asked:
    everywhere = any(not q.spec.nodes for q in questions)
    named = frozenset().union(*(nodes_of(q, agents) for q in questions))
    if not everywhere and not named:
        nodes: tuple[str, ...] = questions[0].spec.nodes  # nobody there is asked, and not all instead
    else:
        nodes = () if everywhere or len(named) > asked.NODES_MAX else tuple(sorted(named))
    count = len(named) if nodes else len(agents)
    return Asked(
        renewal=0,
        seconds=0,
        interval_seconds=asked.interval_seconds(count, min(q.spec.interval_seconds for q in questions)),
        spread_seconds=asked.spread_seconds(count),
        top=max(q.spec.top for q in questions),
        groups=tuple(group for group in asked.GROUPS if any(q.spec.group == group for q in questions)),
        nodes=nodes,
        clients=_in_turn([q.spec.clients for q in questions], asked.CLIENTS_MAX),
        candidates=candidates,
    )


def _in_turn(lists: Iterable[tuple[str, ...]], most: int) -> tuple[str, ...]:
    """Return the first of each, then the second of each, each once, in the order of their names."""
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*lists))
    found = dict.fromkeys(text for text in rounds if text is not None)
    return tuple(sorted(itertools.islice(found, most)))
