"""Clients that ask for bandwidth, second by second, and a policy that decides about them: for the tests of policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bandwidth_api import addresses, names
from bandwidth_api.compiler import protected_addresses
from bandwidth_api.crds import limit as limits
from bandwidth_api.crds import policy as policies
from bandwidth_api.crds.limit import Limit
from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Prefix
from bandwidth_api.policy import made_limit, memory, rounds, surroundings
from bandwidth_api.policy.books import Book
from bandwidth_api.policy.decision import Decision, Write
from bandwidth_api.policy.reports import Amount, Now, Report

MBIT = 1e6
EPOCH = 1_900_000_000.0
NODE = "edge"
Demand = Callable[[int], float]  # Mbit/s in a second


def policy(name: str = "fair", *, uid: str = "u", generation: int = 1, **changes: Any) -> Policy:
    """A policy: more than 40 Mbit for 60 s, then 20, 10 and 5 Mbit; `when__rate__above` and so on change it."""
    spec: dict[str, Any] = {
        "when": {"rate": {"above": "40Mbit", "forSeconds": 60}},
        "then": {
            "mode": "Enforce",
            "steps": [
                {"rate": "20Mbit", "ttlSeconds": 600},
                {"rate": "10Mbit", "ttlSeconds": 3600},
                {"rate": "5Mbit", "ttlSeconds": 86400},
            ],
        },
    }
    for path, value in changes.items():
        *around, last = path.split("__")
        place = spec
        for each in around:
            place = place.setdefault(each, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    found = policies.parse(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.POLICY_KIND,
            "metadata": {"name": name, "uid": uid, "generation": generation},
            "spec": spec,
        }
    )
    assert isinstance(found, Policy), found
    return found


def client(text: str) -> Prefix:
    return addresses.parse(text)


def persons_limit(*clients: str, name: str = "by-hand", **spec: Any) -> Limit:
    found = limits.parse(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.LIMIT_KIND,
            "metadata": {"name": name},
            "spec": {"clients": list(clients), "egress": {"rate": "5Mbit"}, **spec},
        }
    )
    assert isinstance(found, Limit), found
    return found


def block(decision: Decision) -> str:
    return decision.block.obstacle.value if decision.block is not None else ""


@dataclasses.dataclass
class World:
    """One node, an API server that does what it is told at once, and a clock that the test moves on."""

    policies: list[Policy]
    demands: dict[str, Demand]
    persons: list[Limit] = dataclasses.field(default_factory=list)
    protected: frozenset[Prefix] = frozenset()
    capacity_bits_per_second: int | None = None
    other_bits_per_second: float = 0.0  # to everybody else
    nodes: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=lambda: {NODE: {}})
    report_seconds: int = 1
    second: int = 0
    set_forward_seconds: float = 0.0  # by which the wall clock was set
    book: Book = dataclasses.field(default_factory=Book)
    made: dict[str, Limit] = dataclasses.field(default_factory=dict)
    decisions: list[tuple[int, Decision]] = dataclasses.field(default_factory=list)
    sent_mbits: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # by client and second
    silent: bool = False
    names_over_limits: bool = False
    _every: tuple[object, ...] | None = None
    _around: surroundings.Surroundings = surroundings.NOTHING
    _since: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def now(self) -> Now:
        return Now(1000.0 + self.second, EPOCH + self.second + self.set_forward_seconds)

    def rate(self, text: str) -> float:
        """What a client may get now, Mbit/s."""
        found = [
            each.spec.egress.rate / MBIT
            for each in self.made.values()
            if any(addresses.covers(prefix, client(text)) for prefix in each.spec.clients)
            and (each.expires_at(0) or 0) > self.now.wall
        ]
        return min(found, default=1e9)

    def around(self) -> surroundings.Surroundings:
        every = (self.protected, tuple(self.nodes), *self.persons, *self.made.values())
        if not self.persons and every == self._every:  # the same as before: no person's limit could have ended
            return self._around
        index = protected_addresses.index(self.protected)
        limits_there = [*self.persons, *self.made.values()]
        self._every, self._around = every, surroundings.read(limits_there, index, self.nodes, self.now.wall)
        return self._around

    def run(self, seconds: int) -> list[tuple[int, Decision]]:
        """Let time pass; return what was decided in it."""
        known = len(self.decisions)
        for _ in range(seconds):
            amounts = []
            for text, demand in self.demands.items():
                got = min(max(0.0, demand(self.second)), self.rate(text))
                self.sent_mbits.setdefault(text, []).append(got)
                self._since[text] = self._since.get(text, 0.0) + got * MBIT / 8
            self.second += 1
            reports = []
            if not self.silent and self.second % self.report_seconds == 0:
                for text in self.demands:
                    over = None
                    if self.names_over_limits:
                        over = int(self.rate(text) < self.demands[text](self.second - 1))
                    amounts.append(Amount(client(text), self._since.pop(text, 0.0), over_limits=over))
                sent = sum(each.bytes for each in amounts) + self.other_bits_per_second * self.report_seconds / 8
                reports.append(
                    Report(
                        NODE,
                        self.now.steady,
                        self.report_seconds,
                        tuple(amounts),
                        sent,
                        self.capacity_bits_per_second,
                    )
                )
            if reports or self.second % self.report_seconds == 0:
                self.decide(reports)
        return self.decisions[known:]

    def decide(self, reports: list[Report]) -> None:
        self.book, decided = rounds.decide(self.book, self.policies, reports, self.around(), self.now)
        by_name = {each.name: each for each in self.policies}
        for each in decided:
            self.decisions.append((self.second, each))
            if each.write is Write.DELETE:
                self.made.pop(each.limit, None)
            elif each.write is not None:
                if each.write is Write.MAKE:
                    assert each.limit not in self.made
                written = made_limit.document(by_name[each.policy], each)
                written["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"
                found = limits.parse(written)
                assert isinstance(found, Limit), found
                before = self.made.get(each.limit)
                created = self.now.wall if before is None else before.created_at
                metadata = found.metadata.model_copy(update={"creation_timestamp": created})
                self.made[each.limit] = found.model_copy(update={"metadata": metadata})

    def restart(self) -> None:
        """What decides dies, and begins with what is written down."""
        texts = {name: memory.remembered(entry, self.now) for name, entry in self.book.entries.items()}
        self.begin(texts)

    def begin(self, texts: Mapping[str, Sequence[str]]) -> None:
        """A program begins, with what stands in the statuses."""
        self.book = Book()
        for each in self.policies:
            made = self.around().made
            self.book, pardoned = memory.remember(self.book, each, texts.get(each.name, ()), made, self.now)
            self.decisions += [(self.second, decision) for decision in pardoned]

    def whats(self) -> list[str]:
        return [decision.what.value for _, decision in self.decisions]
