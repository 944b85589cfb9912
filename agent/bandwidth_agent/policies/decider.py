"""Steps the policies of one host: feeds them, keeps the limits that they make, and writes down what they decided.

The same function decides as in a cluster (`bandwidth_api.policy.rounds`). Owns when a round is made, and the limits
that are made; decides nothing itself. Used by the loop's thread.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
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
from bandwidth_api.policy import limitable, made_limit, memory, node_traffic, reports, rounds, status
from bandwidth_api.policy.decision import Decision, What, Write
from bandwidth_api.policy.limitable import Limitable
from bandwidth_api.policy.made_limit import Made
from bandwidth_api.policy.reports import Now, Report, Sampling
from bandwidth_api.policy.rounds import Book
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

    def keep(self, name: str, document: dict[str, Any]) -> None: ...

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
        self._book: Book | None = None  # None: nothing is remembered yet
        self._policies: dict[str, Policy] = {}
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
        and may be a policy; then the limits of one that is missing stay until they end.
        """
        now = Now(self._clock.monotonic(), self._clock.wall())
        if now.steady < self._next_at:
            return False
        self._next_at = now.steady + ROUND_SECONDS
        self._policies = {each.name: self._numbered(each) for each in policies}
        sampling = reports.sampling(self._policies.values())
        self._traffic.want(sampling is not None)
        if not self._policies and not self._made:
            self.told = Told(nodes=self._nodes)
            return self._wrote({}, now)
        gone = self._kept.gone() if self._book is not None else ()  # in the first round the limits are taken over
        if self._book is None:
            self._book = Book()
            for each in self._policies.values():
                texts = self._statuses.get(each.name, {}).get("remembered")
                self._book = memory.remember(self._book, each, texts if isinstance(texts, list) else (), now)
        before = dict(self._made)
        for name in gone:
            self._made.pop(name, None)
            self._kept.delete(name)
        around = self._surroundings(persons, broken, now)
        told = self._taken(sampling, around, now) if sampling is not None else ()
        self._book, decided = rounds.decide(self._book, tuple(self._policies.values()), told, around, now)
        for one in decided:
            self._do(one, now)
        self.told = self.told.after(self._book, self._policies.values(), decided)
        self._wrote({name: [d for d in decided if d.policy == name] for name in self._policies}, now)
        return self._made != before

    def _taken(self, sampling: Sampling, around: Surroundings, now: Now) -> tuple[Report, ...]:
        """Return what was sampled, as often as nodes of a cluster report it: of a longer time more is known."""
        if self._book is None or now.steady < self._take_at:
            return ()
        looking = [each for each in self._policies.values() if each.spec.then.mode is not Mode.DISABLED]
        self._take_at = now.steady + node_traffic.interval_seconds(looking)
        return self._traffic.take(sampling, rounds.limited(self._book), self._limitable(around))

    def _numbered(self, policy: Policy) -> Policy:
        """Return a policy with a generation: files have none, and an edit must be seen as one."""
        known = self._policies.get(policy.name)
        generation = 1 if known is None else known.metadata.generation + (known.spec != policy.spec)
        return policy.model_copy(update={"metadata": policy.metadata.model_copy(update={"generation": generation})})

    def _surroundings(self, persons: Mapping[str, PlanEntry], broken: bool, now: Now) -> Surroundings:
        made: dict[str, Made] = {}
        theirs = {
            client: name
            for name, entry in persons.items()
            if entry.expires_at is None or entry.expires_at > now.wall
            for client in entry.clients
        }
        for name, each in tuple(self._made.items()):
            found = made_limit.read(each, now.wall)
            if found is None or (found.expires_at <= now.wall and found.policy not in self._policies):
                del self._made[name]
                self._kept.delete(name)
            elif broken and found.policy not in self._policies:
                theirs[found.client] = name
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
            self._kept.keep(decision.limit, document)

    def _wrote(self, decided: Mapping[str, list[Decision]], now: Now) -> bool:
        """Write the statuses if anything was decided, or else in them is another, but not too often; always False."""
        for name, each in decided.items():
            self._unwritten.setdefault(name, []).extend(each)
        if not any(self._unwritten.values()) and now.steady - self._written_at < STATUS_SECONDS:
            return False
        statuses = {name: self._status(policy, now) for name, policy in self._policies.items()}
        self._unwritten, self._written_at = {}, now.steady
        if statuses != self._statuses:
            self._statuses = statuses
            self._kept.keep_statuses(statuses)
        elif statuses:
            self._kept.confirm_statuses()
        return False

    def _status(self, policy: Policy, now: Now) -> dict[str, Any]:
        book = self._book or Book()
        seen = status.counts(book, policy, self._nodes, now)
        entry = book.entries.get(policy.name)
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
        self._wrote({}, now)
        self._traffic.close()
        self._kept.close()


def _terms(policy: Policy) -> Terms:
    then, lift = policy.spec.then, policy.spec.lift
    steps = tuple(Step(each.rate, each.ttl_seconds) for each in then.steps)
    return Terms(steps, lift.when_below_percent, lift.for_seconds, then.memory_seconds)
