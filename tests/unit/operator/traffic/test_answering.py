"""One term of questions before an API server in memory: what is asked, answered, bounded and deleted, and when."""

from __future__ import annotations

from typing import Any

import pytest

from bandwidth_api import kinds, names
from bandwidth_api.crds import client_traffic, slices, traffic_query
from bandwidth_api.crds.client_rows import Amount, Row
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_kube.collection import Reading
from bandwidth_operator.cache import lists
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.fence import Fence, LeadershipLostError
from bandwidth_operator.election.token_bucket import TokenBucket
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.reporting.metrics import Metrics
from bandwidth_operator.traffic.answering import Answering
from unit.operator.cluster import Cluster, Time
from unit.operator.traffic.test_answers import address

HEAD = f"{Kind.SLICE.path}/{slices.HEAD}"
SECONDS = 1.0


class Term:
    """Questions of one term over a cluster with some nodes."""

    def __init__(self, nodes: int = 3, cluster: Cluster | None = None, time: Time | None = None) -> None:
        self.time = time or Time()
        self.cluster = cluster or Cluster(self.time)
        if cluster is None:
            head = {"apiVersion": "x", "spec": slices.write(slices.Head((), term=1))}
            self.cluster.put(HEAD, head)
            for number in range(nodes):
                self.cluster.node(f"n{number}")
                self.cluster.put(f"{Kind.STATE.path}/n{number}", {"status": {"schema": 1}})
        clock = self.time.clock
        self.fence = Fence(1, clock.monotonic() + 1000.0, clock.monotonic)
        self.cache = Cache(clock.monotonic)
        for kind in Kind:
            lists.fill(self.cluster, self.cache, kind)
        writer = Writer(self.cluster, self.fence, TokenBucket(1e6, 1e6, clock.monotonic), Metrics())
        self.answering = Answering(self.cluster, writer, self.cache, clock.wall, clock)
        self.cluster.requests.clear()

    def ask(self, name: str = "q", author: str = "", **spec: Any) -> None:
        metadata = {"generation": 1, "annotations": {names.AUTHOR: author}}
        self.cluster.put(f"{kinds.QUERIES_PATH}/{name}", {"metadata": metadata, "spec": spec})

    def renew(self, name: str = "q") -> None:
        before = self.cluster.objects[f"{kinds.QUERIES_PATH}/{name}"]
        metadata = before["metadata"] | {"generation": before["metadata"]["generation"] + 1}
        self.cluster.put(f"{kinds.QUERIES_PATH}/{name}", before | {"metadata": metadata})

    def report(self, node: str = "n0", rate: float = 8e6, renewal: int | None = None) -> None:
        if renewal is None:
            renewal = int((self.asked() or {"renewal": 1})["renewal"])
        rates = (Amount(rate, 1.0), Amount(rate, 1.0), Amount(rate, 1.0))
        said = Traffic(node, renewal, self.time.now, 2, 60, rates, 1e6, (), 1, 1, 0, (Row(address(1), rates, 1e6),))
        self.cluster.put(f"{kinds.TRAFFIC_PATH}/{node}", {"status": client_traffic.write(said)})

    def turn(self, seconds: float = 0.0) -> float:
        """So much time passes, the readers bring what is there, and what is due is done."""
        self.time.pass_by(seconds)
        queries = self.cluster.below(kinds.QUERIES_PATH)
        self.answering.read(Reading({name: traffic_query.read(item) for name, item in queries.items()}, "1"))
        if self.answering._reports_reader is not None:
            reports = self.cluster.below(kinds.TRAFFIC_PATH)
            self.answering.reports_read(
                Reading({name: client_traffic.read(item) for name, item in reports.items()}, "1")
            )
        return self.answering.turn()

    def asked(self) -> Any:
        return self.cluster.objects[HEAD]["spec"].get("traffic")

    def status(self, name: str = "q") -> dict[str, Any]:
        return dict(self.cluster.objects[f"{kinds.QUERIES_PATH}/{name}"].get("status") or {})

    def reason(self, name: str = "q") -> str:
        return str(self.status(name)["conditions"][0]["reason"])


def test_nobody_asks() -> None:
    """A term without questions looks once whether reports are left, and then sleeps without end."""
    term = Term()
    term.turn()
    assert term.cluster.requests == [("GET", kinds.TRAFFIC_PATH)]
    assert term.turn(3600.0) == float("inf")
    assert term.cluster.writes() == []


def test_a_question_from_its_beginning_to_its_end() -> None:
    """It is asked, answered within a turn of the first report, ended, deleted, and its reports with it."""
    term = Term()
    term.ask()
    term.turn()
    assert term.asked()["seconds"] == 56
    assert term.reason() == "Waiting"
    term.report()
    term.turn(1.0)
    assert term.status()["rows"][0]["client"] == "198.51.100.1"
    assert term.status()["nodes"] == {"asked": 3, "answered": 1, "silent": ["n1", "n2"], "troubles": []}
    assert term.reason() == "Answered"
    term.turn(56.0)
    assert not term.cluster.below(kinds.QUERIES_PATH)
    assert term.asked() is None
    assert term.turn(2.0) <= 2.0
    assert ("DELETE", kinds.TRAFFIC_PATH) in term.cluster.requests


def test_what_was_reported_to_others_does_not_count() -> None:
    """A report that is left of an earlier question, and what its reader still brings, are in no answer."""
    term = Term()
    term.ask("first")
    term.turn()
    term.report(renewal=term.asked()["renewal"])
    term.turn(1.0)
    late = term.answering._reports.take
    del term.cluster.objects[f"{kinds.QUERIES_PATH}/first"]
    reports = {n: client_traffic.read(i) for n, i in term.cluster.below(kinds.TRAFFIC_PATH).items()}
    term.turn(1.0)
    term.ask("second")
    term.turn(1.0)
    late(Reading(reports, "1"))
    term.turn(1.0)
    assert term.reason("second") == "Waiting"
    assert term.status("second")["rows"] == []
    term.report("n1")
    term.turn(1.0)
    assert term.status("second")["nodes"]["silent"] == ["n0", "n2"]


def test_the_plan_is_neither_written_nor_made_again() -> None:
    """What is asked is merged into the head beside the plan; the cache has it at once and wakes nobody."""
    term = Term()
    term.cache.take_changed()
    before = term.cluster.objects[HEAD]["spec"]
    term.ask()
    term.turn()
    after = term.cluster.objects[HEAD]["spec"]
    assert {k: v for k, v in after.items() if k != "traffic"} == before
    assert term.cache.take_changed() == frozenset()
    head = term.cache.slice(slices.HEAD)
    assert head is not None
    assert isinstance(head.content, slices.Head)
    assert head.content.traffic is not None
    assert slices.write(head.content) == before


def test_a_renewed_question_goes_on() -> None:
    """With a renewal every 20 s it lives for ever, and its answers are written at the interval."""
    term = Term(nodes=1)
    term.ask(interval=4)
    written = 0
    for second in range(200):
        if second % 20 == 19:
            term.renew()
        term.report(rate=1e6 * (1 + second))
        term.turn(1.0)
        written += sum(path.endswith("/status") for _, path in term.cluster.requests)
        term.cluster.requests.clear()
    assert term.reason() == "Answered"
    assert 45 <= written <= 55


def test_a_question_that_is_deleted_ends_at_once() -> None:
    """Whoever asks politely deletes the question; the nodes are told within the next turn."""
    term = Term()
    term.ask()
    term.turn()
    del term.cluster.objects[f"{kinds.QUERIES_PATH}/q"]
    term.turn(3.0)
    assert term.asked() is None


def test_a_renewal_at_the_last_moment_is_not_lost() -> None:
    """A question that was renewed while it was about to be deleted stays."""
    term = Term()
    term.ask()
    term.turn()
    term.time.pass_by(56.0)
    known = {name: traffic_query.read(i) for name, i in term.cluster.below(kinds.QUERIES_PATH).items()}
    term.renew()
    term.answering.read(Reading(known, "1"))
    term.answering.turn()
    assert term.cluster.below(kinds.QUERIES_PATH)
    term.turn()
    assert term.asked() is not None


def test_another_replica_goes_on() -> None:
    """A leader that takes over asks for the time that is left, under another renewal, and deletes on time."""
    term = Term()
    term.ask()
    term.turn()
    first = term.asked()["renewal"]
    term.report()
    term.turn(30.0)
    answered = term.status()["rows"]
    term.time.pass_by(10.0)
    other = Term(cluster=term.cluster, time=term.time)
    other.turn()
    assert (other.asked()["renewal"], other.asked()["seconds"]) == (first + 1, 16)
    assert answered
    other.turn(16.0)
    assert not other.cluster.below(kinds.QUERIES_PATH)
    assert other.asked() is None


def test_another_replica_takes_away_what_nobody_asks_any_more() -> None:
    """What a dead operator left in the head, and reports that are left, are gone after the first turns of a term."""
    term = Term()
    term.ask()
    term.turn()
    term.report()
    del term.cluster.objects[f"{kinds.QUERIES_PATH}/q"]
    other = Term(cluster=term.cluster, time=term.time)
    other.turn()
    assert other.asked() is None
    assert ("DELETE", kinds.TRAFFIC_PATH) in other.cluster.requests


def test_a_thousand_questions() -> None:
    """Sixteen are answered first; the others are told why not, once, fifty at a time, and all are gone in the end."""
    term = Term()
    for number in range(1000):
        term.ask(f"q{number:04d}", author=f"user {number}")
    assert term.turn() == 0.0
    writes = term.cluster.writes()
    assert writes[:17] == ["PATCH plan", *["PATCH status"] * 16]
    assert len(writes) == 17 + 50
    while term.turn(0.1) == 0.0:
        pass
    reasons = [term.reason(f"q{number:04d}") for number in range(1000)]
    assert reasons.count("TooManyQuestions") == 984
    term.cluster.requests.clear()
    term.turn(1.0)
    assert len(term.cluster.writes()) <= 16
    term.time.pass_by(56.0)
    for _ in range(20):
        term.turn(0.1)
    assert not term.cluster.below(kinds.QUERIES_PATH)


def test_one_who_asks_too_much_is_cut_down_and_others_are_answered() -> None:
    """Renewed as fast as can be, under names that come first: the question of somebody else is answered at once, and
    what is too much is deleted."""
    term = Term()
    for number in range(500):
        term.ask(f"a{number:04d}", author="eve")
    term.ask("z", author="ada")
    term.turn()
    term.report()
    term.turn(1.0)
    assert term.reason("z") == "Answered"
    for _ in range(40):
        for path in list(term.cluster.below(kinds.QUERIES_PATH)):
            term.renew(path)
        term.turn(0.1)
    assert len(term.cluster.below(kinds.QUERIES_PATH)) == 33
    assert term.reason("z") == "Answered"


def test_clients_that_are_named_go_into_the_head_and_out_again() -> None:
    """A question about one client is asked of all nodes; the next one without leaves nothing behind."""
    term = Term()
    term.ask(clients=["198.51.100.7"])
    term.turn()
    assert term.asked()["clients"] == ["198.51.100.7"]
    term.report()
    term.turn(1.0)
    assert [(row["client"], row["bitsPerSecond"]) for row in term.status()["rows"]] == [("198.51.100.7", [0, 0, 0])]
    del term.cluster.objects[f"{kinds.QUERIES_PATH}/q"]
    term.ask("other")
    term.turn(3.0)
    assert "clients" not in {key for key, value in term.asked().items() if value}


def test_an_older_schema_of_the_plan() -> None:
    """Where the API server drops what is asked from the head, the question says what to do, and nothing else fails."""

    class Pruning(Cluster):
        def request(self, method: str, path: str, **options: Any) -> client.Object:
            body = options.get("body") or {}
            if "traffic" in (body.get("spec") or {}):
                options["body"] = {"spec": {}}
            return super().request(method, path, **options)

    time = Time()
    whole = Term(time=time)
    pruning = Pruning(time)
    pruning.objects, pruning.version = whole.cluster.objects, whole.cluster.version
    for path, item in pruning.objects.items():
        if path == HEAD:
            item["spec"] = slices.write(slices.Head((), term=1))
    term = Term(cluster=pruning, time=time)
    term.ask()
    term.turn()
    term.turn(1.0)
    assert term.reason() == "OldPlanSchema"


def test_the_head_is_missing_or_retires() -> None:
    """Without a head nobody can be asked, and a retirement is not disturbed; both are waited for."""
    term = Term()
    term.cache.drop(Kind.SLICE, slices.HEAD)
    term.ask()
    assert 0 < term.turn() < 10
    retiring = {"spec": slices.write(slices.Head((), retire=True, term=9))}
    term.cache.learn(Kind.SLICE, term.cluster.put(HEAD, retiring), term.cache.mark())
    term.turn(1.0)
    assert term.asked() is None


def test_an_api_server_that_fails_is_asked_again() -> None:
    """A failed write leaves nothing half done: the next turn does it again."""
    term = Term()
    term.ask()

    def away(method: str, path: str) -> None:
        if method != "GET":
            raise client.UnreachableError("away")

    term.cluster.fault = away
    with pytest.raises(client.UnreachableError):
        term.turn()
    term.cluster.fault = lambda method, path: None
    term.turn(1.0)
    assert term.asked() is not None


def test_a_replica_that_lost_the_lease_writes_nothing() -> None:
    """After the end of the term no question is touched any more."""
    term = Term()
    term.ask()
    term.fence.end()
    with pytest.raises(LeadershipLostError):
        term.turn()
    assert term.asked() is None


def test_exact_asks_the_nodes_once_more() -> None:
    """The largest clients go into the head when all nodes have answered, and are chosen again every 20 s at most."""
    term = Term(nodes=1)
    term.ask(exact=True)
    term.turn()
    term.report()
    term.turn(1.0)
    term.turn(2.0)
    assert term.asked()["candidates"] == ["198.51.100.1"]
    heads = [path for method, path in term.cluster.requests if path == HEAD]
    for second in range(15):
        term.report(rate=1e6 * second)
        term.turn(1.0)
    assert [path for method, path in term.cluster.requests if path == HEAD] == heads
