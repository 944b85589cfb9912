"""One node's reports to policies: when it looks, what it writes and when, and that it ends.

A clock stands still until something waits; the sight lends stretches that a test makes; the API server is in memory.
"""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Callable

import pytest

from bandwidth_agent.kernel import traffic
from bandwidth_agent.reporting import watch_reporter
from bandwidth_agent.reporting.watch_reporter import WatchReporter
from bandwidth_agent.sight import leases
from bandwidth_agent.sight.watch.classes import Classes, Moved
from bandwidth_api import addresses, kinds
from bandwidth_api.compiler import protected_addresses
from bandwidth_api.crds import client_traffic
from bandwidth_api.crds.watched import Span, Watched
from bandwidth_api.crds.watching import Watch, Watching
from bandwidth_api.plan import Prefix, SelectorTerm
from bandwidth_runtime.clock import Clock
from unit.kube.apis import Answer, Api, Request, refusal

NODE = "worker-3"
PATH = f"{kinds.TRAFFIC_PATH}/{NODE}/status"
MBIT = 1_000_000
GREEDY = addresses.parse("198.51.100.1")
ASKED = Watching(5, 100, (Watch(20 * MBIT),))
FAST, MODEST, SLOW = 47.0, 30.0, 3.0  # Mbit/s: above the threshold of 40, above the floor, below


class Counted(Classes):
    """The classes' counters as a test says."""

    def __init__(self) -> None:
        self.moved: dict[Prefix, Moved] = {}

    def read(self, named: frozenset[Prefix]) -> dict[Prefix, Moved]:
        return {client: each for client, each in self.moved.items() if client in named}


class Node:
    """A reporter whose thread runs when the test says, and whose waiting makes the time pass."""

    def __init__(self) -> None:
        self.now = 100.0
        self.run: list[Callable[[], None]] = []
        self.events: list[tuple[float, Callable[[], None]]] = []  # what happens at a time, in order
        self.mbits: dict[str, float] = {"198.51.100.1": SLOW, "198.51.100.2": SLOW}
        self.open, self.ends, self.leases = False, 0.0, 0
        self.refusal: OSError | None = None
        self.failure: BaseException | None = None
        self.receive: leases.Receive = lambda stretches: None
        self.answer: Callable[[Request], Answer] = self._take
        self.api = Api(lambda request: self.answer(request))
        self.told: list[tuple[float, Watched]] = []
        self.counted = Counted()
        self.capacity: int | None = 1000 * MBIT
        self.reporter = WatchReporter(
            self.api.client,
            NODE,
            self.lease,
            self.counted,
            capacity=lambda: self.capacity,
            no_clients=lambda: [addresses.parse("192.0.2.9")],
            untouchable=lambda: [protected_addresses.index(frozenset([addresses.parse("10.9.0.0/24")]))],
            clock=Clock(lambda: self.now, lambda: 1_800_000_000.0 + self.now),
            spread=lambda least, most: least,
            start=self.run.append,
            wait=self._wait,
        )

    # The sight's side.
    def lease(self, seconds: float, receive: leases.Receive, *, sparing: bool = False) -> Node:
        assert sparing
        if self.refusal is not None:
            raise self.refusal
        self.open, self.receive, self.leases = True, receive, self.leases + 1
        self.ends = self.now + leases.bounded(seconds)
        return self

    @property
    def holds(self) -> bool:
        return self.open and self.now < self.ends

    def renew(self, seconds: float) -> bool:
        self.ends = self.now + leases.bounded(seconds) if self.holds else self.ends
        return self.holds

    def close(self) -> None:
        self.open = False

    def _take(self, request: Request) -> Answer:
        if request.path == PATH:
            assert request.body is not None
            read = client_traffic.read({"metadata": {"name": NODE}, "status": request.body["status"]})
            assert read is not None
            assert read.watched is not None
            assert len(json.dumps(request.body["status"]["watched"], separators=(",", ":"))) <= 600
            self.told.append((self.now - 100.0, read.watched))
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
            if self.holds and self.now > began:
                self.receive({"eth0": self._stretch(began)})

    def _stretch(self, began: float) -> traffic.Stretch:
        found = {}
        for text, mbits in self.mbits.items():
            number_bytes = mbits * MBIT * (self.now - began) / 8
            if number_bytes:
                found[addresses.parse(text).network.to_bytes(4)] = traffic.Estimate(number_bytes, 100, 0.0)
        sent = round(sum(each.bytes for each in found.values()))
        return traffic.Stretch(began, self.now, found, {}, sent, 0, 4096)

    def at(self, seconds: float, happens: Callable[[], None]) -> None:
        self.events.append((100.0 + seconds, happens))

    def gets(self, mbits: float, text: str = "198.51.100.1") -> Callable[[], None]:
        return lambda: self.mbits.update({text: mbits})

    def asked(self, asked: Watching | None) -> Callable[[], None]:
        return lambda: self.reporter.head_read(asked)

    def until(self, seconds: float, asked: Watching = ASKED) -> list[tuple[float, Watched]]:
        """Ask this from now until then; return what was told."""
        self.at(seconds, self.asked(None))
        self.reporter.labels_are({"edge": "yes"})
        self.reporter.head_read(asked)
        while self.run:
            self.run.pop(0)()
        assert not self.open
        return self.told


def rates(told: Watched) -> dict[str, float]:
    """Mbit/s of those that are named."""
    everybody = (*told.limited, *told.candidates)
    return {addresses.write(each.client): round(each.bytes * 8 / told.span.seconds / MBIT, 2) for each in everybody}


def test_without_a_policy_nothing_is_open_and_nothing_asked() -> None:
    """Nor where policies select other nodes, nor before this node's labels are known."""
    node = Node()
    node.reporter.head_read(ASKED)
    node.reporter.head_read(None)
    node.reporter.labels_are({})
    elsewhere = Watch(20 * MBIT, node_selector=(SelectorTerm("edge", "In", ("yes",)),))
    node.reporter.head_read(Watching(5, 100, (elsewhere,)))
    assert (node.run, node.leases, node.api.requests) == ([], 0, [])
    node.reporter.labels_are({"edge": "yes"})
    assert len(node.run) == 1


def test_a_node_with_nothing_to_say_says_so_rarely() -> None:
    """As often as it takes to be alive; then with all that its uplinks have sent in between."""
    told = Node().until(330)
    assert [at for at, _ in told] == pytest.approx([5, 105, 205, 305])
    assert [each.candidates for _, each in told] == [()] * 4
    last = told[-1][1]
    assert (last.span.seconds, last.before.seconds) == (5.0, 95.0)
    assert last.before.sent_bytes == pytest.approx(95 * 2 * SLOW * MBIT / 8)
    assert last.capacity_bits_per_second == 1000 * MBIT
    assert len({each.number for _, each in told}) == 4


def test_a_greedy_client_is_told_each_interval() -> None:
    """From the interval in which it begins: it alone of all, with its bytes and their seconds."""
    node = Node()
    node.at(52, node.gets(FAST))
    told = node.until(101)
    times = [at for at, _ in told]
    assert times[:2] == pytest.approx([5, 55])
    assert [b - a for a, b in itertools.pairwise(times[1:])] == pytest.approx([5.0] * (len(times) - 2))
    first, second = told[1][1], told[2][1]
    assert rates(first) == {"198.51.100.1": pytest.approx((2 * SLOW + 3 * FAST) / 5, abs=0.01)}
    assert (first.span.seconds, first.before.seconds) == (5.0, 45.0)
    assert (second.span.seconds, second.before.seconds) == (5.0, 0.0)
    assert rates(second) == {"198.51.100.1": FAST}


def test_a_client_that_stops_is_told_once_more() -> None:
    """That there is nobody is news; then there is silence."""
    node = Node()
    node.mbits["198.51.100.1"] = FAST
    node.at(20, node.gets(0.0))
    told = node.until(100)
    assert [at for at, _ in told] == pytest.approx([5, 10, 15, 20, 25])
    assert [bool(each.candidates) for _, each in told] == [True] * 4 + [False]


def test_what_cannot_matter_now_is_told_each_third_interval() -> None:
    """Steady, and below the threshold: no second is lost, and a change is told at once."""
    node = Node()
    node.mbits["198.51.100.1"] = MODEST
    node.at(60, node.gets(2 * MODEST))
    told = node.until(71)
    assert [at for at, _ in told] == pytest.approx([5, 20, 35, 50, 65, 70])
    assert [each.span.seconds for _, each in told] == pytest.approx([5, 15, 15, 15, 15, 5])
    total = sum(each.candidates[0].bytes for _, each in told)
    assert total == pytest.approx((60 * MODEST + 10 * 2 * MODEST) * MBIT / 8, rel=0.01)


def test_a_limited_client_is_named_by_who_has_served_it() -> None:
    """With its class's bytes and how often it was held back; with nothing, too; another limited one is none of ours."""
    node = Node()
    node.mbits = {"198.51.100.1": 4.0}
    node.counted.moved = {GREEDY: Moved(2_400_000, 9, ever=True)}
    node.at(12, lambda: (node.mbits.clear(), node.counted.moved.update({GREEDY: Moved(0, 0, ever=True)}), None)[-1])
    told = node.until(41, Watching(5, 100, (Watch(20 * MBIT),), ("198.51.100.1", "203.0.113.1")))
    assert {each.client for _, of in told for each in of.limited} == {GREEDY}
    assert told[0][1].limited[0].over_limits == 9
    assert told[0][1].limited[0].bytes == 2_400_000
    assert told[-1][1].limited == ((GREEDY, 0.0, 0, ()),)


def test_other_nodes_are_no_clients() -> None:
    """A backend answers by the node that was dialled: no policy may take that for a client, nor a place of ten."""
    node = Node()
    node.mbits["192.0.2.9"] = 100.0
    assert [rates(each) for _, each in node.until(6)] == [{}]


def test_who_may_not_be_limited_takes_no_place_from_others() -> None:
    """Whom nobody watches, whom all exempt and whom a limit or a rule protects, are named where there is room."""
    node = Node()
    watch = Watch(20 * MBIT, clients=(addresses.parse("10.0.0.0/8"),), exempt=(addresses.parse("10.8.0.0/16"),))
    larger = [f"{network}.{n}" for network in ("192.0.2", "10.8.0", "10.9.0") for n in range(100, 104)]
    node.mbits = {**{each: 90.0 + n for n, each in enumerate(larger)}, "10.1.1.1": 30.0}
    ((_, told),) = node.until(6, Watching(5, 100, (watch,)))
    assert set(rates(told)) == {"10.1.1.1", *larger[-9:]}
    del node.mbits["192.0.2.100"], node.mbits["192.0.2.101"], node.mbits["192.0.2.102"]
    assert set(rates(node.until(20, Watching(5, 100, (watch,)))[-1][1])) == set(node.mbits)


def test_a_share_is_of_what_the_uplinks_carry() -> None:
    """Where that is not known, nobody could matter."""
    share = Watching(5, 100, (Watch(None, 2),))
    node = Node()
    node.mbits = {"198.51.100.1": 30.0, "198.51.100.2": 10.0}
    assert [rates(each) for _, each in node.until(6, share)] == [{"198.51.100.1": 30.0}]
    node = Node()
    node.capacity = None
    node.mbits = {"198.51.100.1": 30.0}
    ((_, told),) = node.until(6, share)
    assert (told.candidates, told.capacity_bits_per_second) == ((), None)


def test_a_node_that_may_not_look_says_so() -> None:
    """Once for each silence, and it tries again."""
    node = Node()
    node.refusal = PermissionError(errno.EPERM, "Operation not permitted")
    node.at(50, lambda: setattr(node, "refusal", None))
    told = node.until(70)
    assert "CAP_NET_RAW" in told[0][1].trouble
    assert [bool(each.trouble) for _, each in told] == [True, False]
    assert told[1][1].before == Span()


def test_what_could_not_be_written_is_in_the_next_report() -> None:
    """For a minute; of what is older nothing is said."""
    node = Node()
    node.mbits["198.51.100.1"] = FAST
    down = [True]
    node.answer = lambda request: refusal(503, "ServiceUnavailable") if down[0] else node._take(request)
    node.at(22, down.clear)
    node.at(22.1, lambda: down.append(False))
    told = node.until(31)
    assert told[0][1].span.seconds == pytest.approx(25.0)
    assert rates(told[0][1]) == {"198.51.100.1": FAST}


def test_an_object_that_was_deleted_is_made_again() -> None:
    """The operator deletes all after the last question; what was to be said is said 5 s later."""
    node = Node()
    node.mbits["198.51.100.1"] = FAST
    there = [False]

    def answer(request: Request) -> Answer:
        if request.method == "POST":
            there[0] = True
        return node._take(request) if there[0] or request.path != PATH else refusal(404, "NotFound")

    node.answer = answer
    node.at(12, lambda: there.__setitem__(0, False))
    told = node.until(31)
    assert [at for at, _ in told] == pytest.approx([5, 10, 20, 25, 30])
    assert told[2][1].span.seconds == pytest.approx(10.0)


def test_answers_to_questions_go_when_nobody_asks_any_more() -> None:
    """They have addresses of clients; while a question lives, and a little after it, they are left as they are."""
    node = Node()
    node.mbits["198.51.100.1"] = FAST
    bodies: list[tuple[float, bool]] = []

    def answer(request: Request) -> Answer:
        if request.path == PATH and request.body is not None:
            bodies.append((node.now - 100.0, request.body["status"].get("rows", 0) is None))
        return node._take(request)

    node.answer = answer
    node.at(7, lambda: node.reporter.head_read(ASKED, questions=True))
    node.at(21, node.asked(ASKED))
    node.until(41)
    assert [at for at, taken in bodies if taken] == pytest.approx([5, 30])
    assert len(bodies) == 8


def test_without_the_right_a_node_waits() -> None:
    """Roles of an older chart: one warning, and no request before ten minutes have passed."""
    node = Node()
    node.answer = lambda request: refusal(403, "Forbidden") if request.path == PATH else node._take(request)
    node.until(watch_reporter.FORBIDDEN_SECONDS - 1)
    assert sum(request.path == PATH for request in node.api.requests) == 1


def test_a_limit_somewhere_does_not_make_others_begin_anew() -> None:
    """The head names one more limited client in the middle of an interval: no byte is lost."""
    node = Node()
    node.mbits["198.51.100.1"] = FAST
    node.at(7.0, node.asked(Watching(5, 100, (Watch(20 * MBIT),), ("203.0.113.1",))))
    told = node.until(11)
    assert [each.span.seconds for _, each in told] == pytest.approx([5, 5])
    assert rates(told[1][1]) == {"198.51.100.1": FAST}


def test_a_sight_that_failed_is_asked_again() -> None:
    """What ended it is told as a trouble, and half a minute later there are reports again."""
    node = Node()
    node.mbits["198.51.100.1"] = FAST

    def fails() -> None:
        node.failure, node.open = OSError(errno.ENOMEM, "Cannot allocate memory"), False

    node.at(12, fails)
    told = node.until(60)
    assert [bool(each.trouble) for _, each in told][:3] == [False, False, True]
    assert not told[-1][1].trouble
    assert node.leases == 2


def test_the_process_ends() -> None:
    """Whatever is asked, the thread ends and the sight is given back."""
    node = Node()
    node.at(12, node.reporter.stop)
    node.until(100)
    assert node.now < 120
