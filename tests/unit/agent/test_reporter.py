"""What a node says about itself: what is in it, and when it is written."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bandwidth_agent import node_report, report, reporter
from bandwidth_agent.source import Wanted
from bandwidth_api import node_state
from bandwidth_kube import client
from unit.agent.apis import Answer, Api, Request, refusal, serving

NODE = "worker-3"
NOW = 1_800_000_000.0
PATH = f"{reporter.STATES}/{NODE}"
WANTED = Wanted((), digest="d1")


def made(**changed: Any) -> report.Report:
    """A report of a pass over one limit that is in force."""
    interface = report.InterfaceReport("eth0", "fq_codel", "ifb", "Preferred", "the interface keeps its own root qdisc")
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
    failing = tuple(report.Failing(f"limit-{n:02d}", "KernelRefused", "no memory") for n in reversed(range(20)))
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
    failing = tuple(report.Failing(f"{n:05d}" + "x" * 240, "KernelRefused", "why " * 200) for n in range(limits))
    interfaces = tuple(
        report.InterfaceReport(f"interface-{n}", "fq_codel 8001:", "ifb", "Preferred", "m" * 300) for n in range(20)
    )
    told = state(desired=limits, programmed=0, failed=limits, failing=failing, interfaces=interfaces)
    assert len(json.dumps(node_state.write(told), separators=(",", ":"))) <= 2048


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
        if (request.method, request.path) == ("POST", reporter.STATES):
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
        self.news = threading.Condition()

    def alive(self, name: str) -> None:
        pass

    def reported(self) -> None:
        with self.news:
            self.reports += 1
            self.news.notify_all()

    def report_failed(self, error: client.ApiError) -> None:
        with self.news:
            self.failures.append(error)
            self.news.notify_all()

    def crashed(self, name: str, error: BaseException) -> None:
        with self.news:
            self.crashes.append(error)
            self.news.notify_all()

    def until(self, reports: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: self.reports >= reports or bool(self.crashes), 20.0)
        assert self.crashes == []


class Agent:
    """A reporter before a cluster of paper."""

    def __init__(self, cluster: Cluster, api: Api) -> None:
        self.cluster = cluster
        self.api = api
        self.listener = Listener()
        self._reporters: list[reporter.Reporter] = []

    def start(self, interval: int = 300) -> reporter.Reporter:
        made = reporter.Reporter(
            self.api.client,
            NODE,
            self.listener,
            version="1.2.3",
            interval_seconds=interval,
            wall=lambda: self.cluster.wall,
        )
        self._reporters.append(made)
        made.start()
        return made

    def close(self) -> None:
        for each in self._reporters:
            each.stop()

    @property
    def writes(self) -> list[str]:
        return [f"{r.method} {r.path.removeprefix(reporter.STATES)}" for r in self.api.requests if r.method != "GET"]

    @property
    def status(self) -> dict[str, Any]:
        assert self.cluster.state is not None
        return dict(self.cluster.state["status"])


@pytest.fixture
def agent() -> Iterator[Agent]:
    """Nothing is in the cluster yet."""
    cluster = Cluster()
    with serving(cluster) as api:
        made_ = Agent(cluster, api)
        try:
            yield made_
        finally:
            made_.close()


def test_the_object_is_made_once_and_owned_by_the_node(agent: Agent) -> None:
    """Then only its status is written."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.listener.until(1)
    assert agent.writes == ["POST ", f"PATCH /{NODE}/status"]
    assert agent.cluster.state is not None
    [owner] = agent.cluster.state["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "uid-1"}
    assert agent.status["planDigest"] == "d1"
    assert agent.status["lastReportTime"] == "2027-01-15T08:00:00Z"
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.listener.until(2)
    assert agent.writes == ["POST ", f"PATCH /{NODE}/status", f"PATCH /{NODE}/status"]


def test_passes_that_change_nothing_write_nothing(agent: Agent) -> None:
    """Only what would stand there counts, not how long a pass took or what it changed."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.listener.until(1)
    for number in range(5):
        one.passed(WANTED, made(changes=number, duration_seconds=float(number)), clean=True)
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.listener.until(2)
    assert len(agent.writes) == 3


def test_a_start_that_changes_nothing_writes_nothing(agent: Agent) -> None:
    """What an earlier process wrote a moment ago counts as written."""
    agent.cluster.has(state(), age=10.0)
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.listener.until(1)
    assert agent.writes == []
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.listener.until(2)
    assert agent.writes == [f"PATCH /{NODE}/status"]


def test_a_start_after_a_long_time_writes_at_once(agent: Agent) -> None:
    """The last report is older than the interval, so the operator may already count the node as silent."""
    agent.cluster.has(state(), age=400.0)
    agent.start().passed(WANTED, made(), clean=True)
    agent.api.next("PATCH")
    agent.listener.until(1)
    assert agent.status["lastReportTime"] == "2027-01-15T08:00:00Z"


def test_a_report_from_the_future_is_no_reason_to_be_silent(agent: Agent) -> None:
    """After a clock was set back the heartbeat still comes within an interval."""
    agent.cluster.has(state(interval=1), age=-100_000.0)
    agent.start(interval=1).passed(WANTED, made(), clean=True)
    agent.api.next("PATCH")


def test_an_unreadable_state_is_written_over(agent: Agent) -> None:
    """Of another schema, or empty."""
    agent.cluster.state = {"metadata": {"name": NODE}, "status": {"schema": 99}}
    agent.start().passed(WANTED, made(), clean=True)
    agent.listener.until(1)
    assert agent.status["schema"] == node_state.SCHEMA


def test_it_is_said_again_once_in_an_interval(agent: Agent) -> None:
    """Changed or not, so that a silent node is told from a quiet one."""
    agent.start(interval=1).passed(WANTED, made(), clean=True)
    agent.listener.until(4)
    assert agent.writes.count(f"PATCH /{NODE}/status") >= 4
    assert agent.writes.count("POST ") == 1


def test_of_many_changes_only_some_are_written_and_the_last_is(agent: Agent) -> None:
    """While the plan changes all the time the state is written ever more rarely."""
    one = agent.start()
    for number in range(300):
        one.passed(Wanted((), digest=f"d{number}"), made(), clean=True)
        time.sleep(0.005)
    deadline = time.monotonic() + 20.0
    while "status" not in (agent.cluster.state or {}) or agent.status["planDigest"] != "d299":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(agent.writes) <= 20


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
    """A change of the plan is told at a time that nobody else has chosen, in a span that grows with the fleet."""
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
    agent.listener.until(1)
    agent.cluster.state = None
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.listener.until(2)
    assert agent.status["planDigest"] == "d2"


def test_the_state_of_a_node_that_is_gone_is_looked_after(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Node made anew takes its old state away with some delay; then there is a new one, without waiting long."""
    monkeypatch.setattr(reporter, "ORPHANED_SECONDS", 0.5)
    agent.cluster.has(state(), age=10.0)
    assert agent.cluster.state is not None
    agent.cluster.state["metadata"]["ownerReferences"] = [{"uid": "uid-0"}]
    one = agent.start()
    one.node_is("uid-1")
    one.passed(WANTED, made(), clean=True)
    agent.listener.until(2)
    agent.cluster.state = None
    request = agent.api.next("POST")
    assert request.body is not None
    assert request.body["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    agent.listener.until(3)


def test_failures_are_tried_again_with_the_newest_state(agent: Agent) -> None:
    """However it failed; and what it failed with is counted."""
    agent.cluster.refusals = [refusal(500, "InternalError"), refusal(429, "TooManyRequests", retry_after="1")]
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.api.next("POST")
    one.passed(Wanted((), digest="d2"), made(), clean=True)
    agent.listener.until(1)
    assert [getattr(each, "status", None) for each in agent.listener.failures] == [500, 429]
    assert agent.status["planDigest"] == "d2"


def test_before_a_plan_is_known_nothing_is_said(agent: Agent) -> None:
    """The empty pass at a start is no news about the node."""
    agent.cluster.has(state(), age=10.0)
    one = agent.start()
    one.passed(Wanted((), complete=False), made(desired=0, programmed=0), clean=False)
    one.passed(WANTED, made(), clean=True)
    agent.listener.until(1)
    assert agent.writes == []


def test_a_kernel_that_cannot_be_read_is_told(agent: Agent) -> None:
    """With the rest as it was; and taken back by the next pass."""
    one = agent.start()
    one.passed(WANTED, made(), clean=True)
    agent.listener.until(1)
    one.unreadable("no such device")
    agent.listener.until(2)
    assert "no such device" in agent.status["message"]
    assert agent.status["planDigest"] == "d1"
    one.passed(WANTED, made(), clean=True)
    agent.listener.until(3)
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


def test_an_error_of_the_thread_is_told(agent: Agent) -> None:
    """A bug must end the process, and not only the reports."""
    agent.api.answer = lambda request: Answer(body={"metadata": {}}) if "nodes" in request.path else refusal(404, "")
    agent.start().passed(WANTED, made(), clean=True)
    with agent.listener.news:
        assert agent.listener.news.wait_for(lambda: bool(agent.listener.crashes), 20.0)
    assert isinstance(agent.listener.crashes[0], KeyError)
