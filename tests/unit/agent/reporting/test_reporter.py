"""What a node says about itself: what is in it, and when it is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from bandwidth_agent import report
from bandwidth_agent.limits import Wanted
from bandwidth_agent.reporting import node_report, reporter
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import node_state
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_runtime.clock import Clock
from unit.kube.apis import Answer, Api, Request, refusal

NODE = "worker-3"
NOW = 1_800_000_000.0
PATH = f"{Kind.STATE.path}/{NODE}"
WANTED = Wanted((), digest="d1")


def made(**changed: Any) -> report.Report:
    """A report of a pass over one limit that is in force."""
    interface = report.InterfaceReport(
        "eth0", "fq_codel", "ifb", Reason.PREFERRED, "the interface keeps its own root qdisc"
    )
    whole = report.Report(
        changes=1,
        desired=1,
        programmed=1,
        failed=0,
        failing=(),
        classifier="mark",
        classifier_reason="no other rule uses these bits",
        interfaces=(interface,),
        missing_features=("fq_codel",),
        conflicts=(),
        warnings=(),
        duration_seconds=0.001,
    )
    return dataclasses.replace(whole, **changed)


def state(wanted: Wanted = WANTED, *, clean: bool = True, interval: int = 300, **changed: Any) -> node_state.NodeState:
    return node_report.state(NODE, wanted, made(**changed), clean=clean, version="1.2.3", interval_seconds=interval)


# ── what is in it ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pass_becomes_a_state() -> None:
    """Everything that the operator and `kubectl get` need of it."""
    assert state() == node_state.NodeState(
        node=NODE,
        plan_digest="d1",
        plan_complete=True,
        reported_at=0.0,
        desired=1,
        programmed=1,
        interfaces=(node_state.InterfaceState("eth0", "fq_codel", "ifb", "Preferred"),),
        classifier="mark",
        classifier_reason="no other rule uses these bits",
        missing_features=("fq_codel",),
        version="1.2.3",
        report_interval_seconds=300,
    )


def test_the_first_failing_limits_are_listed_by_name() -> None:
    """Of those that do not fit, the number is told."""
    failing = tuple(Problem(Reason.KERNEL_REFUSED, "no memory", name=f"limit-{n:02d}") for n in reversed(range(20)))
    told = state(desired=30, programmed=10, failed=20, failing=failing)
    assert [f.name for f in told.failing] == [f"limit-{n:02d}" for n in range(node_state.FAILING_MAX)]
    assert (told.desired, told.programmed, told.failed) == (30, 10, 20)
    assert told.listed_up_to == "limit-07"


def test_what_is_wrong_with_the_node_is_told() -> None:
    """Warnings, things given up, and a kernel that is not as wanted though no limit suffers."""
    told = state(clean=False, warnings=("the head of the plan is missing",), conflicts=("hook eth0",))
    assert "the head of the plan is missing" in told.message
    assert "hook eth0" in told.message
    assert node_report.UNDONE in told.message
    assert node_report.UNDONE not in state(clean=False, failed=1, programmed=0).message


def test_retired_is_said_only_when_nothing_is_left() -> None:
    """As long as something could not be removed the node is not retired."""
    wanted = Wanted((), digest="r", retire=True)
    assert state(wanted, desired=0, programmed=0).retired
    assert not state(wanted, desired=0, programmed=0, clean=False).retired
    assert not state().retired


@pytest.mark.parametrize("limits", [0, 10, 10_000])
def test_the_state_has_two_kilobytes_at_most(limits: int) -> None:
    """However many limits there are, however long their names and messages."""
    failing = tuple(Problem(Reason.KERNEL_REFUSED, "why " * 200, name=f"{n:05d}" + "x" * 240) for n in range(limits))
    interfaces = tuple(
        report.InterfaceReport(f"interface-{n}", "fq_codel 8001:", "ifb", Reason.PREFERRED, "m" * 300)
        for n in range(20)
    )
    told = state(desired=limits, programmed=0, failed=limits, failing=failing, interfaces=interfaces)
    assert len(json.dumps(node_state.write(told), separators=(",", ":"))) <= 2048


def test_what_was_verified_is_in_the_state() -> None:
    """The sign of the datapath, which limits were verified, and how many were bypassed."""
    told = state(datapath_sign="device cilium_host", verified=frozenset({"a", "b"}), bypassed=3)
    assert (told.datapath_sign, told.verified, told.verified_count, told.bypassed) == (
        "device cilium_host",
        {"a", "b"},
        2,
        3,
    )
    read = node_state.read({"metadata": {"name": NODE}, "status": node_state.write(told)})
    assert isinstance(read, node_state.NodeState)
    assert (read.datapath_sign, read.verified, read.verified_count, read.bypassed) == (
        "device cilium_host",
        {"a", "b"},
        2,
        3,
    )


def test_ten_thousand_limits_leave_room_for_verified_ones() -> None:
    """Whatever fails there: the report stays within its size, says how many were verified, and names some."""
    failing = tuple(Problem(Reason.BYPASSED, "why " * 200, name=f"{n:05d}" + "x" * 240) for n in range(5_000))
    verified = frozenset(f"verified-{n:05d}" for n in range(5_000))
    told = state(
        desired=10_000, failed=5_000, bypassed=5_000, failing=failing, verified=verified, datapath_sign="d" * 500
    )
    status = node_state.write(told)
    assert len(json.dumps(status, separators=(",", ":"))) <= 2048
    assert status["limits"]["verified"] == 5_000
    assert len(status["verified"]) >= 30
    read = node_state.read({"metadata": {"name": NODE}, "status": status})
    assert isinstance(read, node_state.NodeState)
    assert read.verified < verified
    assert read.verified_count == 5_000


# ── when it is written ─────────────────────────────────────────────────────────────────────────────────────────


class Cluster:
    """The node's objects in the cluster, as far as the agent touches them."""

    def __init__(self) -> None:
        self.node_uid = "uid-1"
        self.state: dict[str, Any] | None = None
        self.refusals: list[Answer] = []
        self.wall = NOW

    def __call__(self, request: Request) -> Answer:
        if self.refusals and request.method != "GET":
            return self.refusals.pop(0)
        if request.path == f"/api/v1/nodes/{NODE}":
            return Answer(body={"metadata": {"name": NODE, "uid": self.node_uid}})
        if (request.method, request.path) == ("POST", Kind.STATE.path):
            assert request.body is not None
            if self.state is not None:
                return refusal(409, "AlreadyExists")
            self.state = dict(request.body)
            return Answer(201, self.state)
        if self.state is None:
            return refusal(404, "NotFound")
        if request.method == "GET":
            return Answer(body=self.state)
        assert request.path == f"{PATH}/status"
        assert request.body is not None
        assert request.headers["content-type"] == client.MERGE_PATCH
        self.state = {**self.state, "status": {**self.state.get("status", {}), **request.body["status"]}}
        return Answer(body=self.state)

    def has(self, of: node_state.NodeState, age: float) -> None:
        """An earlier process wrote this, so many seconds ago."""
        status = node_state.write(dataclasses.replace(of, reported_at=self.wall - age))
        self.state = {"metadata": {"name": NODE}, "status": status}


class Listener:
    """What the reporter told."""

    def __init__(self) -> None:
        self.reports = 0
        self.failures: list[client.ApiError] = []
        self.crashes: list[BaseException] = []

    def alive(self, name: str) -> None:
        pass

    def reported(self) -> None:
        self.reports += 1

    def report_failed(self, error: client.ApiError) -> None:
        self.failures.append(error)

    def crashed(self, name: str, error: BaseException) -> None:
        self.crashes.append(error)


TURNS = 2000  # more than any test needs


class Agent:
    """A reporter before a cluster in memory. Time passes only while it waits."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.api = Api(self.cluster)
        self.listener = Listener()
        self.now = 1000.0
        self._until = float("inf")  # no wait is longer

    def start(self, interval: int = 300) -> reporter.Reporter:
        self.reporter = reporter.Reporter(
            self.api.client,
            NODE,
            self.listener,
            version="1.2.3",
            interval_seconds=interval,
            clock=Clock(lambda: self.now, lambda: self.cluster.wall),
            wait=self._wait,
        )
        return self.reporter

    def _wait(self, seconds: float) -> None:
        self.now = min(self.now + max(0.0, seconds), self._until)

    def until(self, reports: int) -> None:
        """Let the reporter take turns until there were so many reports."""
        self.turn(lambda: self.listener.reports >= reports)

    def turn(self, over: Callable[[], bool]) -> None:
        for _ in range(TURNS):
            if over():
                return
            assert self.reporter.turn()
        raise AssertionError((self.writes, self.listener.failures))

    def let(self, seconds: float) -> None:
        """Let so much time pass."""
        self._until = self.now + seconds
        self.turn(lambda: self.now >= self._until)
        self._until = float("inf")

    def end(self) -> None:
        self.reporter.stop()
        assert not self.reporter.turn()

    @property
    def writes(self) -> list[str]:
        return [f"{r.method} {r.path.removeprefix(Kind.STATE.path)}" for r in self.api.requests if r.method != "GET"]

    @property
    def status(self) -> dict[str, Any]:
        assert self.cluster.state is not None
        return dict(self.cluster.state["status"])


@pytest.fixture
def agent() -> Agent:
    """Nothing is in the cluster yet."""
    return Agent()


def test_the_object_is_made_once_and_owned_by_the_node(agent: Agent) -> None:
    """Then only its status is written."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    assert agent.writes == ["POST ", f"PATCH /{NODE}/status"]
    assert agent.cluster.state is not None
    [owner] = agent.cluster.state["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "uid-1"}
    assert agent.status["planDigest"] == "d1"
    assert agent.status["lastReportTime"] == "2027-01-15T08:00:00Z"
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.until(2)
    assert agent.writes == ["POST ", f"PATCH /{NODE}/status", f"PATCH /{NODE}/status"]


def test_an_agent_that_is_told_to_end_says_that_nobody_looks_after_the_node(agent: Agent) -> None:
    """In words for people: what a reader counts by stays as it was, and the next agent writes over it at once."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    agent.end()
    said = agent.api.requests[-1].body
    assert said == {"status": node_state.STOPPED}
    assert agent.cluster.state is not None
    agent.cluster.state["status"] = node_state.write(state()) | node_state.STOPPED
    known = node_state.read(agent.cluster.state)
    assert isinstance(known, node_state.NodeState)
    assert known.plan_digest == "d1"
    two = agent.start()
    two.passed(WANTED, made(), clean=True)
    agent.until(2)
    assert agent.status["state"] == "InForce"


def test_an_agent_that_wrote_nothing_or_has_retired_leaves_no_word(agent: Agent) -> None:
    """There is nothing of ours that would stay."""
    agent.start()
    agent.end()
    assert agent.writes == []
    two = agent.start()
    two.passed(dataclasses.replace(WANTED, retire=True), made(desired=0, programmed=0), clean=True)
    agent.until(1)
    agent.end()
    assert agent.status["state"] == "Retired"


def test_passes_that_change_nothing_write_nothing(agent: Agent) -> None:
    """Only what would stand there counts, not how long a pass took or what it changed."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    for number in range(5):
        one.passed(WANTED, made(changes=number, duration_seconds=float(number)), clean=True)
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.until(2)
    assert len(agent.writes) == 3


def test_a_start_that_changes_nothing_writes_nothing(agent: Agent) -> None:
    """What an earlier process wrote a moment ago counts as written."""
    agent.cluster.has(state(), age=10.0)
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    assert agent.writes == []
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.until(2)
    assert agent.writes == [f"PATCH /{NODE}/status"]


def test_a_start_after_a_long_time_writes_at_once(agent: Agent) -> None:
    """The last report is older than the interval, so the operator may already count the node as silent."""
    agent.cluster.has(state(), age=400.0)
    agent.start().passed(WANTED, made(), clean=True)
    agent.until(1)
    assert agent.api.next("PATCH")
    assert agent.status["lastReportTime"] == "2027-01-15T08:00:00Z"


def test_a_report_from_the_future_is_no_reason_to_be_silent(agent: Agent) -> None:
    """After a clock was set back the heartbeat still comes within an interval."""
    agent.cluster.has(state(interval=1), age=-100_000.0)
    began = agent.now
    agent.start(interval=1).passed(WANTED, made(), clean=True)
    agent.turn(lambda: bool(agent.writes))
    assert agent.api.next("PATCH")
    assert agent.now - began <= 1.0 + reporter.QUIET_SECONDS[1]


def test_an_unreadable_state_is_written_over(agent: Agent) -> None:
    """Of another schema, or empty."""
    agent.cluster.state = {"metadata": {"name": NODE}, "status": {"schema": 99}}
    agent.start().passed(WANTED, made(), clean=True)
    agent.until(1)
    assert agent.status["schema"] == node_state.SCHEMA


def test_it_is_said_again_once_in_an_interval(agent: Agent) -> None:
    """Changed or not, so that a silent node is told from a quiet one."""
    agent.start(interval=1).passed(WANTED, made(), clean=True)
    agent.until(4)
    assert agent.writes.count(f"PATCH /{NODE}/status") >= 4
    assert agent.writes.count("POST ") == 1


def test_of_many_changes_only_some_are_written_and_the_last_is(agent: Agent) -> None:
    """While the plan changes all the time the state is written ever more rarely."""
    one = agent.start()
    for number in range(300):
        one.passed(Wanted((), digest=f"d{number}"), made(), clean=True)
        agent.let(0.005)
    agent.turn(lambda: "status" in (agent.cluster.state or {}) and agent.status["planDigest"] == "d299")
    assert len(agent.writes) <= 20


SIGN = "device cilium_host"


def verified(first: int, sign: str = SIGN) -> report.Report:
    """Of 2,000 limits the first ones are verified."""
    names = frozenset(f"limit-{n:05d}" for n in range(first))
    return made(desired=2000, programmed=2000, verified=names, datapath_sign=sign)


def test_a_limit_that_is_verified_is_told_within_seconds(agent: Agent) -> None:
    """Where packets may skip netfilter somebody waits for it."""
    one = agent.start()
    one.passed(WANTED, made(datapath_sign=SIGN), clean=True)
    agent.until(1)
    agent.let(20.0)
    began = agent.now
    one.passed(WANTED, made(datapath_sign=SIGN, verified=frozenset({"a"})), clean=True)
    agent.until(2)
    assert agent.now - began < 1.0
    assert agent.status["verified"] == ["a"]
    assert agent.status["limits"]["verified"] == 1


@pytest.mark.parametrize(("sign", "before", "after"), [("", 0, 2), (SIGN, 2, 1)])
def test_what_nobody_waits_for_is_told_with_the_next_report(agent: Agent, sign: str, before: int, after: int) -> None:
    """On a node without a sign, or where a limit is no longer verified: no report of its own."""
    one = agent.start()
    one.passed(WANTED, verified(before, sign), clean=True)
    agent.until(1)
    agent.let(20.0)
    one.passed(WANTED, verified(after, sign), clean=True)
    agent.let(20.0)
    assert agent.listener.reports == 1
    one.passed(Wanted((), digest="d2"), verified(after, sign), clean=True)
    agent.until(2)
    assert agent.status["limits"]["verified"] == len(agent.status["verified"]) == after


def test_limits_that_are_verified_all_the_time_are_no_flood(agent: Agent) -> None:
    """One more each second: reports ever more rarely, down to those of a node without news; the newest is named."""
    one = agent.start()
    for number in range(900):
        one.passed(WANTED, verified(number), clean=True)
        agent.let(1.0)
    reports = agent.listener.reports
    assert reports <= 14
    for number in range(900, 1500):
        one.passed(WANTED, verified(number), clean=True)
        agent.let(1.0)
    assert agent.listener.reports - reports <= 5


def test_every_verified_limit_is_named_some_time(agent: Agent) -> None:
    """However many there are: each report names others, those that were never named first."""
    one = agent.start(interval=30)
    one.passed(WANTED, verified(500), clean=True)
    named: set[str] = set()
    at_once = []
    while len(named) < 500:
        agent.until(agent.listener.reports + 1)
        at_once.append(len(agent.status["verified"]))
        assert named.isdisjoint(agent.status["verified"]), "not named before, as long as there are such"
        named |= set(agent.status["verified"])
    assert min(at_once[:-1]) >= 50
    again: set[str] = set()
    for _ in at_once:
        agent.until(agent.listener.reports + 1)
        again |= set(agent.status["verified"])
    assert again == named


def test_a_start_on_the_same_datapath_writes_nothing(agent: Agent) -> None:
    """Another device of the same datapath, or limits that were verified before, are no news."""
    agent.cluster.has(state(datapath_sign="device lxc1", verified=frozenset({"a"})), age=10.0)
    one = agent.start()
    one.passed(WANTED, made(datapath_sign="device lxc2", verified=frozenset({"a"})), clean=True)
    agent.until(1)
    agent.let(20.0)
    assert agent.writes == []


def test_what_an_older_cluster_leaves_out_is_no_reason_to_write(agent: Agent) -> None:
    """Its CRD knows none of the new fields: they count as empty."""
    agent.cluster.has(state(), age=10.0)
    assert agent.cluster.state is not None
    for key in ("datapathSign", "verified"):
        del agent.cluster.state["status"][key]
    for key in ("verified", "bypassed"):
        del agent.cluster.state["status"]["limits"][key]
    agent.start().passed(WANTED, made(), clean=True)
    agent.until(1)
    assert agent.writes == []


class Draws:
    """Chance that always chooses the least, and what it could choose from."""

    def __init__(self) -> None:
        self.ranges: list[tuple[float, float]] = []

    def uniform(self, least: float, most: float) -> float:
        self.ranges.append((least, most))
        return least


@pytest.mark.parametrize(
    ("nodes", "most"), [(0, 0.15), (32, 0.15), (512, 1.28), (5000, 12.5), (8192, 20.48), (1 << 20, 30.0)]
)
def test_many_nodes_spread_their_reports(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, nodes: int, most: float
) -> None:
    """A change of the plan is told at a time of its own, in a span that grows with the fleet."""
    draws = Draws()
    monkeypatch.setattr(reporter, "random", draws)
    one = reporter.Reporter(agent.api.client, NODE, agent.listener, version="1", interval_seconds=300)
    one.passed(Wanted((), digest="d1", nodes=nodes), made(), clean=True)
    assert draws.ranges == [(0.03, most)]


def test_what_changes_while_a_report_waits_does_not_put_it_off(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """One time is chosen for all of it; of a kernel that cannot be read it is chosen as for any change."""
    draws = Draws()
    monkeypatch.setattr(reporter, "random", draws)
    monkeypatch.setattr(reporter, "QUIET_SECONDS", (1000.0, 1000.0))
    one = reporter.Reporter(agent.api.client, NODE, agent.listener, version="1", interval_seconds=300)
    for number in range(5):
        one.passed(Wanted((), digest=f"d{number}", nodes=5000), made(), clean=True)
    assert len(draws.ranges) == 1
    monkeypatch.setattr(reporter, "QUIET_SECONDS", (0.0, 0.15))
    two = reporter.Reporter(agent.api.client, NODE, agent.listener, version="1", interval_seconds=300)
    two.passed(Wanted((), digest="d1", nodes=5000), made(), clean=True)
    two.unreadable("no such device")
    assert draws.ranges[1:] == [(0.0, 12.5), (0.0, 12.5)]


def test_a_state_that_somebody_deleted_is_made_anew(agent: Agent) -> None:
    """With the next thing that there is to say."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    agent.cluster.state = None
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.until(2)
    assert agent.status["planDigest"] == "d2"


def test_a_state_that_somebody_deleted_is_made_anew_at_once(agent: Agent) -> None:
    """Where the deletion is seen, though there is nothing new to say."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    agent.cluster.state = None
    one.gone()
    agent.until(2)
    assert agent.status["planDigest"] == "d1"
    assert agent.writes == ["POST ", f"PATCH /{NODE}/status"] * 2


def test_states_that_are_deleted_again_and_again_are_made_ever_more_rarely(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes them all the time is no reason for a storm."""
    monkeypatch.setattr(reporter, "SPACING_SECONDS", 0.25)
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    began = agent.now
    for times in range(4):
        agent.cluster.state = None
        one.gone()
        agent.until(times + 2)
    assert agent.now - began >= 0.25 + 0.5 + 1.0


def test_states_that_are_deleted_all_at_once_come_back_spread(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """As reports of a change that concerns all nodes, by the number of nodes that the plan says."""
    draws = Draws()
    monkeypatch.setattr(reporter, "random", draws)
    one = agent.start()
    one.passed(Wanted((), digest="d1", nodes=8192), made(), clean=True)
    agent.until(1)
    draws.ranges.clear()
    agent.cluster.state = None
    one.gone()
    agent.until(2)
    assert draws.ranges[0] == (reporter.QUIET_SECONDS[0], node_state.spread_seconds(8192))


def test_a_list_from_before_the_state_was_made_does_no_harm(agent: Agent) -> None:
    """It is found there, and written once more."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    one.gone()
    agent.until(2)
    assert agent.listener.failures == []
    assert agent.status["planDigest"] == "d1"


@pytest.mark.parametrize("odd", [[], "x", {"ownerReferences": 7}, {"ownerReferences": [7]}, {"ownerReferences": {}}])
def test_a_state_with_odd_metadata_is_written_over(agent: Agent, odd: object) -> None:
    """Whoever wrote it, and whatever stands in it."""
    agent.cluster.has(state(), age=1e6)
    assert agent.cluster.state is not None
    agent.cluster.state["metadata"] = odd
    agent.cluster.state["status"]["limits"] = {"desired": 10**400}
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    assert agent.status["planDigest"] == "d1"


def test_the_state_of_a_node_that_is_gone_is_looked_after(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Node made again takes its old state away with some delay; then there is a new one, without waiting long."""
    monkeypatch.setattr(reporter, "ORPHANED_SECONDS", 0.5)
    agent.cluster.has(state(), age=10.0)
    assert agent.cluster.state is not None
    agent.cluster.state["metadata"]["ownerReferences"] = [{"uid": "uid-0"}]
    one = agent.start()
    one.node_is("uid-1")
    one.passed(WANTED, made(), clean=True)
    agent.until(2)
    agent.cluster.state = None
    agent.until(3)
    request = agent.api.next("POST")
    assert request.body is not None
    assert request.body["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_failures_are_tried_again_with_the_newest_state(agent: Agent) -> None:
    """However it failed; and what it failed with is counted."""
    agent.cluster.refusals = [refusal(500, "InternalError"), refusal(429, "TooManyRequests", retry_after="1")]
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.turn(lambda: bool(agent.writes))
    assert agent.api.next("POST")
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.until(1)
    assert [getattr(each, "status", None) for each in agent.listener.failures] == [500, 429]
    assert agent.status["planDigest"] == "d2"


def test_before_a_plan_is_known_nothing_is_said(agent: Agent) -> None:
    """The empty pass at a start is no news about the node."""
    agent.cluster.has(state(), age=10.0)
    one = agent.start()
    one.passed(Wanted((), complete=False), made(desired=0, programmed=0), clean=False)
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    assert agent.writes == []


def test_a_kernel_that_cannot_be_read_is_told(agent: Agent) -> None:
    """With the rest as it was; and taken back by the next pass."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    one.unreadable("no such device")
    agent.until(2)
    assert "no such device" in agent.status["message"]
    assert agent.status["planDigest"] == "d1"
    one.passed(WANTED, made(), clean=True)
    agent.until(3)
    assert agent.status["message"] == ""


def test_once_writes_in_the_calling_thread(agent: Agent) -> None:
    """And says why it could not."""
    one = reporter.Reporter(agent.api.client, NODE, agent.listener, version="1", interval_seconds=300)
    one.passed(WANTED, made(), clean=True)
    agent.cluster.refusals = [refusal(403, "Forbidden")]
    with pytest.raises(client.RefusedError, match="Forbidden"):
        one.once()
    one.once()
    assert agent.status["planDigest"] == "d1"


def test_a_node_without_a_uid_owns_nothing(agent: Agent) -> None:
    """What is no answer about our Node is asked for again."""
    said: list[Answer] = [Answer(body={"metadata": {}}), Answer(body={"metadata": 7}), Answer(body={})]
    cluster = agent.cluster
    agent.api.answer = lambda request: said.pop() if said and "nodes" in request.path.split("/") else cluster(request)
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.until(1)
    assert len(agent.listener.failures) == 3


def test_an_error_of_the_thread_is_told(agent: Agent) -> None:
    """A bug must end the process, and not only the reports."""
    one = agent.start()
    one._clock = one._clock._replace(wall=lambda: {}["broken"])
    one.passed(WANTED, made(), clean=True)
    one.start()
    one.join()
    assert isinstance(agent.listener.crashes[0], KeyError)
