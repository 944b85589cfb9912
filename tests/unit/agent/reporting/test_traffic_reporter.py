"""One node's answers to questions: when it looks, what it reports and when, and that it ends by itself.

A clock stands still until something waits; the sight lends stretches that a test makes; the API server is in memory.
"""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from bandwidth_agent.kernel import traffic
from bandwidth_agent.reporting import traffic_reporter
from bandwidth_agent.reporting.traffic_reporter import TrafficReporter
from bandwidth_api import addresses, kinds
from bandwidth_api.crds import asked, client_rows, client_traffic
from bandwidth_api.crds.asked import Asked
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_runtime.clock import Clock
from unit.kube.apis import Answer, Api, Request, refusal

NODE = "worker-3"
PATH = f"{kinds.TRAFFIC_PATH}/{NODE}/status"
MBIT = 1_000_000


class Lent:
    """A sight and the one lease of it; `failure` is what a lease is refused with."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.ends = 0.0
        self.open = False
        self.most_until = 0.0
        self.leases = 0
        self.refusal: OSError | None = None
        self.failure: BaseException | None = None
        self.receive: Callable[[Any], None] = lambda stretches: None

    def lease(self, seconds: float, receive: Callable[[Any], None]) -> Lent:
        if self.refusal is not None:
            raise self.refusal
        assert 0 < seconds <= 60
        self.open, self.receive, self.leases = True, receive, self.leases + 1
        self.ends = self._now() + seconds
        return self

    @property
    def holds(self) -> bool:
        return self.open and self._now() < self.ends

    def renew(self, seconds: float) -> bool:
        assert 0 < seconds <= 60
        if self.holds:
            self.ends = self._now() + seconds
        return self.holds

    def close(self) -> None:
        self.open = False


class Node:
    """A reporter whose thread runs when the test says, and whose waiting makes the time pass."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lent = Lent(lambda: self.now)
        self.run: list[Callable[[], None]] = []
        self.events: list[tuple[float, Callable[[], None]]] = []  # what happens at a time, in order
        self.clients = {bytes([198, 51, 100, 1]): 8 * MBIT, bytes([198, 51, 100, 2]): MBIT}
        self.answer: Callable[[Request], Answer] = self._take
        self.api = Api(lambda request: self.answer(request))
        self.statuses: list[tuple[float, Any]] = []
        self.reporter = TrafficReporter(
            self.api.client,
            NODE,
            self.lent,
            clock=Clock(lambda: self.now, lambda: 1_800_000_000.0 + self.now),
            spread=lambda least, most: most,
            start=self.run.append,
            wait=self._wait,
        )

    def _take(self, request: Request) -> Answer:
        if request.path == PATH:
            assert request.body is not None
            self.statuses.append((self.now, request.body["status"]))
        return Answer(body={"metadata": {"uid": "u"}})

    def _wait(self, seconds: float) -> None:
        """Let the time pass until then, or until something happens; samples come each second."""
        assert seconds > 0
        until = self.now + seconds
        while self.now < until:
            if self.events and self.events[0][0] <= self.now:
                self.events.pop(0)[1]()
                return
            began, self.now = self.now, min(until, self.now + 1.0, *(at for at, _ in self.events[:1]))
            if self.lent.open and self.now > began:
                self.lent.receive({"eth0": self._stretch(began)})

    def _stretch(self, began: float) -> traffic.Stretch:
        seconds = self.now - began
        seen = {
            key: traffic.Estimate(bps * seconds / 8, 100, (bps * seconds / 80) ** 2)
            for key, bps in self.clients.items()
        }
        ports = {key: {(6, 993): estimate.bytes} for key, estimate in seen.items()}
        sent = round(sum(estimate.bytes for estimate in seen.values()))
        return traffic.Stretch(began, self.now, seen, ports, sent, 0, 4096)

    def at(self, seconds: float, question: Asked | None) -> None:
        self.events.append((100.0 + seconds, lambda: self.reporter.head_read(question)))

    def carry_on(self) -> None:
        """Run the threads that were started, to their ends."""
        while self.run:
            self.run.pop(0)()

    def asked_first(self, question: Asked) -> None:
        """The head asks nothing, then this; the thread runs to its end."""
        self.reporter.head_read(None)
        self.reporter.head_read(question)
        self.carry_on()


def test_nobody_asks() -> None:
    """There is no thread, no lease and no request while the head asks nothing."""
    node = Node()
    node.reporter.head_read(None)
    node.reporter.head_read(None)
    assert (node.run, node.lent.leases, node.api.requests) == ([], 0, [])


def test_a_question_is_answered_until_its_time_is_over() -> None:
    """The first report comes within 2 s, the next ones at the interval; at the end the sight is given back."""
    node = Node()
    node.asked_first(Asked(1, 20))
    times = [at - 100.0 for at, status in node.statuses if status is not None]
    assert times[0] == pytest.approx(1.2)
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([2.0] * (len(times) - 1))
    assert len(times) == 10
    assert times[-1] < 20
    assert not node.lent.open
    read = client_traffic.read({"metadata": {"name": NODE}, "status": node.statuses[5][1]})
    assert read is not None
    assert [row.rates[1].bits_per_second for row in read.rows] == [8 * MBIT, MBIT]
    assert read.rows[0].ports == (client_rows.Port("TCP", 993, 1.0),)
    assert read.sent[1] == 9 * MBIT
    assert (read.renewal, read.clients, read.networks) == (1, 2, 1)


def test_no_look_is_longer_than_a_minute_whatever_the_head_says() -> None:
    """An operator that is gone leaves the head as it is: the node ends by its own clock, and empties its report."""
    node = Node()
    node.asked_first(Asked(1, asked.SECONDS_MAX))
    assert node.lent.ends <= 160.0
    assert node.statuses[-1] == (pytest.approx(165.0), None)
    assert node.statuses[-2][0] < 160.0
    node.reporter.head_read(Asked(1, asked.SECONDS_MAX))  # the same once more, as after a new list
    assert node.run == []


def test_what_was_asked_before_the_agent_began_does_not_count() -> None:
    """Nobody knows how old it is: an agent that starts again and again looks only once a renewal comes."""
    node = Node()
    node.reporter.head_read(Asked(7, 56))
    assert node.run == []
    node.reporter.head_read(Asked(8, 56))
    assert len(node.run) == 1


def test_a_renewal_lengthens_the_look_without_a_gap() -> None:
    """The stream goes on at its interval over renewals, with one lease."""
    node = Node()
    node.at(15.0, Asked(2, 20))
    node.at(30.0, Asked(3, 20))
    node.asked_first(Asked(1, 20))
    times = [at for at, status in node.statuses if status is not None]
    assert times[-1] == pytest.approx(149.2, abs=2.0)
    assert all(b - a == pytest.approx(2.0) for a, b in itertools.pairwise(times))
    assert node.lent.leases == 1


def test_nobody_asks_any_more() -> None:
    """The look ends at once, and the report is left to the operator, which deletes it."""
    node = Node()
    node.at(5.0, None)
    node.asked_first(Asked(1, 56))
    assert node.now == pytest.approx(105.0)
    assert not node.lent.open
    assert None not in [status for _, status in node.statuses]


def test_only_nodes_that_are_asked_look() -> None:
    """A question for other nodes opens nothing here; one that names this node does."""
    node = Node()
    node.asked_first(Asked(1, 56, nodes=("another",)))
    assert node.lent.leases == 0
    node.reporter.head_read(Asked(2, 5, nodes=("another", NODE)))
    node.carry_on()
    assert node.lent.leases == 1


def test_first_reports_are_spread() -> None:
    """Among many nodes the first report comes at a time of its own, within the spread."""
    node = Node()
    node.asked_first(Asked(1, 56, interval_seconds=20, spread_seconds=20))
    assert node.statuses[0][0] == pytest.approx(121.2)


def test_the_top_rows_and_the_clients_that_are_asked_for() -> None:
    """With `top` 1 there is one row; a client that is asked for by name is found beside it."""
    node = Node()
    question = Asked(1, 10, top=1, candidates=("198.51.100.2", "203.0.113.9", "198.51.100.0/24", "odd"))
    node.asked_first(question)
    read = client_traffic.read({"metadata": {"name": NODE}, "status": node.statuses[2][1]})
    assert read is not None
    assert len(read.rows) == 1
    assert [found.place for found in read.found] == [2, 0]
    assert read.found[1].rates[1].bits_per_second == MBIT


def test_rows_of_networks() -> None:
    """Where both kinds are asked for, both are reported."""
    node = Node()
    node.asked_first(Asked(1, 10, groups=asked.GROUPS))
    rows = node.statuses[2][1]["rows"]
    assert [row.split()[0] for row in rows] == ["198.51.100.1", "198.51.100.2", "198.51.100.0/24"]


def test_without_the_capability_the_report_says_so() -> None:
    """A node that may not look is not silent: it reports what it needs."""
    node = Node()
    node.lent.refusal = PermissionError(errno.EPERM, "Operation not permitted")
    node.asked_first(Asked(1, 10))
    assert "CAP_NET_RAW" in node.statuses[0][1]["message"]
    assert node.statuses[0][1]["rows"] == []


def test_an_api_server_that_is_away_is_asked_at_the_interval() -> None:
    """Failed reports are no reason to hurry, and the look ends by the clock."""
    node = Node()
    node.answer = lambda request: refusal(503, "ServiceUnavailable", retry_after="5")
    node.asked_first(Asked(1, 30))
    assert len(node.api.requests) <= 8
    assert not node.lent.open


@pytest.mark.parametrize("status", [403, 404])
def test_where_reports_are_not_wanted_nobody_looks(status: int) -> None:
    """An older installation has no such kind, or no such right: the look ends with the first refusal."""
    node = Node()
    node.answer = lambda request: refusal(status, "Refused")
    node.asked_first(Asked(1, 56))
    assert node.now < 105.0
    assert not node.lent.open
    assert len(node.api.requests) == 1


def test_a_report_that_was_deleted_is_made_again() -> None:
    """Somebody deletes it while the question lives: it is back with the next report but one."""
    node = Node()
    gone = iter([True])

    def answer(request: Request) -> Answer:
        if request.path == PATH and node.now > 105 and next(gone, False):
            return refusal(404, "NotFound")
        return node._take(request)

    node.answer = answer
    node.asked_first(Asked(1, 20))
    created = [r for r in node.api.requests if r.method == "POST"]
    assert len(created) == 2
    assert node.statuses[-2][0] > 115


def test_a_report_is_the_node_s_own_and_small() -> None:
    """It belongs to its Node, and takes at most 1.5 KB however many clients there are."""
    node = Node()
    node.clients = {bytes([198, 51, 100, n]): (n + 1) * MBIT for n in range(200)}
    node.asked_first(Asked(1, 10, top=50))
    made = next(r for r in node.api.requests if r.method == "POST")
    assert made.body is not None
    assert made.body["metadata"]["ownerReferences"][0]["name"] == NODE
    sizes = [len(json.dumps({"status": s}, separators=(",", ":")).encode()) for _, s in node.statuses]
    assert 1000 < max(sizes) <= 1500
    assert Kind.NODE.path in [r.path.rpartition("/")[0] for r in node.api.requests]


def test_a_stop_ends_the_look() -> None:
    """A process that is asked to stop does not wait for the end of a question, and empties nothing."""
    node = Node()
    node.events.append((103.0, node.reporter.stop))
    node.asked_first(Asked(1, 56))
    assert node.now == pytest.approx(103.0)
    assert None not in [status for _, status in node.statuses]
    assert not node.lent.open


def test_an_error_of_ours_ends_the_look_and_nothing_else() -> None:
    """What goes wrong here ends no process: the next renewal is tried again."""
    node = Node()

    def broken(request: Request) -> Answer:
        raise ZeroDivisionError

    node.answer = broken
    node.asked_first(Asked(1, 56))
    assert not node.lent.open
    node.answer = node._take
    node.reporter.head_read(Asked(2, 10))
    node.carry_on()
    assert node.statuses


def test_a_thread_that_the_system_refuses() -> None:
    """No thread, no answer; the reader's thread goes on, and the next renewal tries again."""
    node = Node()

    def refused(run: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    reporter = TrafficReporter(node.api.client, NODE, node.lent, start=refused)
    reporter.head_read(None)
    reporter.head_read(Asked(1, 56))
    assert node.lent.leases == 0


def test_the_client_that_reports_uses_what_traffic_reporter_promises() -> None:
    """The first report waits for a whole second of samples, and for no more than the interval of 2 s."""
    assert 1.0 < traffic_reporter.FIRST_SECONDS <= asked.INTERVAL_LEAST_SECONDS
    assert issubclass(client.RefusedError, client.ApiError)


def test_a_client_that_is_named_is_reported_however_small() -> None:
    """Among a thousand larger ones, which push it out of every table; a network with all of its addresses."""
    node = Node()
    node.clients = {bytes([10, 0, n >> 8, n & 255]): MBIT + n for n in range(1000)}
    node.clients |= {bytes([203, 0, 113, 7]): 16_000, bytes([203, 0, 113, 8]): 8_000}
    node.asked_first(Asked(1, 20, clients=("203.0.113.0/24", "203.0.113.7", "198.51.100.1", "nonsense")))
    read = client_traffic.read({"metadata": {"name": NODE}, "status": node.statuses[5][1]})
    assert read is not None
    found = {addresses.write(each.client): each for each in read.named}
    assert found["203.0.113.7"].rates[1].bits_per_second == 16_000
    assert found["203.0.113.0/24"].rates[1].bits_per_second == 24_000
    assert found["198.51.100.1"].rates[2].bits_per_second == 0
    assert found["203.0.113.7"].since_bytes > 0
    assert addresses.parse("203.0.113.7") not in {row.client for row in read.rows}


def test_a_client_that_is_named_later_has_its_own_time() -> None:
    """Its rate is over the seconds since then, and not too high for what came in the second before."""
    node = Node()
    node.at(10.5, Asked(2, 20, clients=("198.51.100.1",)))
    node.asked_first(Asked(1, 20))
    first = next(s for _, s in node.statuses if s is not None and s["named"])
    read = client_traffic.read({"metadata": {"name": NODE}, "status": first})
    assert read is not None
    assert read.named[0].rates[0].bits_per_second == pytest.approx(8 * MBIT, rel=0.01)
    assert read.named[0].seconds < read.seconds
