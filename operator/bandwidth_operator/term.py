"""One term of a leader: everything from the first list to the last write, in one thread.

    lists ─▶ memory ◀─ watch                     what is wanted is worked out anew from all that is known,
               │ woken                            never from a single event
               ▼
    changes quiet for a moment ─▶ plan ─▶ slices ─▶ history
    node states, plan          ─▶ rollup ─▶ statuses that differ, one after another

A plan goes before statuses, always. The term ends when its fence closes; nothing of it is needed by the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import structlog

from bandwidth_api import node_state, slices
from bandwidth_kube import client
from bandwidth_kube.connection import Connection
from bandwidth_operator import known, lists, planning, rollup, settings, slicing
from bandwidth_operator.bucket import TokenBucket
from bandwidth_operator.fence import Fence, LeadershipLostError
from bandwidth_operator.health import Health
from bandwidth_operator.history import History
from bandwidth_operator.known import Kind
from bandwidth_operator.lease import Lease
from bandwidth_operator.memory import Memory
from bandwidth_operator.metrics import Metrics
from bandwidth_operator.publish import Publisher
from bandwidth_operator.statuses import Statuses
from bandwidth_operator.watch import Watch
from bandwidth_operator.writer import Writer

log = structlog.get_logger(__name__)


class Term:
    """What one leader knows and has under way. `run` returns when the term is over."""

    def __init__(
        self,
        api: client.Client,
        connection: Connection,
        lease: Lease,
        fence: Fence,
        bucket: TokenBucket,
        health: Health,
        metrics: Metrics,
        user_agent: str,
        prepared: Memory | None = None,
    ) -> None:
        self._api = api
        self._lease = lease
        self._fence = fence
        self._health = health
        self._metrics = metrics
        self._prepared = prepared is not None
        self._listed = False
        self._memory = prepared if prepared is not None else Memory()
        self._writer = Writer(api, fence, bucket, metrics)
        self._watch = Watch(connection, self._memory, user_agent)
        self._checker = lists.Checker(api, self._memory, self._watch.streams, metrics)
        self._plans = History()
        self._publisher = Publisher(api, self._writer, self._memory, self._plans)
        self._statuses = Statuses(api, self._writer, self._memory, metrics)
        self._planned: planning.Planned | None = None
        self._made: dict[str, slices.Slice] = {}
        self._winners: dict[str, tuple[str, ...]] = {}
        self._winners_of: tuple[object, ...] = ()
        self._agents: frozenset[str] = frozenset()  # the nodes that ran an agent when the plan was made
        self._dirty_since: float | None = None  # monotonic: since when the plan may be another
        self._dirty_at = 0.0  # and the last change of that kind
        self._rollup_due: float | None = None
        self._rollup_took = 0.0
        self._silent_at: float | None = None  # epoch: when the next node will count as silent
        self._failures = 0
        self._not_before = 0.0  # monotonic: after a failed write
        self._began_at = time.monotonic()

    def run(self, stopping: threading.Event) -> Memory | None:
        """Act until the term is over or `stopping` is set. Returns what it knew; None if that was never everything."""
        self._health.acting(lambda: {k.value: s for k, s in self._watch.streams.silence_seconds().items()})
        try:
            if self._begin(stopping):
                while self._fence.open and not stopping.is_set():
                    self._turn()
        except LeadershipLostError as lost:
            log.warning("leadership is lost", why=str(lost))
        finally:
            self._fence.end()
            self._watch.stop()
            self._checker.stop()
            self._statuses.close()
            self._health.standing_by()
        return self._memory if self._listed else None

    # ── the beginning ──────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, stopping: threading.Event) -> bool:
        """List everything. False if the term ended before that was done.

        What was listed ahead of the term is good enough for the limits, of which there are many, if no slice has
        changed since: the list that checks the watch follows at once.
        """
        waiting = [Kind.SLICE, Kind.NODE, Kind.STATE] if self._prepared else list(Kind)
        ahead = self._slice_versions()
        for seconds in _retries():
            try:
                while waiting:
                    lists.fill(self._api, self._memory, waiting[0])
                    self._health.turned("term")
                    if self._prepared and waiting[0] is Kind.SLICE and self._slice_versions() != ahead:
                        waiting.append(Kind.LIMIT)
                    waiting.pop(0)
                self._begin_history()
                break
            except (client.ApiError, lists.MissingKindError) as error:
                log.warning("not everything could be listed, tried again", error=str(error), after_seconds=seconds)
            self._health.turned("term")
            if stopping.wait(seconds) or not self._fence.open:
                return False
        self._listed = True
        self._health.listed()
        self._began_at = time.monotonic()
        self._dirty_since = self._dirty_at = time.monotonic() - settings.LONGEST_WAIT_SECONDS
        # The plan first: kopf reads everything once more, and what changes meanwhile is in its list or missing in ours.
        self._turn()
        self._watch.start()
        self._checker.start()
        return True

    def _slice_versions(self) -> dict[str, int]:
        return {name: each.version for name, each in self._memory.snapshot().slices.items()}

    def _begin_history(self) -> None:
        seen = [known_slice.content for known_slice in self._memory.snapshot().slices.values()]
        terms = [content.term for content in seen if isinstance(content, slices.Slice | slices.Head)]
        self._lease.at_least(max(terms, default=0))
        self._metrics.term.set(self._fence.term)
        self._plans = History(content for content in seen if isinstance(content, slices.Slice))
        self._publisher = Publisher(self._api, self._writer, self._memory, self._plans)

    # ── one turn ───────────────────────────────────────────────────────────────────────────────────────────────

    def _turn(self) -> None:
        self._health.turned("term")
        self._memory.woken.wait(self._wait_seconds())
        now = time.monotonic()
        changed = self._memory.take_changed()
        if changed:
            self._rollup_due = now if self._rollup_due is None else self._rollup_due
        if changed - {Kind.STATE} or (Kind.STATE in changed and self._agents_changed()):
            self._dirty_at = now
            self._dirty_since = now if self._dirty_since is None else self._dirty_since
        if self._expired(time.time()):
            self._dirty_since = self._dirty_at = now - settings.LONGEST_WAIT_SECONDS
        if self._silent_at is not None and self._silent_at < time.time():
            self._silent_at, self._rollup_due = None, now
        if now < self._not_before:
            return
        try:
            if self._compile_at() <= now:
                self._compile()
            if self._rollup_due is not None and self._rollup_at() <= time.monotonic():
                self._rollup()
            self._statuses.write_some(time.time())
            self._failures = 0
        except client.ApiError as error:
            self._back_off(error)
        self._measure()

    def _wait_seconds(self) -> float:
        """How long nothing has to be done unless something changes."""
        now, epoch = time.monotonic(), time.time()
        waits = [settings.TURN_SECONDS]
        if self._dirty_since is not None:
            waits.append(self._compile_at() - now)
        if self._rollup_due is not None:
            waits.append(self._rollup_at() - now)
        status_at = self._statuses.next_at()
        if status_at is not None:
            waits.append(status_at - epoch)
        if self._planned is not None and self._planned.until is not None:
            waits.append(self._planned.until - epoch)
        return max(0.0, min(waits), self._not_before - now)

    def _compile_at(self) -> float:
        if self._dirty_since is None:
            return float("inf")
        return min(self._dirty_at + settings.QUIET_SECONDS, self._dirty_since + settings.LONGEST_WAIT_SECONDS)

    def _rollup_at(self) -> float:
        """Looking at all limits may take a fifth of the time, not more."""
        due = self._rollup_due if self._rollup_due is not None else float("inf")
        return due + max(settings.ROLLUP_SECONDS, 4 * self._rollup_took) - settings.ROLLUP_SECONDS / 2

    def _expired(self, now: float) -> bool:
        return self._planned is not None and self._planned.until is not None and self._planned.until <= now

    def _agents_changed(self) -> bool:
        """Whether other nodes run an agent than when the plan was made: what SplitEvenly divides by."""
        return frozenset(self._memory.snapshot().states) != self._agents

    def _back_off(self, error: client.ApiError) -> None:
        delays = settings.RETRY_SECONDS
        seconds = delays[min(self._failures, len(delays) - 1)]
        if isinstance(error, client.RefusedError) and error.retry_after_seconds is not None:
            seconds = max(seconds, error.retry_after_seconds)
        self._failures += 1
        self._not_before = time.monotonic() + seconds
        log.warning("a write failed and is tried again", error=str(error), after_seconds=seconds)

    # ── plan and slices ────────────────────────────────────────────────────────────────────────────────────────

    def _compile(self) -> None:
        """Work out the plan and bring the slices to it. Stays dirty when that could not be done."""
        snapshot = self._memory.snapshot()
        if self._retiring(snapshot):
            self._dirty_since = None
            return
        with self._metrics.compile_seconds.time():
            self._publisher.recognise(snapshot.slices)
            planned = planning.plan_of(snapshot, self._plans.written, time.time())
            seen = {name: each.content for name, each in snapshot.slices.items()}
            term, agents = self._fence.term, planned.agents
            steps = slicing.steps(planned.plan, seen, term=term, nodes=agents, made=self._made)
        self._planned, self._agents = planned, frozenset(snapshot.states)
        self._rollup_due = time.monotonic()
        if steps.writes:
            with self._metrics.publish_seconds.time():
                done = self._publisher.carry_out(steps, snapshot.slices)
            if not done:
                return
            log.info("plan published", limits=len(planned.plan.entries), writes=steps.writes, digest=self._plans.digest)
        self._dirty_since = None

    def _retiring(self, snapshot: known.Snapshot) -> bool:
        """Whether the head says retire in a later term, that of a retirement under way.

        One of an earlier term is left of a retirement that did not end; one of ours was edited by somebody.
        """
        head = _head(snapshot)
        return head.retire and head.term > self._fence.term

    # ── statuses ───────────────────────────────────────────────────────────────────────────────────────────────

    def _rollup(self) -> None:
        """Judge all limits by what the nodes say now."""
        planned = self._planned
        self._rollup_due = None
        if planned is None:
            return
        began = time.monotonic()
        epoch = time.time()
        with self._metrics.rollup_seconds.time():
            snapshot = self._memory.snapshot()
            nodes = rollup.views(snapshot, self._plans, epoch)
            self._update_winners(planned, nodes)
            answers = rollup.Rollup(nodes, self._plans)
            settling = self._settling(nodes, _head(snapshot))
            for name, limit in snapshot.limits.items():
                if not planned.covers(limit):
                    continue  # newer than the plan, which is on its way
                verdict = planning.verdict(name, planned, answers, self._winners)
                if not (settling and _was_programmed(limit) and self._plans.changed_at(name) == 0):
                    self._statuses.judge(verdict, limit, epoch)
            self._statuses.forget_all_but(snapshot.limits)
        if settling:
            self._rollup_due = began + settings.TURN_SECONDS
        states = [s.content for s in snapshot.states.values() if isinstance(s.content, node_state.NodeState)]
        self._silent_at = min((at for s in states if (at := known.silent_from(s)) > epoch), default=None)
        self._rollup_took = time.monotonic() - began
        self._metrics.limits.clear()
        for reason, count in self._statuses.reasons().items():
            self._metrics.limits.labels(reason).set(count)
        current = self._plans.step_of(self._plans.digest)
        for word, count in rollup.census(nodes, current).items():
            self._metrics.nodes.labels(word).set(count)

    def _settling(self, nodes: list[rollup.NodeView], head: slices.Head) -> bool:
        """At the beginning of a term a node may be at a plan that this leader has never seen: give it a moment."""
        moment = settings.SETTLE_SECONDS + node_state.spread_seconds(head.nodes)
        if time.monotonic() - self._began_at > moment:
            return False
        return any(node.step is None and node.trouble is None for node in nodes)

    def _update_winners(self, planned: planning.Planned, nodes: list[rollup.NodeView]) -> None:
        of = (planned.plan, frozenset((n.name, tuple(sorted(n.labels.items()))) for n in nodes))
        if self._winners_of != of:
            self._winners = planning.winners(planned.plan, nodes)
            self._winners_of = of

    def _measure(self) -> None:
        metrics = self._metrics
        metrics.statuses_waiting.set(len(self._statuses))
        for kind, count in self._memory.counts().items():
            metrics.objects.labels(kind.value).set(count)
        if self._planned is not None:
            metrics.plan_entries.set(len(self._planned.plan.entries))
        metrics.plan_slices.set(len(self._plans.written))
        for kind, seconds in self._watch.streams.silence_seconds().items():
            metrics.watch_silence.labels(kind.value).set(seconds)


def _head(snapshot: known.Snapshot) -> slices.Head:
    """The head as it is in the cluster; one that says nothing if there is none that can be read."""
    found = snapshot.slices.get(slices.HEAD)
    return found.content if found is not None and isinstance(found.content, slices.Head) else slices.Head(())


def _was_programmed(limit: known.Limit) -> bool:
    written = limit.status.get("conditions") or ()
    return any(c.get("type") == "Programmed" and c.get("status") == "True" for c in written)


def _retries() -> Iterator[float]:
    yield from settings.RETRY_SECONDS
    while True:
        yield settings.RETRY_SECONDS[-1]
