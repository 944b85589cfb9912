"""What the acting replica does in its turns, over an API server in memory and a clock that a test moves."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from bandwidth_api.crds import node_state, slices
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache import lists
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.election.fence import LeadershipLostError
from bandwidth_operator.election.lease import RENEW_SECONDS, Lease
from bandwidth_operator.election.pauses import RETRY_SECONDS
from bandwidth_operator.election.token_bucket import TokenBucket
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.leader import watch_restarts
from bandwidth_operator.leader.leader import Leader
from bandwidth_operator.leader.watch_restarts import CannotFollowError
from bandwidth_operator.protection.guard_rails import GuardRails
from bandwidth_operator.publish.publisher import Publisher
from bandwidth_operator.reporting.health import Health
from bandwidth_operator.reporting.metrics import Metrics
from bandwidth_operator.status.events import Correlator
from bandwidth_operator.status.status_writer import StatusWriter
from unit.operator import examples
from unit.operator.cluster import Cluster, Time


class Watch:
    """Brings what the cluster has when a test says so; what is asked of it and of the checker is written down."""

    def __init__(self, cluster: Cluster, cache: Cache, asked: list[str]) -> None:
        self._cluster, self._cache, self._asked = cluster, cache, asked
        self._brought: dict[str, dict[str, Any]] = {}

    def start(self) -> None:
        self._asked.append("watch")
        for kind in Kind:
            self._cache.began(kind)

    def stop(self) -> None:
        self._asked.append("stop watching")

    def begin_again(self) -> None:
        self._asked.append("watch again")
        self.start()

    def bring(self) -> None:
        """The events since the last time, and everything at the first."""
        before, self._brought = self._brought, dict(self._cluster.objects)
        for kind in Kind:
            for path, item in self._brought.items():
                if path.startswith(kind.path) and before.get(path) is not item:
                    self._cache.note(kind, item)
            for path in before.keys() - self._brought.keys():
                if path.startswith(kind.path):
                    metadata = before[path]["metadata"] | {"resourceVersion": str(self._cluster.version + 1)}
                    self._cache.note(kind, before[path] | {"metadata": metadata}, deleted=True)


class Checker:
    def __init__(self, asked: list[str]) -> None:
        self._asked = asked
        self.crashed: BaseException | None = None
        self.went_back = threading.Event()

    def start(self) -> None:
        self._asked.append("check")

    def stop(self) -> None:
        self._asked.append("stop checking")

    def read_addresses(self) -> None:
        self._asked.append("read addresses")

    def list_all(self) -> None:
        self._asked.append("list all")


class Replica:
    """One leader with its parts."""

    def __init__(self, cluster: Cluster, time: Time, name: str = "one", prepared: Cache | None = None) -> None:
        clock = time.clock
        self.cluster, self.time = cluster, time
        self.lease = Lease(cluster, "ns", f"{name}_00000000", clock.monotonic)
        fence = self.lease.turn()
        assert fence is not None
        self.fence = fence
        self.health, self.metrics = Health(clock.monotonic), Metrics()
        self.cache = prepared or Cache(clock.monotonic, self.lease.server_time)
        writer = Writer(cluster, fence, TokenBucket(1e6, 1e6, clock.monotonic), self.metrics)
        self.asked: list[str] = []
        self.watch, self.checker = Watch(cluster, self.cache, self.asked), Checker(self.asked)
        self.statuses = StatusWriter(cluster, writer, self.cache, self.metrics, Correlator(), clock, at_once=0)
        self.leader = Leader(
            cluster,
            self.lease,
            fence,
            self.cache,
            self.watch,
            self.checker,
            Publisher(cluster, writer, self.cache),
            self.statuses,
            self.health,
            self.metrics,
            GuardRails(),
            clock,
            prepared=prepared is not None,
        )

    def pass_by(self, seconds: float) -> None:
        """So much time, in which the Lease is kept."""
        while seconds > 0:
            self.time.pass_by(min(seconds, RENEW_SECONDS))
            seconds -= RENEW_SECONDS
            self.lease.turn()

    def turn(self, seconds: float = 1.0) -> list[str]:
        """So much time passes, and the watch brings what happened; what was written by it."""
        self.watch.bring()
        self.pass_by(seconds)
        self.watch.bring()
        self.leader.turn()
        self.pass_by(0.5)
        self.leader.turn()
        while self.statuses.turn():
            pass
        return self.cluster.writes()

    def report(self, node: str, **fields: Any) -> None:
        """The agent of a node reports that it is at the plan."""
        digest = self.plan_digest()
        state = node_state.NodeState(node, digest, True, self.time.clock.wall(), **fields)
        self.cluster.put(f"{Kind.STATE.path}/{node}", {"status": node_state.write(state)})

    def plan_digest(self) -> str:
        found = [slices.read(item) for item in self.cluster.below(Kind.SLICE.path).values()]
        return slices.plan_digest({each.name: each.digest for each in found if isinstance(each, slices.Slice)})

    def ready(self, name: str) -> tuple[str, str]:
        status = self.cluster.objects[f"{Kind.LIMIT.path}/{name}"].get("status", {})
        return next((c["status"], c["reason"]) for c in status["conditions"] if c["type"] == "Ready")

    def planned(self) -> set[str]:
        found = [slices.read(item) for item in self.cluster.below(Kind.SLICE.path).values()]
        return {entry.limit for each in found if isinstance(each, slices.Slice) for entry in each.entries}


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cluster(time: Time) -> Cluster:
    made = Cluster(time)
    for name in ("a", "b"):
        made.limit(name)
    made.node("node-0")
    return made


@pytest.fixture
def replica(cluster: Cluster, time: Time) -> Replica:
    made = Replica(cluster, time)
    assert made.leader.begin(time.stopping)
    return made


def test_a_term_begins_with_a_plan_and_watches_after_it(replica: Replica) -> None:
    """Slices first, then the head that names them; only what was published before the watch can be owed by it."""
    assert replica.cluster.writes() == ["PATCH plan-00000", f"PATCH {slices.HEAD}"]
    assert replica.planned() == {"a", "b"}
    assert replica.asked == ["read addresses", "watch", "check"]
    assert replica.health.ready().message == "the API server does not answer"  # the Lease's thread says that


def test_a_turn_without_a_change_writes_nothing(replica: Replica) -> None:
    """However often it is made."""
    replica.turn()
    assert [replica.turn() for _ in range(5)] == [[]] * 5


def test_an_edit_writes_one_slice(replica: Replica) -> None:
    """And the statuses of what became of it, once the node has taken it up."""
    replica.report("node-0", desired=2, programmed=2)
    replica.turn()
    replica.turn()
    assert replica.ready("a") == ("True", "Ready")
    replica.cluster.writes()
    replica.cluster.limit("a", generation=2, egress={"rate": "7Mbit"})
    assert replica.turn(0.1) == ["PATCH plan-00000"]
    replica.report("node-0", desired=2, programmed=2)
    assert "PATCH status" in replica.turn(3.0)
    assert replica.cluster.objects[f"{Kind.LIMIT.path}/a"]["status"]["observedGeneration"] == 2
    assert replica.ready("a") == ("True", "Ready")


def test_a_limit_that_is_over_leaves_the_plan_without_any_event(replica: Replica) -> None:
    """By the wall clock, to the second."""
    replica.cluster.limit("c", ttlSeconds=int(examples.NOW - examples.CREATED) + 3600)
    replica.turn()
    assert replica.planned() == {"a", "b", "c"}
    replica.turn(3600.0 - 60)
    assert "c" in replica.planned()
    replica.turn(120.0)
    assert replica.planned() == {"a", "b"}


def test_a_write_that_fails_is_made_again_after_a_pause(replica: Replica, time: Time) -> None:
    """What the server asks for, up to a bound; the limits in force stay as they are meanwhile."""
    replica.turn()

    def busy(method: str, path: str) -> None:
        if method == "PATCH" and path.startswith(Kind.SLICE.path):
            raise client.RefusedError(429, "TooManyRequests", "busy", 7.0)

    replica.cluster.fault = busy
    replica.cluster.limit("c")
    replica.turn()
    replica.cluster.fault = lambda method, path: None
    assert [each for each in replica.turn(5.0) if "plan" in each] == []
    assert replica.planned() == {"a", "b"}
    assert "PATCH plan-00000" in replica.turn(3.0)
    assert replica.planned() == {"a", "b", "c"}


def test_a_slice_that_somebody_changed_is_made_right_again(replica: Replica) -> None:
    """One that was deleted too."""
    replica.turn()
    path = f"{Kind.SLICE.path}/plan-00000"
    spec = replica.cluster.objects[path]["spec"]
    replica.cluster.put(path, replica.cluster.objects[path] | {"spec": spec | {"entries": []}})
    assert "PATCH plan-00000" in replica.turn()
    assert replica.planned() == {"a", "b"}
    del replica.cluster.objects[path]
    assert "PATCH plan-00000" in replica.turn()
    assert replica.planned() == {"a", "b"}


def test_a_retirement_of_a_later_term_is_not_written_over(replica: Replica) -> None:
    """It has the Lease by now. One of a term that passed is left of one that did not end, and is."""
    replica.turn()
    path = f"{Kind.SLICE.path}/{slices.HEAD}"
    lease = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/client-bandwidth-operator"
    replica.cluster.put(lease, replica.cluster.objects[lease] | {"spec": {"holderIdentity": "retire_1"}})
    head = slices.Head((), retire=True, term=replica.fence.term + 1)
    replica.cluster.put(path, {"spec": slices.write(head)})
    replica.watch.bring()
    replica.leader.turn()
    replica.time.pass_by(0.5)
    replica.leader.turn()
    assert replica.cluster.writes() == []
    replica.cluster.put(path, {"spec": slices.write(dataclasses.replace(head, term=replica.fence.term - 1))})
    replica.watch.bring()
    replica.leader.turn()
    replica.time.pass_by(0.5)
    replica.leader.turn()
    assert f"PATCH {slices.HEAD}" in replica.cluster.writes()


def test_what_cannot_be_listed_at_the_beginning_is_tried_until_another_replica_should(
    cluster: Cluster, time: Time
) -> None:
    """Nothing is written before everything is there; after three minutes the Lease is for another one."""

    def broken(method: str, path: str) -> None:
        if path == Kind.NODE.path:
            raise client.UnreachableError("cut")

    cluster.fault = broken
    replica = Replica(cluster, time)
    replica.fence.extend(1e9)
    with pytest.raises(CannotFollowError, match="not everything could be listed: cut"):
        replica.leader.begin(time.stopping)
    assert cluster.writes() == []
    assert tuple(time.stopping.seconds[:5]) == RETRY_SECONDS
    assert sum(time.stopping.seconds) >= watch_restarts.GIVE_UP_SECONDS


def test_a_term_that_ends_while_all_is_listed_does_nothing(cluster: Cluster, time: Time) -> None:
    """It neither plans nor watches."""
    replica = Replica(cluster, time)
    cluster.fault = lambda method, path: replica.fence.end() if path == Kind.NODE.path else None
    assert replica.leader.run(time.stopping) is None
    assert cluster.writes() == []
    assert replica.asked == ["stop watching", "stop checking"]


def test_a_replica_that_listed_ahead_lists_its_limits_again_only_if_a_slice_has_changed(
    cluster: Cluster, time: Time
) -> None:
    """10,000 limits take some seconds; if nothing was published since, none of them is newer than what the plan has."""
    first = Replica(cluster, time)
    assert first.leader.begin(time.stopping)
    first.lease.release()
    for published in (False, True):
        time.pass_by(30.0)
        prepared = lists.prepared(cluster, lambda: True, lambda: None)
        assert prepared is not None
        if published:
            path = f"{Kind.SLICE.path}/plan-00000"
            cluster.put(path, cluster.objects[path])
        cluster.requests.clear()
        second = Replica(cluster, time, f"two-{published}", prepared)
        assert second.leader.begin(time.stopping)
        assert (("GET", Kind.LIMIT.path) in cluster.requests) is published
        assert second.fence.term > first.fence.term
        second.lease.release()


def test_a_silent_watch_is_begun_again_and_all_is_listed(replica: Replica) -> None:
    """Not before it has owed something for a while."""
    replica.turn()
    replica.cluster.limit("c")
    replica.turn()
    replica.asked.clear()
    replica.pass_by(19.0)
    replica.leader.turn()
    assert replica.asked == []
    replica.pass_by(2.0)  # the slice that was written has not come back
    replica.leader.turn()
    assert replica.asked == ["watch again", "watch", "list all"]


def test_a_server_that_went_back_is_believed(replica: Replica) -> None:
    """Whoever noticed it: the versions that are known mean nothing any more, and no plan is made of them."""
    replica.turn()
    replica.asked.clear()
    replica.checker.went_back.set()
    replica.time.pass_by(5.0)
    replica.leader.turn()
    assert replica.asked == ["watch again", "watch", "list all"]
    assert not replica.checker.went_back.is_set()
    assert not replica.cache.complete
    replica.cluster.limit("c")
    for kind in Kind:
        lists.fill(replica.cluster, replica.cache, kind)
    assert "PATCH plan-00000" in replica.turn(5.0)


def test_a_thread_that_ended_by_an_error_ends_the_term(replica: Replica) -> None:
    """With that error."""
    replica.checker.crashed = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        replica.leader.turn()


def test_a_leader_that_lost_its_lease_writes_nothing_more(replica: Replica, time: Time) -> None:
    """Its fence closes by the clock, before another one can have the Lease."""
    replica.turn()
    replica.cluster.limit("c")
    replica.watch.bring()
    time.pass_by(60.0)
    replica.leader.turn()
    time.pass_by(1.0)
    replica.cluster.writes()
    with pytest.raises(LeadershipLostError):
        replica.leader.turn()
    assert replica.cluster.writes() == []
    assert "c" not in replica.planned()
