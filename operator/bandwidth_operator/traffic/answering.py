"""Answers questions about traffic while this replica leads: reads them, asks the nodes, writes the answers.

    ClientTrafficQuery ──▶ questions ──▶ head of the plan (spec.traffic) ──▶ agents
             ▲                                                                │
             └── status ◀── answers ◀── NodeClientTraffic, one per node ◀─────┘

One thread turns; it sleeps without end while nobody asks. Then there is one idle watch of questions and nothing else:
reports are watched only while a question lives, and all are deleted after the last one. No plan and no status of a
limit ever waits for this, and an error here ends no term.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from bandwidth_api import kinds
from bandwidth_api.crds import client_traffic, slices, traffic_answer, traffic_query
from bandwidth_api.crds.asked import Asked
from bandwidth_api.crds.traffic_answer import Answer
from bandwidth_api.crds.traffic_query import Query
from bandwidth_api.plan import PlanEntry, Prefix
from bandwidth_kube import client
from bandwidth_kube.collection import Collection, Reading
from bandwidth_kube.list_watch import Reader
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.fence import LeadershipLostError
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.traffic import answers, questions
from bandwidth_operator.traffic.answer_writer import AnswerWriter
from bandwidth_operator.traffic.asking import Asking
from bandwidth_operator.traffic.leftovers import Leftovers
from bandwidth_operator.traffic.limit_names import LimitNames
from bandwidth_operator.traffic.reading import Listener, Reports
from bandwidth_runtime.clock import SYSTEM, Clock

QUERIES_MAX = 10_000  # that are kept of very many; the rest comes when these have been deleted
REPORTS_MAX = 20_000
ABSENT_SECONDS = 60.0  # until a kind that the API server does not know is asked for again
QUIET_SECONDS = 0.1  # after an event, for what comes together
AT_ONCE = 50  # questions that are refused or deleted, before the others have their turn again
RETRY_SECONDS = 2.0
ERROR_SECONDS = 30.0
OLD_PLAN = "the CRD of BandwidthPlanSlice has no spec.traffic, so no node is asked; apply deploy/crds"
SURPLUS = (
    f"{questions.QUESTIONS_MAX} questions live already, the first of each author before the second of anyone; delete"
    " one: kubectl get clienttrafficqueries"
)
ENDED = "it was not renewed, and is deleted soon; to go on write another number into spec.renewal"

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Answering:
    """The questions of one term. `start` and `stop` are called once; the rest is for its threads and for tests."""

    def __init__(
        self,
        api: client.Client,
        writer: Writer,
        cache: Cache,
        server_time: Callable[[], float | None] = lambda: None,
        clock: Clock = SYSTEM,
    ) -> None:
        """`server_time`: the API server's clock, seconds since the epoch, if it is known."""
        self._api = api
        self._cache = cache
        self._server_time = server_time
        self._clock = clock
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="questions", daemon=True)
        listener = Listener("questions about traffic are not answered")
        self._reader = Reader(
            api, _collection("questions", kinds.QUERIES_PATH, _query, QUERIES_MAX), self.read, listener
        )
        self._queries: Mapping[str, Query] | None = None  # None: not listed yet
        self._entries: Mapping[str, PlanEntry] = {}  # of the plan, for the names of limits
        self._reports = Reports(self._woken.set, clock.monotonic)
        self._reports_reader: Reader[client_traffic.Traffic | None] | None = None
        # From here on the thread's own.
        self._questions = questions.Questions()
        self._asking = Asking(writer, cache, self._questions)
        self._answers = AnswerWriter(writer, clock)
        self._leftovers = Leftovers(api, writer)
        self._limit_names = LimitNames({})

    def start(self) -> None:
        self._reader.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask the threads to end, without waiting for a request."""
        self._stopping.set()
        self._reader.stop()
        self._stop_reports()
        self._woken.set()

    def plan_is(self, entries: Mapping[str, PlanEntry]) -> None:
        """Take the entries of the plan, by which limits are named."""
        self._entries = entries

    def read(self, reading: Reading[Query]) -> None:
        """Take all questions."""
        self._queries = reading.items
        self._woken.set()

    def reports_read(self, reading: Reading[client_traffic.Traffic | None]) -> None:
        """Take all reports."""
        self._reports.take(reading)

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
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
                log.warning("a question about traffic must wait", error=str(error), after_seconds=RETRY_SECONDS)
                seconds = RETRY_SECONDS
            except Exception:
                # Whatever is wrong with a question, limits have nothing to do with it.
                log.exception("questions about traffic are not answered for a while", after_seconds=ERROR_SECONDS)
                self._stopping.wait(ERROR_SECONDS)
                seconds = 0.0
            wait = None if seconds == math.inf else max(0.0, seconds)

    def turn(self) -> float:
        """Do what is due now; return the seconds until something is due again, infinite if nothing is.

        Raises client.ApiError, LeadershipLostError.
        """
        if self._queries is None:
            return math.inf
        now = self._clock.monotonic()
        self._questions.note(self._queries, now, self._server_time())
        census = self._questions.census(now)
        head = self._asking.head()
        if head is None or head.retire:
            return RETRY_SECONDS if self._queries else math.inf
        if not census.living and head.traffic is None and not (census.ended or census.dead or census.flood):
            return self._sweep(head, now)
        snapshot = self._cache.snapshot()
        agents = frozenset(n for n, s in snapshot.states.items() if n in snapshot.nodes and not objects.is_gone(s))
        self._asking.ask(census.living, agents, head.traffic, now, self._clock.wall())
        if census.living:
            self._start_reports()
        else:
            self._stop_reports()
        due_at = self._answer(census, agents, snapshot, now)
        if not self._tell_others(census, now):
            due_at = now
        if census.living:
            self._leftovers.wait_for_the_end(now)
            rest = math.inf
        else:
            rest = self._sweep(head, now)
        ask_at = self._questions.ask_next_at(census.living, now)
        return min(census.next_at - now, due_at - now, ask_at - now, rest, math.inf)

    def _sweep(self, head: slices.Head, now: float) -> float:
        """Take reports away that nobody waits for; while policies look, they stay, and go with the last policy."""
        return self._leftovers.sweep(now) if head.watching is None else math.inf

    def _start_reports(self) -> None:
        if self._reports_reader is None:
            collection = _collection("traffic", kinds.TRAFFIC_PATH, _traffic, REPORTS_MAX)
            listener = Listener("reports of nodes about traffic are not read")
            # A reader that was stopped may bring one more reading: into what nobody looks at any more.
            self._reports = Reports(self._woken.set, self._clock.monotonic)
            self._reports_reader = Reader(self._api, collection, self._reports.take, listener)
            if not self._stopping.is_set() and self._thread.ident is not None:
                self._reports_reader.start()

    def _stop_reports(self) -> None:
        reader, self._reports_reader = self._reports_reader, None
        if reader is not None:
            reader.stop()

    # ── answers ────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(
        self, census: questions.Census, agents: frozenset[str], snapshot: objects.Snapshot, now: float
    ) -> float:
        """Write the answers that are due; return when the next one is, monotonic."""
        self._answers.keep({q.name for q in (*census.living, *census.ended, *census.surplus)})
        stream = self._asking.stream()
        merged: dict[tuple[str, frozenset[str], tuple[Prefix, ...]], answers.Merged] = {}
        next_at = math.inf
        reports = [heard for heard in self._reports.heard() if heard.traffic.renewal >= self._asking.first_renewal]
        for query in census.living:
            if self._answers.due_at(query) > now:
                next_at = min(next_at, self._answers.due_at(query))
                continue
            began = self._clock.monotonic()
            nodes = questions.nodes_of(query, agents)
            named = answers.named(query)
            key = (query.spec.group, nodes, named)
            if key not in merged:
                merged[key] = answers.merge(
                    reports, nodes, query.spec.group, stream.interval_seconds, now, self._asking.candidates, named
                )
            if query.spec.exact:
                self._asking.choose_candidates(merged[key], nodes, now)
            self._answers.write(query, self._made(query, nodes, merged[key], stream, snapshot), now)
            self._answers.took(query, self._clock.monotonic() - began)
            next_at = min(next_at, self._answers.due_at(query))
        return next_at

    def _tell_others(self, census: questions.Census, now: float) -> bool:
        """Tell questions that are not answered why not, and delete dead ones; return whether that was all of them."""
        for query in census.ended:
            last = self._answers.last(query)
            if last is not None:  # else another replica has answered it, and its answer stays
                ended = dataclasses.replace(last, status="False", reason=traffic_answer.ENDED, message=ENDED)
                self._answers.write(query, ended, now)
        untold = [query for query in census.surplus if self._answers.last(query) is None]
        for query in untold[:AT_ONCE]:
            self._answers.write(query, answers.refused(query, traffic_answer.TOO_MANY, SURPLUS), now)
        for query in census.dead[:AT_ONCE]:
            self._answers.delete(query)
        for query in census.flood[:AT_ONCE]:
            self._answers.delete(query, even_if_renewed=True)
        return max(len(untold), len(census.dead), len(census.flood)) <= AT_ONCE

    def _made(
        self,
        query: Query,
        nodes: frozenset[str],
        merged: answers.Merged,
        stream: Asked,
        snapshot: objects.Snapshot,
    ) -> Answer:
        if self._asking.old_plan:
            return answers.refused(query, traffic_answer.OLD_PLAN, OLD_PLAN)
        shown = answers.shown(query, merged)
        if self._limit_names.of is not self._entries:
            self._limit_names = LimitNames(self._entries)
        return answers.answer(query, nodes, merged, stream, _labels(snapshot, shown), self._limit_names.holding(shown))


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


def _query(item: client.Object, _before: Query | None) -> Query:
    return traffic_query.read(item)


def _traffic(item: client.Object, _before: client_traffic.Traffic | None) -> client_traffic.Traffic | None:
    return client_traffic.read(item)


def _labels(snapshot: objects.Snapshot, clients: tuple[Prefix, ...]) -> dict[Prefix, str]:
    """Return what a client is that is no client: another node, whose pods answer for this one."""
    wanted = frozenset(clients)
    return {address: f"node {node.name}" for node in snapshot.nodes.values() for address in node.addresses & wanted}
