"""The lists that check what the watches brought, over an API server in memory and a clock that a test moves."""

from __future__ import annotations

import pytest

from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache import list_schedule, lists
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.cache.list_checker import ListChecker
from bandwidth_operator.cache.list_schedule import Schedule
from bandwidth_operator.cache.watch import Streams
from bandwidth_operator.protection.cluster_addresses import EVERY_SECONDS, ClusterAddresses
from bandwidth_operator.reporting.health import SILENT_SECONDS, Health
from bandwidth_operator.reporting.metrics import Metrics
from unit.operator.cluster import Cluster, Time

LISTS = {kind.path for kind in Kind}


class Scene:
    def __init__(self) -> None:
        self.time = Time()
        self.cluster = Cluster(self.time)
        self.cluster.limit("a")
        self.cluster.limit("b")
        self.cache = Cache(self.time.clock.monotonic)
        for kind in Kind:
            lists.fill(self.cluster, self.cache, kind)
        self.metrics = Metrics()
        self.schedule = Schedule(self.time.now)
        addresses = ClusterAddresses(self.cluster, None)
        health = Health(self.time.clock.monotonic)
        streams = Streams(self.cache.began, self.cache.watch_health.ended)
        clock = self.time.clock.monotonic
        self.checker = ListChecker(self.cluster, self.cache, streams, addresses, self.metrics, health, clock)
        self.checker.read_addresses()
        self.cluster.requests.clear()

    def turn(self, seconds: float) -> list[str]:
        """The collections that are listed or looked at in a turn after so long."""
        self.time.pass_by(seconds)
        self.checker.turn(self.schedule)
        found = [path for _, path in self.cluster.requests if path in LISTS]
        self.cluster.requests.clear()
        return found

    def corrected(self) -> float:
        return self.metrics.registry.get_sample_value("bandwidth_operator_corrected_total", {"kind": "limit"}) or 0.0


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_everything_is_checked_now_and_then(scene: Scene) -> None:
    """Each kind, and nothing in between."""
    assert scene.turn(1.0) == []
    assert sorted(scene.turn(list_schedule.LOOK_SECONDS)) == sorted(LISTS)
    assert scene.turn(1.0) == []


def test_what_the_watch_missed_is_found_and_counted(scene: Scene) -> None:
    """An object that no event brought, and one whose end no event brought."""
    scene.cluster.limit("c")
    del scene.cluster.objects[f"{Kind.LIMIT.path}/a"]
    scene.turn(list_schedule.LOOK_SECONDS + 1.0)
    assert set(scene.cache.snapshot().limits) == {"b", "c"}
    assert scene.corrected() == 2.0


def test_everything_is_listed_at_once_where_that_is_asked_for(scene: Scene) -> None:
    """Once."""
    scene.turn(1.0)
    scene.checker.list_all()
    assert sorted(scene.turn(0.25)) == sorted(LISTS)
    assert scene.turn(0.25) == []


def test_lists_take_the_place_of_a_silent_watch(scene: Scene) -> None:
    """Every few seconds, of that kind alone, for as long as it is silent."""
    for kind in Kind:
        scene.cache.began(kind)
    scene.turn(list_schedule.LOOK_SECONDS + 1.0)
    scene.cluster.limit("c")
    scene.turn(list_schedule.LOOK_SECONDS + 1.0)  # now the watch owes what this list found
    scene.turn(SILENT_SECONDS - 1.0)
    found = [scene.turn(1.0) for _ in range(14)]
    assert [second for second, each in enumerate(found, 1) if each == [Kind.LIMIT.path]] == [5, 10]


def test_a_list_that_fails_is_made_again_and_holds_no_other_back(scene: Scene) -> None:
    """After a pause; what is known stays."""

    def broken(method: str, path: str) -> None:
        if path == Kind.LIMIT.path:
            raise client.RefusedError(503, "ServiceUnavailable", "starting")

    scene.cluster.fault = broken
    assert sorted(scene.turn(list_schedule.LOOK_SECONDS + 1.0)) == sorted(LISTS)
    assert scene.turn(list_schedule.RETRY_SECONDS[0] - 0.1) == []
    assert scene.turn(0.2) == [Kind.LIMIT.path]
    assert set(scene.cache.snapshot().limits) == {"a", "b"}


def test_a_kind_that_is_not_installed_is_named_with_what_to_do(scene: Scene) -> None:
    """And nothing that is known of it is forgotten."""

    def gone(method: str, path: str) -> None:
        raise client.RefusedError(404, "NotFound", "the server could not find the requested resource")

    scene.cluster.fault = gone
    with pytest.raises(lists.MissingKindError, match=r"does not know .*/clientbandwidthlimits; apply deploy/crds"):
        lists.fill(scene.cluster, scene.cache, Kind.LIMIT)
    assert set(scene.cache.snapshot().limits) == {"a", "b"}


def test_a_server_that_went_back_is_reported_to_the_leader(scene: Scene) -> None:
    """By a list whose version is lower than that of one before; the leader is woken for it."""
    scene.cache.take_changed()
    scene.cluster.version = 50
    scene.turn(list_schedule.LOOK_SECONDS + 1.0)
    assert scene.checker.went_back.is_set()
    assert scene.cache.woken.is_set()


def test_a_look_says_how_many_there_are(scene: Scene) -> None:
    """One object comes, with the number of those that follow; a difference asks for a whole list."""
    assert lists.look(scene.cluster, scene.cache, Kind.LIMIT)
    scene.cluster.limit("c")
    assert not lists.look(scene.cluster, scene.cache, Kind.LIMIT)


def test_what_the_cluster_needs_is_read_again_now_and_then(scene: Scene) -> None:
    """Its addresses hardly ever change."""
    asked: list[str] = []
    scene.cluster.fault = lambda method, path: asked.append(path) if path not in LISTS else None
    scene.turn(EVERY_SECONDS - 1.0)
    assert asked == []
    scene.turn(2.0)
    assert asked != []
