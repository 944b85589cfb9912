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
from bandwidth_api.crds import asked, client_traffic, slices, traffic_query
from bandwidth_api.crds.asked import Asked
from bandwidth_api.crds.traffic_query import Answer, Query
from bandwidth_api.kinds import Kind
from bandwidth_api.plan import PlanEntry, Prefix
from bandwidth_kube import client
from bandwidth_kube.collection import Collection, Reading
from bandwidth_kube.list_watch import Reader
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.fence import LeadershipLostError
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.traffic import answers, questions
from bandwidth_operator.traffic.limit_names import LimitNames
from bandwidth_operator.traffic.reading import Listener, Reports
from bandwidth_runtime.clock import SYSTEM, Clock

QUERIES_MAX = 1000  # that are kept of very many; the rest comes when these have been deleted
REPORTS_MAX = 20_000
ABSENT_SECONDS = 60.0  # until a kind that the API server does not know is asked for again
QUIET_SECONDS = 0.1  # after an event, for what comes together
AT_ONCE = 50  # questions that are refused or deleted, before the others have their turn again
EARLY_SECONDS = 0.5  # between two answers while nodes are still missing in them
PART_OF_TIME = 5.0  # an answer that takes a second to make is made every five at most
RETRY_SECONDS = 2.0
ERROR_SECONDS = 30.0
SWEEP_SECONDS = 2.0  # after the end of the last question, when agents have heard of it, its reports are deleted
SWEEP_LAST_SECONDS = 60.0  # and once more, for agents that did not hear of it
CANDIDATES_FIRST_SECONDS = 4.0  # after the first answer, at the latest
CANDIDATES_SECONDS = 20.0
OLD_PLAN = "the CRD of BandwidthPlanSlice has no spec.traffic, so no node is asked; apply deploy/crds"
SURPLUS = f"{questions.QUESTIONS_MAX} older questions live; delete one: kubectl get clienttrafficqueries"
ENDED = "it was not renewed, and is deleted soon; to go on write another number into spec.renewal"

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclasses.dataclass(slots=True)
class _Written:
    """The last status of a question that was written, and when."""

    uid: str
    at: float = -math.inf
    answer: Answer | None = None
    took: float = 0.0  # seconds to make it


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
        self._writer = writer
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
        self._candidates: tuple[str, ...] = ()
        self._candidates_at = math.inf  # when they are chosen again
        self._first_renewal = 0  # of those who ask now; reports that answer an earlier one are left of others
        self._asked_candidates: dict[int, tuple[str, ...]] = {}  # by renewal
        self._written: dict[str, _Written] = {}
        self._limit_names = LimitNames({})
        self._old_plan = False
        self._sweep_at: float = -math.inf  # what an earlier term left
        self._last_sweep_at = math.inf

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
        head = self._head()
        if head is None or head.retire:
            return RETRY_SECONDS if self._queries else math.inf
        if not census.living and head.traffic is None and not (census.ended or census.dead or census.surplus):
            return self._rest(now)
        snapshot = self._cache.snapshot()
        agents = frozenset(n for n, s in snapshot.states.items() if n in snapshot.nodes and not objects.is_gone(s))
        self._ask(census.living, agents, head.traffic, now)
        if census.living:
            self._start_reports()
        else:
            self._stop_reports()
        due_at = self._answer(census, agents, snapshot, now)
        if not self._tell_others(census, now):
            due_at = now
        if census.living:
            self._sweep_at = now + SWEEP_SECONDS  # moves on while somebody asks
            self._last_sweep_at = now + SWEEP_LAST_SECONDS
            rest = math.inf
        else:
            rest = self._rest(now)
        ask_at = self._questions.ask_next_at(census.living, now)
        return min(census.next_at - now, due_at - now, ask_at - now, rest, math.inf)

    def _head(self) -> slices.Head | None:
        found = self._cache.slice(slices.HEAD)
        return found.content if found is not None and isinstance(found.content, slices.Head) else None

    # ── what is asked ──────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, living: tuple[Query, ...], agents: frozenset[str], before: Asked | None, now: float) -> None:
        """Have the head of the plan carry what is asked now."""
        exact = any(query.spec.exact for query in living)
        candidates, first = self._candidates if exact else (), int(self._clock.wall())
        wanted = self._questions.to_ask(living, agents, candidates, before, now, first)
        if wanted == before:
            return
        empty = {"nodes": None, "candidates": None}  # what a merge leaves out would stay
        wire = None if wanted is None else empty | asked.write(wanted)
        mark = self._cache.mark()
        try:
            answer = self._writer.write(
                "question",
                "PATCH",
                f"{Kind.SLICE.path}/{slices.HEAD}",
                {"spec": {"traffic": wire}},
                client.MERGE_PATCH,
            )
        except client.RefusedError as refused:
            if refused.status == 404:
                return  # it will be written again
            raise
        self._cache.learn(Kind.SLICE, answer, mark, own=True)
        if wanted is None:
            self._asked_candidates.clear()
            self._candidates, self._candidates_at = (), math.inf
            log.info("nobody asks about traffic any more")
            return
        there = slices.read(answer)
        self._old_plan = not isinstance(there, slices.Head) or there.traffic is None
        if before is None:
            self._first_renewal = wanted.renewal
        self._questions.was_asked(wanted, now)
        self._asked_candidates[wanted.renewal] = wanted.candidates
        while len(self._asked_candidates) > 4:
            del self._asked_candidates[min(self._asked_candidates)]
        log.info("nodes are asked about traffic", questions=len(living), seconds=wanted.seconds)

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
        there = {q.name for q in (*census.living, *census.ended, *census.surplus)}
        self._written = {name: each for name, each in self._written.items() if name in there}
        head = self._head()
        stream = head.traffic if head is not None and head.traffic is not None else Asked(0, 0)
        merged: dict[tuple[str, frozenset[str]], answers.Merged] = {}
        next_at = math.inf
        reports = [heard for heard in self._reports.heard() if heard.traffic.renewal >= self._first_renewal]
        for query in census.living:
            known = self._known(query)
            due_at = known.at + max(self._pace(query, known), PART_OF_TIME * known.took)
            if due_at > now:
                next_at = min(next_at, due_at)
                continue
            began = self._clock.monotonic()
            nodes = questions.nodes_of(query, agents)
            key = (query.spec.group, nodes)
            if key not in merged:
                merged[key] = answers.merge(
                    reports, nodes, query.spec.group, stream.interval_seconds, now, self._asked_candidates
                )
            if query.spec.exact:
                self._choose_candidates(merged[key], nodes, now)
            self._write(query, self._made(query, nodes, merged[key], stream, snapshot), now)
            known.took = self._clock.monotonic() - began
            next_at = min(next_at, known.at + max(self._pace(query, known), PART_OF_TIME * known.took))
        return next_at

    def _tell_others(self, census: questions.Census, now: float) -> bool:
        """Tell questions that are not answered why not, and delete dead ones; return whether that was all of them."""
        for query in census.ended:
            last = self._known(query).answer
            if last is not None:  # else another replica has answered it, and its answer stays
                ended = dataclasses.replace(last, status="False", reason=traffic_query.ENDED, message=ENDED)
                self._write(query, ended, now)
        untold = [query for query in census.surplus if self._known(query).answer is None]
        for query in untold[:AT_ONCE]:
            self._write(query, answers.refused(query, traffic_query.TOO_MANY, SURPLUS), now)
        for query in census.dead[:AT_ONCE]:
            self._delete(query)
        return max(len(untold), len(census.dead)) <= AT_ONCE

    def _choose_candidates(self, merged: answers.Merged, nodes: frozenset[str], now: float) -> None:
        """Choose the clients that all nodes are asked for, rarely: every node reads the list."""
        if self._candidates_at == math.inf:
            self._candidates_at = now + CANDIDATES_FIRST_SECONDS
        if now >= self._candidates_at or (not self._candidates and merged.answered == nodes):
            self._candidates, self._candidates_at = answers.candidates_of(merged), now + CANDIDATES_SECONDS

    def _made(
        self,
        query: Query,
        nodes: frozenset[str],
        merged: answers.Merged,
        stream: Asked,
        snapshot: objects.Snapshot,
    ) -> Answer:
        if self._old_plan:
            return answers.refused(query, traffic_query.OLD_PLAN, OLD_PLAN)
        shown = merged.ranked[: query.spec.top]
        if self._limit_names.of is not self._entries:
            self._limit_names = LimitNames(self._entries)
        return answers.answer(query, nodes, merged, stream, _labels(snapshot, shown), self._limit_names.holding(shown))

    def _known(self, query: Query) -> _Written:
        known = self._written.get(query.name)
        if known is None or known.uid != query.uid:
            known = self._written[query.name] = _Written(query.uid)
        return known

    def _pace(self, query: Query, known: _Written) -> float:
        waiting = known.answer is None or known.answer.answered < known.answer.asked
        return min(EARLY_SECONDS, query.spec.interval_seconds) if waiting else float(query.spec.interval_seconds)

    def _write(self, query: Query, answer: Answer, now: float) -> None:
        """Write the status of a question if it says something else than before."""
        known = self._known(query)
        before, known.at = known.answer, now
        if before is not None:
            same = (before.status, before.reason) == (answer.status, answer.reason)
            answer = dataclasses.replace(answer, observed_at=before.observed_at, since=before.since if same else "")
            if answer == before:
                return
        wall = self._clock.wall()
        answer = dataclasses.replace(answer, observed_at=wall, since=answer.since or traffic_query.rfc3339(wall))
        try:
            self._writer.write(
                "question",
                "PATCH",
                f"{kinds.QUERIES_PATH}/{query.name}/status",
                {"status": traffic_query.write_answer(answer)},
                client.MERGE_PATCH,
            )
        except client.RefusedError as refused:
            if refused.status != 404 and refused.temporary:
                raise
            if refused.status != 404:
                log.warning("the API server refuses an answer", question=query.name, error=str(refused))
        known.answer = answer

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────

    def _delete(self, query: Query) -> None:
        """Delete a question, if nobody has renewed it meanwhile."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": query.uid, "resourceVersion": query.version},
        }
        try:
            self._writer.write("question", "DELETE", f"{kinds.QUERIES_PATH}/{query.name}", body)
        except client.RefusedError as refused:
            if refused.status not in (404, 409):
                raise

    def _rest(self, now: float) -> float:
        """Delete reports that nobody waits for; return the seconds until that is due again."""
        if now >= self._sweep_at:
            self._sweep_at = math.inf if self._swept() else now + SWEEP_SECONDS
        if now >= self._last_sweep_at:
            self._last_sweep_at, self._sweep_at = math.inf, math.inf if self._swept() else now + SWEEP_SECONDS
        return min(self._sweep_at, self._last_sweep_at) - now

    def _swept(self) -> bool:
        """Delete all reports; return whether there were none."""
        try:
            page = self._api.request("GET", kinds.TRAFFIC_PATH, query={"limit": "1"})
            if not page.get("items"):
                return True
            self._writer.write("question", "DELETE", kinds.TRAFFIC_PATH, {"apiVersion": "v1", "kind": "DeleteOptions"})
        except client.RefusedError as refused:
            if refused.status in (403, 404):
                return True  # an installation without questions
            raise
        return False


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
