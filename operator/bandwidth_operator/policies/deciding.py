"""Decides for policies while this replica leads: reads them, asks the nodes, makes and lifts limits, tells of it.

    ClientBandwidthPolicy ──▶ head of the plan (spec.watching) ──▶ agents ──▶ NodeClientTraffic, one per node
             ▲        ▲                                                              │
      status │        └── Events ◀── decisions ◀── rounds.decide ◀───────────────────┘
             └───────────────────────────┘ │
                                           └──▶ limits, owned by their policy

One thread turns, once a second while a policy looks, and sleeps without end while there is none: then there is one idle
watch of policies and nothing else. No plan and no status of a limit waits for this, and an error here ends no term.
A new term knows nothing: it takes over the limits that are there, and what the statuses remember. So a status tells of
a limit before that is made, and tells of it no more before it is deleted here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import structlog

from bandwidth_api import kinds
from bandwidth_api.conditions import Condition, ConditionType, Reason, Status
from bandwidth_api.crds import client_traffic
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Mode, Prefix
from bandwidth_api.policy import books, memory, node_traffic, rounds, status
from bandwidth_api.policy.decision import Decision
from bandwidth_api.policy.reports import Now
from bandwidth_api.policy.surroundings import Surroundings
from bandwidth_kube import client
from bandwidth_kube.collection import Collection, Reading
from bandwidth_kube.list_watch import Reader
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.fence import LeadershipLostError
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.policies import policy_objects
from bandwidth_operator.policies.decision_events import DecisionEvents
from bandwidth_operator.policies.limit_writer import LimitWriter
from bandwidth_operator.policies.neighbours import Neighbours
from bandwidth_operator.policies.node_reports import NodeReports
from bandwidth_operator.policies.policy_objects import Acting, Seen
from bandwidth_operator.policies.policy_statuses import PolicyStatuses
from bandwidth_operator.policies.watch_asking import WatchAsking
from bandwidth_operator.publish.planning import Planned
from bandwidth_operator.status.events import Correlator
from bandwidth_operator.traffic.leftovers import Leftovers
from bandwidth_operator.traffic.reading import Listener
from bandwidth_runtime.clock import SYSTEM, Clock

POLICIES_READ_MAX = 1000  # that are kept of very many; policy_objects.ACTING_MAX of them act
REPORTS_MAX = 20_000
ABSENT_SECONDS = 60.0  # until a kind that the API server does not know is asked for again
QUIET_SECONDS = 0.1  # after an event, for what comes together
ROUND_SECONDS = 1.0
# After a round so many times its own length passes before the next: however much there is to decide, plan and statuses
# have most of the process.
PAUSE_OF_A_ROUND = 3.0
RETRY_SECONDS = 2.0
ERROR_SECONDS = 30.0
OFF = "policies are switched off in this installation; the chart's value policies.enabled switches them on"

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Deciding:
    """The policies of one term. `start` and `stop` are called once; the rest is for its threads and for tests."""

    def __init__(
        self,
        api: client.Client,
        writer: Writer,
        cache: Cache,
        correlator: Correlator,
        guarded: frozenset[Prefix] = frozenset(),
        clock: Clock = SYSTEM,
        *,
        enabled: bool = True,
    ) -> None:
        """`guarded`: networks that the API server lets no limit touch. Not `enabled`: each policy is told so."""
        self._api = api
        self._writer = writer
        self._cache = cache
        self._clock = clock
        self._enabled = enabled
        self._series = writer.metrics.policies
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="policies", daemon=True)
        listener = Listener("policies decide nothing")
        self._reader = Reader(
            api,
            _collection("policies", kinds.POLICIES_PATH, policy_objects.read, POLICIES_READ_MAX),
            self.read,
            listener,
        )
        self._seen: Mapping[str, Seen] | None = None  # None: not listed yet
        self._planned: Planned | None = None
        # From here on the thread's own.
        self._reports = NodeReports(self._woken.set, clock.monotonic)
        self._reports_reader: Reader[Traffic | None] | None = None
        self._asking = WatchAsking(writer, cache)
        self._limits = LimitWriter(api, writer, cache, clock)
        self._statuses = PolicyStatuses(writer)
        self._events = DecisionEvents(writer, correlator)
        self._neighbours = Neighbours(guarded)
        self._leftovers = Leftovers(api, writer, of_earlier_terms=False)
        self._book = books.Book()
        self._remembered: set[str] = set()  # uids of policies whose status was read for what it remembers
        self._failed: list[Decision] = []  # that no status tells yet
        self._round_of: Mapping[str, Seen] | None = None  # the policies of the last round
        self._round_at = self._rested_at = -math.inf

    def start(self) -> None:
        self._reader.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask the threads to end, without waiting for a request."""
        self._stopping.set()
        self._reader.stop()
        self._stop_reports()
        self._woken.set()

    def plan_is(self, planned: Planned) -> None:
        """Take the plan, by which it is known what no limit may touch. Nothing is decided before the first one."""
        first, self._planned = self._planned is None, planned
        if first:
            self._woken.set()

    def read(self, reading: Reading[Seen]) -> None:
        """Take all policies."""
        self._seen = reading.items
        self._woken.set()

    def reports_read(self, reading: Reading[Traffic | None]) -> None:
        """Take all reports of nodes."""
        self._reports.read(reading)

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            self._series.clear()

    def _follow(self) -> None:
        wait: float | None = None
        while not self._stopping.is_set():
            self._woken.wait(wait)
            if self._stopping.wait(QUIET_SECONDS):
                return
            self._woken.clear()
            try:
                seconds = self.turn()
            except LeadershipLostError:
                return
            except client.ApiError as error:
                log.warning("policies must wait", error=str(error), after_seconds=RETRY_SECONDS)
                seconds = RETRY_SECONDS
            except Exception:
                # Whatever is wrong with a policy, limits that people wrote have nothing to do with it.
                log.exception("policies decide nothing for a while", after_seconds=ERROR_SECONDS)
                self._stopping.wait(ERROR_SECONDS)
                seconds = 0.0
            wait = None if seconds == math.inf else max(0.0, seconds)

    def turn(self) -> float:
        """Do what is due now; return the seconds until something is due again, infinite if nothing is.

        Raises client.ApiError, LeadershipLostError.
        """
        seen, planned = self._seen, self._planned
        if seen is None or planned is None:
            return math.inf
        now = Now(self._clock.monotonic(), self._clock.wall())
        self._statuses.keep(seen)
        if not self._enabled:
            return self._tell_off(seen, now)
        acting = policy_objects.acting(seen)
        policies = acting.policies
        due_at = self._rested_at
        if seen is self._round_of:
            due_at = max(due_at, self._round_at + ROUND_SECONDS)
        if now.steady < due_at:
            return due_at - now.steady
        self._round_of, self._round_at = seen, now.steady
        looking = any(each.spec.then.mode is not Mode.DISABLED for each in policies.values())
        around = self._neighbours.around(
            self._cache.snapshot(), planned.checked.protected, planned.plan.entries, now.wall
        )
        decided = self._decide(acting, seen, around, now)
        status_at = self._tell(acting, seen, [*self._failed, *decided], around, now)
        self._failed = self._carry_out(seen, now)
        self._events.turn()
        rest = self._look(policies, around, now, looking=looking)
        if looking or self._failed or len(self._limits) or len(self._events):
            return ROUND_SECONDS
        return min(status_at - now.steady, rest)

    def _tell_off(self, seen: Mapping[str, Seen], now: Now) -> float:
        due_at = math.inf
        self._asking.ask(None, now.steady)
        problems = policy_objects.acting(seen).problems
        for name, each in seen.items():
            stated = status.refused(problems[name]) if name in problems else switched_off()
            due_at = min(due_at, self._statuses.update(each, stated, now))
        return due_at - now.steady

    # ── decisions ──────────────────────────────────────────────────────────────────────────────────────────────

    def _decide(self, acting: Acting, seen: Mapping[str, Seen], around: Surroundings, now: Now) -> list[Decision]:
        """Make a round, and return what it decided."""
        decided: list[Decision] = []
        for name, policy in acting.policies.items():
            if seen[name].uid not in self._remembered:
                self._remembered.add(seen[name].uid)
                texts = seen[name].status.get("remembered")
                texts = texts if isinstance(texts, list) else ()
                self._book, pardoned = memory.remember(self._book, policy, texts, around.made, now)
                decided += pardoned
        policies, told = list(acting.policies.values()), self._reports.take()
        began_at = self._clock.monotonic()
        self._book, made = rounds.decide(self._book, policies, told, around, now, acting.problems)
        ended_at = self._clock.monotonic()
        self._rested_at = ended_at + PAUSE_OF_A_ROUND * (ended_at - began_at)
        decided += made
        self._limits.order(decided, acting.policies)
        self._note(decided, seen)
        return decided

    def _carry_out(self, seen: Mapping[str, Seen], now: Now) -> list[Decision]:
        """Write what is due of limits that their statuses tell of; return what the API server refused."""
        failed: list[Decision] = []
        done = self._limits.turn(self._statuses.tells_of)
        for decision in done.answered:
            self._book = books.written(self._book, decision, now)
        for decision, limit in done.written:
            self._events.written(decision, limit)
        for decision, message in done.refused:
            self._book, each = books.refused(self._book, decision, message, now)
            failed.append(each)
            log.warning("a limit of a policy was refused", limit=decision.limit, why=message)
        self._note(failed, seen)
        return failed

    def _note(self, decided: Iterable[Decision], seen: Mapping[str, Seen]) -> None:
        for each in decided:
            self._events.decided(each, seen.get(each.policy))
            self._series.decided(each)

    def _tell(
        self, acting: Acting, seen: Mapping[str, Seen], decided: list[Decision], around: Surroundings, now: Now
    ) -> float:
        """Bring statuses and metrics up to date; return when the next status is due, monotonic."""
        due_at = math.inf
        self._series.keep(seen)
        for name, each in seen.items():
            own = [decision for decision in decided if decision.policy == name]
            entry = self._book.entries.get(name)
            remembered = memory.remembered(entry, now) if entry is not None else None
            if isinstance(each.parsed, Policy) and name not in acting.problems:
                counts = status.counts(self._book, each.parsed, around.nodes, now)
                stated = status.found(each.parsed, counts)
                self._series.counted(name, counts, stated)
                at = self._statuses.update(each, stated, now, counts=counts, decided=own, remembered=remembered)
            elif name in acting.problems:
                stated = status.refused(acting.problems[name])
                at = self._statuses.update(each, stated, now, decided=own, remembered=remembered)
            else:
                continue  # nobody could ever act on it, and it is being deleted
            due_at = min(due_at, at)
        return due_at

    # ── what nodes look for ────────────────────────────────────────────────────────────────────────────────────

    def _look(self, policies: Mapping[str, Policy], around: Surroundings, now: Now, *, looking: bool) -> float:
        """Have the nodes look for what the policies need; return the seconds until something of that is due."""
        head = self._asking.head()
        if head is None or head.retire:
            return RETRY_SECONDS if looking else math.inf
        wanted = node_traffic.asked(policies.values(), books.limited(self._book), len(around.nodes))
        self._asking.ask(wanted, now.steady)
        if wanted is not None or head.watching is not None:
            self._leftovers.wait_for_the_end(now.steady)
        if wanted is not None:
            self._start_reports()
            return math.inf
        self._stop_reports()
        if head.traffic is not None:
            return math.inf  # whoever asks takes the reports away
        return self._leftovers.sweep(now.steady)

    def _start_reports(self) -> None:
        if self._reports_reader is None:
            collection = _collection("traffic of clients", kinds.TRAFFIC_PATH, _traffic, REPORTS_MAX)
            listener = Listener("reports of nodes are not read, so policies decide nothing")
            # A reader that was stopped may bring one more reading: into what nobody looks at any more.
            self._reports = NodeReports(self._woken.set, self._clock.monotonic)
            self._reports_reader = Reader(self._api, collection, self._reports.read, listener)
            if not self._stopping.is_set() and self._thread.ident is not None:
                self._reports_reader.start()

    def _stop_reports(self) -> None:
        reader, self._reports_reader = self._reports_reader, None
        if reader is not None:
            reader.stop()


def switched_off() -> list[Condition]:
    """Return the conditions of an accepted policy where the installation lets none act."""
    accepted = Condition(ConditionType.ACCEPTED, Status.TRUE, Reason.ACCEPTED)
    return [accepted, Condition(ConditionType.READY, Status.FALSE, Reason.DISABLED, OFF)]


def _collection(name: str, path: str, decode: Callable[[client.Object, T | None], T], most: int) -> Collection[T]:
    return Collection(
        name=name,
        path=path,
        decode=decode,
        watch_seconds=40,
        most=most,
        absent_seconds=ABSENT_SECONDS,
        forbidden_seconds=ABSENT_SECONDS,
    )


def _traffic(item: client.Object, _before: Traffic | None) -> Traffic | None:
    return client_traffic.read(item)
