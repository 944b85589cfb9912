"""Events and lists that come late and in any order; the token bucket; signs of life."""

from __future__ import annotations

import copy
import pathlib
import threading
import urllib.error
import urllib.request
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api import node_state
from bandwidth_operator import fence, health, occurrences, web
from bandwidth_operator.bucket import TokenBucket
from bandwidth_operator.known import Kind
from bandwidth_operator.memory import Memory
from bandwidth_operator.metrics import Metrics
from unit.operator import examples


def version(item: dict[str, Any], number: int, **metadata: Any) -> dict[str, Any]:
    changed = copy.deepcopy(item)
    changed["metadata"] |= {"resourceVersion": str(number), **metadata}
    return changed


@given(st.data())
def test_any_order_of_events_and_lists_ends_the_same(data: st.DataObject) -> None:
    """Watch events and lists of one history, each in its order but interleaved at will, lead to the last state."""
    names = ("a", "b", "c")
    history: list[tuple[int, str, dict[str, Any] | None]] = []
    alive: dict[str, dict[str, Any]] = {}
    states: list[dict[str, dict[str, Any]]] = [{}]
    for number in range(1, data.draw(st.integers(1, 12)) + 1):
        name = data.draw(st.sampled_from(names))
        if name in alive and data.draw(st.booleans()):
            item = version(alive.pop(name), number)
            history.append((number, name, None))
            history[-1] = (number, name, item | {"deleted": True})
        else:
            uid = alive[name]["metadata"]["uid"] if name in alive else f"{name}-{number}"
            alive[name] = version(examples.document(name), number, uid=uid, generation=number)
            history.append((number, name, alive[name]))
        states.append(dict(alive))
    memory = Memory()
    position = 0
    while position < len(history):
        if data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(history)))
            memory.merge(Kind.LIMIT, [(states[at].values(), at)])
        item = history[position][2]
        assert item is not None
        deleted = bool(item.get("deleted"))
        memory.note(Kind.LIMIT, {k: v for k, v in item.items() if k != "deleted"}, deleted=deleted)
        position += 1
    memory.merge(Kind.LIMIT, [(states[-1].values(), len(history))])
    known = memory.snapshot().limits
    assert {n: k.version for n, k in known.items()} == {
        n: int(i["metadata"]["resourceVersion"]) for n, i in alive.items()
    }


def test_a_list_finds_what_the_watch_missed() -> None:
    """An object that vanished unseen goes with the next list, and is counted."""
    memory = Memory()
    memory.note(Kind.LIMIT, version(examples.document("a"), 5))
    memory.note(Kind.LIMIT, version(examples.document("b"), 6))
    memory.take_changed()
    assert memory.merge(Kind.LIMIT, [([version(examples.document("b"), 6)], 9)]) == 1
    assert set(memory.snapshot().limits) == {"b"}
    assert memory.take_changed() == {Kind.LIMIT}


def test_an_old_list_takes_nothing_away() -> None:
    """An object newer than the list stays; one deleted after the list was taken does not come back."""
    memory = Memory()
    memory.note(Kind.LIMIT, version(examples.document("a"), 7))
    memory.note(Kind.LIMIT, version(examples.document("b"), 3))
    memory.note(Kind.LIMIT, version(examples.document("b"), 8), deleted=True)
    assert memory.merge(Kind.LIMIT, [([version(examples.document("b"), 3)], 5)]) == 0
    assert set(memory.snapshot().limits) == {"a"}


def test_our_own_writes_and_heartbeats_wake_nobody() -> None:
    """Only what means something to us is a change."""
    memory = Memory()
    memory.note(Kind.LIMIT, version(examples.document("a"), 5))
    memory.take_changed()
    memory.note(Kind.LIMIT, version(examples.document("a"), 6) | {"status": {"observedGeneration": 1}}, own=True)
    memory.note(Kind.NODE, {"metadata": {"name": "n", "uid": "u", "resourceVersion": "7"}})
    memory.take_changed()
    heartbeat = {"metadata": {"name": "n", "uid": "u", "resourceVersion": "8"}, "status": {"images": ["x"]}}
    memory.note(Kind.NODE, heartbeat)
    assert memory.take_changed() == frozenset()
    assert not memory.woken.is_set()


def test_a_parsed_limit_is_kept_while_its_generation_stays() -> None:
    """A write of the status does not make 10,000 limits be parsed anew."""
    memory = Memory()
    memory.note(Kind.LIMIT, version(examples.document("a"), 5))
    before = memory.snapshot().limits["a"].parsed
    memory.note(Kind.LIMIT, version(examples.document("a"), 6) | {"status": {"observedGeneration": 1}})
    assert memory.snapshot().limits["a"].parsed is before


def test_the_bucket_bounds_the_rate() -> None:
    """A burst at once, then the rate; spare tokens only while there are many."""
    now = [0.0]
    bucket = TokenBucket(10, 4, clock=lambda: now[0])
    assert [bucket.wait_seconds() for _ in range(4)] == [0, 0, 0, 0]
    assert abs(bucket.wait_seconds() - 0.1) < 1e-9
    now[0] = 0.1
    assert bucket.wait_seconds() == 0
    assert not bucket.spare(0.5)
    now[0] = 10.0
    assert bucket.spare(0.5)
    assert bucket.spare(0.5)
    assert not bucket.spare(0.5)


def test_a_fence_closes_by_the_clock_and_for_good_when_ended() -> None:
    """Without a renewal it closes; ended it does not open again."""
    fenced = fence.Fence(1, fence.boot_clock() + 60)
    assert fenced.open
    fenced.extend(fence.boot_clock() - 1)
    assert not fenced.open
    fenced.extend(fence.boot_clock() + 60)
    assert fenced.open
    fenced.end()
    fenced.extend(fence.boot_clock() + 60)
    assert not fenced.open


def test_health_tells_what_is_wrong() -> None:
    """Stuck threads, a silent API server, lists that are not done, silent watches."""
    now = [0.0]
    signs = health.Health(clock=lambda: now[0])
    assert signs.ready() == (False, "the API server does not answer")
    signs.heard()
    assert signs.ready() == (True, "standing by")
    silence = {"limit": 1.0}
    signs.acting(lambda: silence)
    assert signs.ready() == (False, "not everything is listed yet")
    signs.listed()
    assert signs.ready() == (True, "acting")
    silence["limit"] = 200.0
    assert signs.ready() == (False, "the watch of limits is silent for 200 s")
    now[0] = 100.0
    signs.turned("lease")
    assert signs.healthy() == (False, "term has not turned for 100 s")
    assert not signs.ready().good
    signs.standing_by()
    assert signs.healthy().good
    assert signs.ready() == (False, "the API server does not answer")


def test_the_web_server_serves_three_paths() -> None:
    """And says so where there is nothing."""
    signs = health.Health()
    server = web.Server(("127.0.0.1", 0), signs, Metrics().text)
    try:
        answers = {p: _get(server.port, p) for p in ("/healthz", "/readyz", "/metrics", "/")}
    finally:
        server.close()
    assert answers["/healthz"] == (200, "ok\n")
    assert answers["/readyz"] == (503, "the API server does not answer\n")
    assert "bandwidth_operator_leading 0.0" in answers["/metrics"][1]
    assert answers["/"][0] == 404
    assert threading.active_count() < 10


def test_events_are_about_changes_of_conditions() -> None:
    """Ready, not ready but for waiting, conflicts that come and go; nothing for what stays."""

    def condition(kind: str, status: str, reason: str) -> dict[str, str]:
        return {"type": kind, "status": status, "reason": reason, "message": "m"}

    pending, ready = condition("Ready", "False", "Pending"), condition("Ready", "True", "Ready")
    broken, expired = condition("Ready", "False", "ForeignQdisc"), condition("Ready", "False", "Expired")
    alone, beaten = condition("Conflicted", "False", "NoConflict"), condition("Conflicted", "True", "Overridden")

    def told(before: list[dict[str, str]], after: list[dict[str, str]]) -> list[tuple[bool, str]]:
        return [(o.warning, o.reason) for o in occurrences.between(before, after)]

    assert told([], [pending, alone]) == []
    assert told([pending, alone], [ready, alone]) == [(False, "Ready")]
    assert told([ready, alone], [ready, alone]) == []
    assert told([ready, alone], [broken, beaten]) == [(True, "ForeignQdisc"), (True, "Overridden")]
    assert told([broken, beaten], [expired, alone]) == [(False, "Expired"), (False, "NoConflict")]


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_pure_modules_import_nothing_that_acts() -> None:
    """rollup, verdicts, planning, slicing, history and known stand on the API package and on each other alone."""
    root = pathlib.Path(web.__file__).parent
    for name in ("rollup", "verdicts", "planning", "slicing", "history", "known"):
        text = (root / f"{name}.py").read_text()
        for word in ("bandwidth_kube", "threading", "import time", "kopf", "structlog"):
            assert word not in text, (name, word)


def test_the_status_that_we_write_is_no_news_when_the_event_is_faster_than_the_answer() -> None:
    """Somebody else's status, or a change beside it, is."""
    memory = Memory()
    memory.note(Kind.LIMIT, version(examples.document("a"), 5))
    memory.take_changed()
    memory.expect("a", {"observedGeneration": 1})
    memory.note(Kind.LIMIT, version(examples.document("a"), 6) | {"status": {"observedGeneration": 1}})
    assert memory.take_changed() == frozenset()
    memory.note(Kind.LIMIT, version(examples.document("a"), 7) | {"status": {"observedGeneration": 7}})
    assert memory.take_changed() == {Kind.LIMIT}
    edited = examples.document("a", generation=2)
    memory.note(Kind.LIMIT, version(edited, 8) | {"status": {"observedGeneration": 1}})
    assert memory.take_changed() == {Kind.LIMIT}


def test_a_report_that_says_what_the_last_one_said_is_no_news() -> None:
    """Thousands of nodes report all the time; only a change, or a word from a node that was silent, is worth a look."""
    memory = Memory()

    def report(number: int, at: float, **more: Any) -> bool:
        state = node_state.NodeState("node-0", "d", True, at, report_interval_seconds=300, **more)
        metadata = {"name": "node-0", "uid": "u", "resourceVersion": str(number)}
        memory.note(Kind.STATE, {"metadata": metadata, "status": node_state.write(state)})
        return bool(memory.take_changed())

    assert report(1, 1_000_000)
    assert not report(2, 1_000_300)
    content = memory.snapshot().states["node-0"].content
    assert isinstance(content, node_state.NodeState)
    assert content.reported_at == 1_000_300
    assert report(3, 1_000_600, desired=1, programmed=1)
    assert report(4, 1_002_600, desired=1, programmed=1)
