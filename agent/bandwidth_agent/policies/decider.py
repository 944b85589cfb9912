"""Steps the policies of one host: feeds them, keeps the limits that they make, and writes down what they decided.

The same function decides as in a cluster (`bandwidth_api.policy.rounds`). Owns when a round is made, and the limits
that are made; decides nothing itself. Used by the loop's thread.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from bandwidth_agent.policies import makers
from bandwidth_agent.policies.makers import Step, Terms
from bandwidth_agent.policies.told import Told
from bandwidth_api.compiler import compile as compiler
from bandwidth_api.compiler import protected_addresses, selector
from bandwidth_api.compiler.protected_addresses import Index
from bandwidth_api.crds import limit
from bandwidth_api.crds.limit import Limit
from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Mode, PlanEntry, Prefix
from bandwidth_api.policy import books, limitable, made_limit, memory, node_traffic, reports, rounds, status
from bandwidth_api.policy.books import Book
from bandwidth_api.policy.decision import Decision, What, Write
from bandwidth_api.policy.limitable import Limitable
from bandwidth_api.policy.made_limit import Made
from bandwidth_api.policy.reports import Now, Report, Sampling
from bandwidth_api.policy.surroundings import Surroundings
from bandwidth_runtime.clock import Clock

ROUND_SECONDS = 1.0
STATUS_SECONDS = 15.0  # so often at most the statuses are written while nothing is decided

log = structlog.get_logger("policy")


class Traffic(Protocol):
    """What `sampled.Sampled` is."""

    @property
    def trouble(self) -> str: ...

    def want(self, wanted: bool) -> None: ...

    def take(self, sampling: Sampling, named: Collection[Prefix], limitable: Limitable) -> tuple[Report, ...]: ...

    def close(self) -> None: ...


class Kept(Protocol):
    """What `made_files.MadeFiles` is."""

    @property
    def warning(self) -> str: ...

    def load(self) -> dict[str, Limit]: ...

    def statuses(self) -> Mapping[str, dict[str, Any]]: ...

    def gone(self) -> frozenset[str]: ...

    def keep(self, name: str, document: dict[str, Any], *, change: bool) -> None: ...

    def delete(self, name: str) -> None: ...

    def keep_statuses(self, statuses: Mapping[str, dict[str, Any]]) -> None: ...

    def confirm_statuses(self) -> None: ...

    def close(self) -> None: ...


class Decider:
    """The policies of one host."""

    def __init__(
        self,
        node: str,
        labels: selector.Labels,
        traffic: Traffic,
        kept: Kept,
        protected: Callable[[], Index],
        clock: Clock,
    ) -> None:
        self._nodes = {node: dict(labels)}
        self._traffic, self._kept, self._protected, self._clock = traffic, kept, protected, clock
        self._made = kept.load()
        self._statuses = dict(kept.statuses())
        self._unwritten: dict[str, list[Decision]] = {}
        self._book = Book()
        self._begun = False  # a round was made
        self._remembered: set[str] = set()  # policies whose status was read for what it remembers
        self._policies: dict[str, Policy] = {}
        self._unread: frozenset[str] = frozenset()  # policies that are there, perhaps, and cannot be read
        self._edited: dict[str, Policy] = {}  # as they were read last
        self.told = Told(nodes=self._nodes)  # for other threads: replaced as a whole
        self._next_at = self._take_at = float("-inf")
        self._written_at = float("-inf")

    @property
    def entries(self) -> Mapping[str, PlanEntry]:
        """The limits that were made, by name."""
        return {name: compiler.entry(each, now=each.created_at or 0.0) for name, each in self._made.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps policies from their work."""
        return tuple(text for text in (self._traffic.trouble, self._kept.warning) if text)

    def due(self) -> float | None:
        """Return when the next round is, monotonic seconds; None while there is nothing to decide."""
        return self._next_at if self._policies or self._made else None

    def turn(self, policies: Sequence[Policy], persons: Mapping[str, PlanEntry], *, broken: bool = False) -> bool:
        """Make a round if it is time; return whether the made limits are others now.

        `policies` and `persons` (all limits of manifests): complete readings. `broken`: something there cannot be read,
        and may be a policy; then nothing is decided of one that is missing, and its limits stay until they end.
        """
        now = Now(self._clock.monotonic(), self._clock.wall())
        if now.steady < self._next_at:
            return False
        self._next_at = now.steady + ROUND_SECONDS
        self._policies = {each.name: self._numbered(each) for each in policies}
        self._unread = self._known().difference(self._policies) if broken else frozenset()
        self._edited = {n: each for n, each in self._edited.items() if n in self._unread} | self._policies
        self._remembered &= self._policies.keys() | self._unread
        sampling = reports.sampling(self._policies.values())
        self._traffic.want(sampling is not None)
        if not self._policies and not self._made:
            self.told = Told(nodes=self._nodes)
            self._book = Book({name: each for name, each in self._book.entries.items() if name in self._unread})
            self._wrote([], now)
            return False
        gone = self._kept.gone() if self._begun else ()  # in the first round the limits are taken over
        self._begun = True
        before = dict(self._made)
        for name in gone:
            self._made.pop(name, None)
            self._kept.delete(name)
        around = self._surroundings(persons, now)
        told = self._taken(sampling, around, now) if sampling is not None else ()
        decided = self._decide(told, around, now)
        self.told = self.told.after(self._book, self._policies.values(), decided)
        # A status tells of a limit before its file is there, and tells of it no more before that is removed here.
        self._wrote(decided, now)
        for one in decided:
            self._do(one, now)
        return self._made != before

    def _taken(self, sampling: Sampling, around: Surroundings, now: Now) -> tuple[Report, ...]:
        """Return what was sampled, as often as nodes of a cluster report it: of a longer time more is known."""
        if now.steady < self._take_at:
            return ()
        looking = [each for each in self._policies.values() if each.spec.then.mode is not Mode.DISABLED]
        self._take_at = now.steady + node_traffic.interval_seconds(looking)
        return self._traffic.take(sampling, books.limited(self._book), self._limitable(around))

    def _known(self) -> frozenset[str]:
        """Return the names of all policies of which anything is known."""
        return frozenset(
            {*self._statuses, *self._book.entries, *(each.metadata.policy for each in self._made.values())}
        )

    def _decide(self, told: Sequence[Report], around: Surroundings, now: Now) -> list[Decision]:
        decided: list[Decision] = []
        for name, policy in self._policies.items():
            if name not in self._remembered:
                self._remembered.add(name)
                texts = self._statuses.get(name, {}).get("remembered")
                texts = texts if isinstance(texts, list) else ()
                self._book, pardoned = memory.remember(self._book, policy, texts, around.made, now)
                decided += pardoned
        policies = tuple(self._policies.values())
        self._book, made = rounds.decide(self._book, policies, told, around, now, self._unread)
        return [*decided, *made]

    def _numbered(self, policy: Policy) -> Policy:
        """Return a policy with a generation: files have none, and an edit must be seen as one."""
        known = self._edited.get(policy.name)
        generation = 1 if known is None else known.metadata.generation + (known.spec != policy.spec)
        return policy.model_copy(update={"metadata": policy.metadata.model_copy(update={"generation": generation})})

    def _surroundings(self, persons: Mapping[str, PlanEntry], now: Now) -> Surroundings:
        made: dict[str, Made] = {}
        theirs = {
            client: name
            for name, entry in persons.items()
            if entry.expires_at is None or entry.expires_at > now.wall
            for client in entry.clients
        }
        for name, each in tuple(self._made.items()):
            found = made_limit.read(each, now.wall)
            if found is None:
                del self._made[name]
                self._kept.delete(name)
            else:
                made[name] = found
        index = protected_addresses.index(frozenset(theirs))
        return Surroundings(made, theirs, index, self._protected(), self._nodes)

    def _limitable(self, around: Surroundings) -> Limitable:
        specs = [each.spec for each in self._policies.values() if each.spec.then.mode is not Mode.DISABLED]
        indexes = around.persons_index, around.protected
        return limitable.among(limitable.watched(specs), limitable.exempt(specs), lambda: indexes)

    def _do(self, decision: Decision, now: Now) -> None:
        words = status.decision_json(decision)
        del words["time"]
        if decision.what is What.BLOCKED:
            log.info("a client would be limited", policy=decision.policy, **words)
        else:
            log.info("decided", policy=decision.policy, **words)
        if decision.write is Write.DELETE:
            self._made.pop(decision.limit, None)
            self._kept.delete(decision.limit)
        elif decision.write is not None:
            document = made_limit.document(self._policies[decision.policy], decision)
            there = self._made.get(decision.limit)
            created = now.wall if there is None else (there.created_at or now.wall)
            moment = datetime.datetime.fromtimestamp(created, datetime.UTC)
            document["metadata"]["creationTimestamp"] = moment.isoformat(timespec="microseconds")
            parsed = limit.parse(document)
            assert isinstance(parsed, Limit), parsed  # noqa: S101  # it was made from values that passed the same rules
            self._made[decision.limit] = parsed
            self._kept.keep(decision.limit, document, change=there is not None)

    def _wrote(self, decided: Iterable[Decision], now: Now) -> None:
        """Write the statuses if anything was decided or a policy is gone; if else is another in them, not too often."""
        for each in decided:
            if each.policy in self._policies:
                self._unwritten.setdefault(each.policy, []).append(each)
        gone = self._statuses.keys() - self._policies.keys() - self._unread
        if not self._unwritten and not gone and now.steady - self._written_at < STATUS_SECONDS:
            return
        statuses = {name: self._status(policy, now) for name, policy in self._policies.items()}
        statuses |= {name: self._last_status(name, now) for name in self._unread if name in self._statuses}
        self._unwritten, self._written_at = {}, now.steady
        if statuses != self._statuses:
            self._statuses = statuses
            self._kept.keep_statuses(statuses)
        elif statuses:
            self._kept.confirm_statuses()

    def _last_status(self, name: str, now: Now) -> dict[str, Any]:
        """Return the status of a policy that cannot be read: as it was, with whom it remembers."""
        entry = self._book.entries.get(name)
        written = self._statuses[name]
        return written if entry is None else {**written, "remembered": list(memory.remembered(entry, now))}

    def _status(self, policy: Policy, now: Now) -> dict[str, Any]:
        seen = status.counts(self._book, policy, self._nodes, now)
        entry = self._book.entries.get(policy.name)
        written = status.write(
            self._statuses.get(policy.name, {}),
            status.found(policy, seen),
            policy.metadata.generation,
            now,
            seen=seen,
            decisions=self._unwritten.get(policy.name, ()),
            remembered=memory.remembered(entry, now) if entry is not None else (),
        )
        return {**written, makers.TERMS: makers.write_terms(_terms(policy))}

    def close(self) -> None:
        """Write down what is known, and have nothing sampled any more; the limits stay."""
        now = Now(self._clock.monotonic(), self._clock.wall())
        self._written_at = float("-inf")
        self._wrote([], now)
        self._traffic.close()
        self._kept.close()


def _terms(policy: Policy) -> Terms:
    then, lift = policy.spec.then, policy.spec.lift
    steps = tuple(Step(each.rate, each.ttl_seconds) for each in then.steps)
    return Terms(steps, lift.when_below_percent, lift.for_seconds, then.memory_seconds)
