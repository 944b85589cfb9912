"""One term of the leader: everything from the first list to the last slice, in one thread.

    lists ─▶ cache ◀─ watch                       every decision is made from everything that is known,
               │ woken                             never from a single event
               ▼
    changes quiet for a moment ─▶ plan ─▶ slices ─▶ history
    node states, plan          ─▶ evaluation ─▶ statuses, written by threads of their own

A plan never waits for a status. The term ends when its fence closes, and when this replica cannot follow the cluster
for too long: then another one may do better. The next term needs nothing of it. `agenda` decides what is due,
`evaluation` works out the state of each limit.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import structlog

from bandwidth_api.crds import node_state, slices
from bandwidth_api.kinds import Kind
from bandwidth_api.plan import PlanEntry
from bandwidth_kube import client
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.cache.list_checker import ListChecker
from bandwidth_operator.cache.watch import Watch
from bandwidth_operator.election.fence import Fence, LeadershipLostError
from bandwidth_operator.election.lease import Lease
from bandwidth_operator.leader import first_lists
from bandwidth_operator.leader.agenda import Agenda
from bandwidth_operator.leader.evaluation import Evaluation
from bandwidth_operator.leader.watch_restarts import WatchRestarts
from bandwidth_operator.policies.deciding import Deciding
from bandwidth_operator.protection.guard_rails import GuardRails
from bandwidth_operator.publish import planning, slicing
from bandwidth_operator.publish.publisher import Publisher
from bandwidth_operator.reporting.health import Health
from bandwidth_operator.reporting.metrics import Metrics
from bandwidth_operator.status.status_writer import StatusWriter
from bandwidth_operator.traffic.answering import Answering
from bandwidth_runtime.clock import SYSTEM, Clock

log = structlog.get_logger(__name__)


class Leader:
    """One leader, with everything that it knows and does. `run` returns when the term is over."""

    def __init__(
        self,
        api: client.Client,
        lease: Lease,
        fence: Fence,
        cache: Cache,
        watch: Watch,
        checker: ListChecker,
        publisher: Publisher,
        statuses: StatusWriter,
        health: Health,
        metrics: Metrics,
        guard_rails: GuardRails,
        clock: Clock = SYSTEM,
        *,
        prepared: bool = False,
        traffic: Answering | None = None,
        policies: Deciding | None = None,
    ) -> None:
        """Prepare the term. `prepared`: everything is in the cache already, listed before the term began.

        `traffic`: answers questions about traffic; None: nobody does. `policies` likewise.
        """
        self._traffic = traffic
        self._policies = policies
        self._api = api
        self._lease = lease
        self._fence = fence
        self._cache = cache
        self._watch = watch
        self._checker = checker
        self._publisher = publisher
        self._statuses = statuses
        self._health = health
        self._metrics = metrics
        self._guard_rails = guard_rails
        self._clock = clock
        self._prepared = prepared
        self._listed = False
        self._agenda = Agenda()
        self._evaluation = Evaluation()
        self._restarts = WatchRestarts()
        self._planned: planning.Planned | None = None
        self._memo = planning.Memo()
        self._published: Mapping[str, PlanEntry] = {}  # the entries that the slices hold
        self._made: dict[str, slices.Slice] = {}
        self._agents: frozenset[str] = frozenset()  # the nodes that ran an agent when the plan was made

    def run(self, stopping: threading.Event) -> Cache | None:
        """Act until the term is over or `stopping` is set; return all known objects, None if they were never complete.

        Raises CannotFollowError when another replica should act, and the error that ended one of its threads.
        """
        watch_health = self._cache.watch_health
        self._health.acting(lambda: {k.value: s for k, s in watch_health.silence_seconds().items()})
        try:
            if self.begin(stopping):
                while self._fence.open and not stopping.is_set():
                    self._cache.woken.wait(self._agenda.wait_seconds(self._clock.monotonic(), self._clock.wall()))
                    self.turn()
        except LeadershipLostError as lost:
            log.warning("leadership is lost", why=str(lost))
        finally:
            self._fence.end()
            self._watch.stop()
            self._checker.stop()
            self._statuses.close()
            for each in (self._traffic, self._policies):
                if each is not None:
                    each.stop()
            watch_health.stop()
            self._metrics.watch_silence.clear()
            self._health.standing_by()
        return self._cache if self._listed else None

    # ── the beginning ──────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, stopping: threading.Event) -> bool:
        """List everything, publish a plan, and start to watch; return False if the term ended before all was listed."""
        if not self._prepared:
            self._lease.ask_server_time()
        pauses = first_lists.fill(
            self._api, self._cache, self._clock, self._is_wanted, prepared=self._prepared, then=self._begin_plans
        )
        for pause_seconds in pauses:
            self._health.turned("term")
            if stopping.wait(pause_seconds) or not self._fence.open:
                return False
        self._checker.read_addresses()
        self._listed = True
        self._health.listed()
        spread_seconds = node_state.spread_seconds(_head(self._cache.snapshot()).nodes)
        self._agenda.begin(self._clock.monotonic(), spread_seconds)
        self._statuses.start()
        # The plan first: kopf reads everything once more, and what changes meanwhile is in its list or missing in ours.
        self.turn()
        self._cache.watch_health.start()
        self._watch.start()
        self._checker.start()
        for each in (self._traffic, self._policies):
            if each is not None:
                each.start()
        return True

    def _is_wanted(self) -> bool:
        """Return whether a list is still wanted, and record that this thread is alive during a long one."""
        self._health.turned("term")
        return self._fence.open

    def _begin_plans(self) -> None:
        seen = [each.content for each in self._cache.snapshot().slices.values()]
        self._lease.at_least(slices.latest_term(seen))
        self._metrics.term.set(self._fence.term)
        self._publisher.begin(seen)
        written = self._publisher.plans.written.values()
        self._published = {entry.limit: entry for item in written for entry in item.entries}

    # ── one turn ───────────────────────────────────────────────────────────────────────────────────────────────

    def turn(self) -> None:
        """Do everything that is due now."""
        self._health.turned("term")
        self._follow()
        now, wall = self._clock.monotonic(), self._clock.wall()
        changed = self._cache.take_changed()
        self._agenda.note(changed, now, wall, agents_changed=Kind.STATE in changed and self._agents_changed())
        if self._agenda.plan_is_due(now):
            self._publish()
        if self._agenda.evaluation_is_due(self._clock.monotonic()):
            self._evaluate_all()
        self._measure()

    def _follow(self) -> None:
        """Check that this replica can follow the cluster. Raises CannotFollowError, and a thread's error."""
        for thread in (self._checker, self._statuses):
            if thread.crashed is not None:
                raise thread.crashed
        went_back = self._lease.went_back.is_set() or self._checker.went_back.is_set()
        if not self._restarts.due(self._clock.monotonic(), self._cache.watch_health.silent(), went_back=went_back):
            return
        if went_back:
            log.warning("the API server was restored from a backup, or the Lease edited: all is listed again")
            self._lease.went_back.clear()
            self._checker.went_back.clear()
            self._cache.forget_versions()
        self._watch.begin_again()
        self._checker.list_all()

    def _agents_changed(self) -> bool:
        """Return whether the set of nodes with an agent, by which SplitEvenly divides, differs from the plan's."""
        return frozenset(self._cache.snapshot().states) != self._agents

    def _publish(self) -> None:
        """Make a plan and write its slices; after a failure try again, with growing pauses."""
        try:
            if self._plan():
                self._agenda.published()
            else:
                self._agenda.failed(self._clock.monotonic())
        except client.ApiError as error:
            asked = error.retry_after_seconds if isinstance(error, client.RefusedError) else None
            seconds = self._agenda.failed(self._clock.monotonic(), asked)
            log.warning("a write failed and is tried again", error=str(error), after_seconds=seconds)

    def _plan(self) -> bool:
        """Make the plan and write its slices; return False if that was not possible yet."""
        snapshot = self._cache.snapshot()
        if not self._cache.complete or self._is_retiring(snapshot):
            return False
        publisher = self._publisher
        with self._metrics.compile_seconds.time():
            publisher.recognise(snapshot.slices)
            planned = planning.plan_of(
                snapshot,
                publisher.plans.written,
                self._clock.wall(),
                self._guard_rails,
                settled=self._agenda.settled,
                before=self._planned,
                memo=self._memo,
                turned=lambda: self._health.turned("term"),
            )
            seen = {name: each.content for name, each in snapshot.slices.items()}
            steps = slicing.steps(planned.plan, seen, term=self._fence.term, nodes=planned.agents, made=self._made)
        self._planned, self._agents = planned, frozenset(snapshot.states)
        self._agenda.planned(self._clock.monotonic(), planned.until)
        if steps.writes:
            with self._metrics.publish_seconds.time():
                done = publisher.carry_out(steps, snapshot.slices)
            if not done:
                return False
            log.info(
                "plan published",
                limits=len(planned.plan.entries),
                writes=steps.writes,
                digest=publisher.plans.digest,
            )
        self._published = planned.plan.entries
        if self._traffic is not None:
            self._traffic.plan_is(self._published)
        if self._policies is not None:
            self._policies.plan_is(planned)
        return True

    def _is_retiring(self, snapshot: objects.Snapshot) -> bool:
        """Return whether the head orders to retire in a later term: that of a running retirement, which has the Lease.

        An order of an earlier term is left from a retirement that did not finish; one of our own term was edited by
        hand; one that comes while we hold the Lease was restored from a backup, and our term is raised above it.
        """
        head = _head(snapshot)
        if head.retire and self._fence.term < head.term < slices.TERM_MAX:
            self._lease.at_least(head.term)
            return head.term > self._fence.term
        return False

    def _evaluate_all(self) -> None:
        """Work out the state of all limits from what the nodes report now, and have their statuses written."""
        self._agenda.evaluation_began()
        if self._planned is None or not self._cache.complete:
            return
        began = self._clock.monotonic()
        with self._metrics.rollup_seconds.time():
            snapshot = self._cache.snapshot()
            evaluated = self._evaluation.evaluate(
                snapshot,
                self._planned,
                self._published,
                self._publisher.plans,
                began,
                settled=self._agenda.settled,
            )
            for outcome, limit in evaluated.outcomes:
                self._statuses.update(outcome, limit)
            self._statuses.forget_all_but(snapshot.limits)
        self._agenda.evaluated(began, self._clock.monotonic(), evaluated.silent_at, settling=evaluated.settling)
        self._metrics.limits.clear()
        for reason, count in self._statuses.reasons().items():
            self._metrics.limits.labels(reason).set(count)
        for word, count in evaluated.nodes.items():
            self._metrics.nodes.labels(word).set(count)

    def _measure(self) -> None:
        metrics = self._metrics
        metrics.statuses_waiting.set(len(self._statuses))
        for kind, count in self._cache.counts().items():
            metrics.objects.labels(kind.value).set(count)
        if self._planned is not None:
            metrics.plan_entries.set(len(self._planned.plan.entries))
        metrics.plan_slices.set(len(self._publisher.plans.written))
        for kind, seconds in self._cache.watch_health.silence_seconds().items():
            metrics.watch_silence.labels(kind.value).set(seconds)


def _head(snapshot: objects.Snapshot) -> slices.Head:
    """Return the head as it is in the cluster; an empty one if there is none that can be read."""
    found = snapshot.slices.get(slices.HEAD)
    return found.content if found is not None and isinstance(found.content, slices.Head) else slices.Head(())
