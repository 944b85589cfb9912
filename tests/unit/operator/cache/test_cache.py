"""Events and lists that come late and in any order; the token bucket; signs of life."""

from __future__ import annotations

import copy
import datetime
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api.crds import node_state, slices
from bandwidth_api.kinds import Kind
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.commands import run
from bandwidth_operator.election import fence
from bandwidth_operator.election.token_bucket import TokenBucket
from bandwidth_operator.publish import planning
from bandwidth_operator.reporting import health
from bandwidth_operator.status import events, limit_status
from bandwidth_operator.status.rollup import Outcome
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
    cache = Cache()
    position = 0

    def event() -> None:
        nonlocal position
        item = history[position][2]
        assert item is not None
        cache.note(Kind.LIMIT, {k: v for k, v in item.items() if k != "deleted"}, deleted=bool(item.get("deleted")))
        position += 1

    def pages(at: int) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """The list of one moment, object by object, with events between them."""
        for each in states[at].values():
            yield [each], at
            while position < len(history) and data.draw(st.booleans()):
                event()
        yield [], at

    while position < len(history):
        if data.draw(st.booleans()):
            # Never older than what was known when it was asked for; the events of what it holds may come later.
            cache.merge(Kind.LIMIT, pages(data.draw(st.integers(position, len(history)))))
        else:
            event()
    cache.merge(Kind.LIMIT, pages(len(history)))
    known = cache.snapshot().limits
    assert {n: k.version for n, k in known.items()} == {
        n: int(i["metadata"]["resourceVersion"]) for n, i in alive.items()
    }


def test_a_list_finds_what_the_watch_missed() -> None:
    """An object that vanished unseen goes with the next list, and is counted."""
    cache = Cache()
    cache.note(Kind.LIMIT, version(examples.document("a"), 5))
    cache.note(Kind.LIMIT, version(examples.document("b"), 6))
    cache.take_changed()
    assert cache.merge(Kind.LIMIT, [([version(examples.document("b"), 6)], 9)]).corrected == 1
    assert set(cache.snapshot().limits) == {"b"}
    assert cache.take_changed() == {Kind.LIMIT}


def test_what_happens_while_a_list_is_made_is_newer_than_the_list() -> None:
    """An object made meanwhile stays though the list lacks it; one deleted meanwhile does not come back."""
    cache = Cache()
    cache.note(Kind.LIMIT, version(examples.document("b"), 3))

    def pages() -> Iterator[tuple[list[dict[str, Any]], int]]:
        yield [], 5
        cache.note(Kind.LIMIT, version(examples.document("a"), 7))
        cache.note(Kind.LIMIT, version(examples.document("b"), 8), deleted=True)
        yield [version(examples.document("b"), 3)], 5

    assert cache.merge(Kind.LIMIT, pages()).corrected == 0
    assert set(cache.snapshot().limits) == {"a"}


def test_a_whole_list_is_the_truth_whatever_its_versions_are() -> None:
    """After a restore from a backup objects are older, others are back and others were never made."""
    cache = Cache()
    cache.merge(Kind.LIMIT, [([version(examples.document("a", generation=9), 900)], 1000)])
    cache.note(Kind.LIMIT, version(examples.document("later"), 1001))
    cache.note(Kind.LIMIT, version(examples.document("deleted"), 1002))
    cache.note(Kind.LIMIT, version(examples.document("deleted"), 1003), deleted=True)
    cache.take_changed()
    restored = [version(examples.document(name), 50) for name in ("a", "deleted")]
    merged = cache.merge(Kind.LIMIT, [(restored, 60)])
    assert merged.went_back
    limits = cache.snapshot().limits
    assert {name: (each.version, each.generation) for name, each in limits.items()} == {
        "a": (50, 1),
        "deleted": (50, 1),
    }
    assert cache.take_changed() == {Kind.LIMIT}
    assert not cache.merge(Kind.LIMIT, [(restored, 61)]).went_back


def test_versions_that_begin_anew_mean_nothing_of_before() -> None:
    """An object that has the same name, uid, version and generation in another history is read again."""
    cache = Cache()
    for kind in Kind:
        cache.merge(kind, [([], 10)])
    cache.note(Kind.LIMIT, version(examples.document("a", "203.0.113.7", 4), 50))
    before = cache.snapshot().limits["a"]
    assert cache.complete
    cache.forget_versions()
    assert not cache.complete
    cache.merge(Kind.LIMIT, [([version(examples.document("a", "203.0.113.8", 4), 50)], 60)])
    after = cache.snapshot().limits["a"]
    assert (after.uid, after.version, after.generation) == (before.uid, before.version, before.generation)
    assert after.parsed != before.parsed


def test_an_answer_is_the_truth_about_what_was_known_when_it_was_asked_for() -> None:
    """A lower version in it replaces what is known, but not what came while it was under way."""
    cache = Cache()
    cache.note(Kind.LIMIT, version(examples.document("a"), 900))
    cache.learn(Kind.LIMIT, version(examples.document("a"), 40), cache.mark())
    assert cache.snapshot().limits["a"].version == 40
    asked = cache.mark()
    cache.note(Kind.LIMIT, version(examples.document("a"), 42))
    cache.learn(Kind.LIMIT, version(examples.document("a"), 41), asked)
    assert cache.snapshot().limits["a"].version == 42


ODD: list[Any] = [
    None,
    7,
    [],
    {},
    {"metadata": None},
    {"metadata": {"name": 7, "resourceVersion": "1"}},
    {"metadata": {"name": "", "resourceVersion": "1"}},
    {"metadata": {"name": "a"}},
    {"metadata": {"name": "a", "resourceVersion": 5}},
    {"metadata": {"name": "a", "resourceVersion": "abc"}},
    {"metadata": {"name": "a", "resourceVersion": "-1"}},
    {"metadata": {"name": "a", "resourceVersion": "9" * 5000}},
    {"metadata": {"name": "a" * 300, "resourceVersion": "1"}},
]
BARE = {"metadata": {"name": "x", "resourceVersion": "5"}}


@pytest.mark.parametrize("kind", list(Kind))
def test_an_odd_object_in_a_list_is_a_value_and_takes_nothing_away(kind: Kind) -> None:
    """What was known of it stays, the others of the list are read, and events of the same kind are passed over."""
    for odd in ODD:
        cache = Cache()
        for name in ("a", "b", "gone"):
            cache.note(kind, {"metadata": {"name": name, "uid": name, "resourceVersion": "5"}})
        new = {"metadata": {"name": "new", "uid": "new", "resourceVersion": "6"}}
        merged = cache.merge(kind, [([odd, new, new], 9)])
        assert len(merged.unreadable) == 1
        held = set(getattr(cache.snapshot(), f"{kind.value}s"))
        nameless = merged.unreadable[0].name == ""
        assert held == ({"a", "b", "gone", "new"} if nameless else {"a", "new"})
        assert cache.note(kind, odd) is not None
        assert cache.learn(kind, odd, cache.mark()) is not None


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(list(Kind)), st.data())
def test_no_object_raises_whatever_is_in_its_fields(kind: Kind, data: st.DataObject) -> None:
    """Each of them is read, judged and told, with any field of any type."""
    document = copy.deepcopy(examples.document("x")) if kind is Kind.LIMIT else copy.deepcopy(BARE)
    state = node_state.NodeState("x", "d", True, examples.NOW)
    head = slices.write(slices.make("x", [examples.entry("x")]))
    document |= {Kind.STATE: {"status": node_state.write(state)}, Kind.SLICE: {"spec": head}}.get(kind, {})
    for _ in range(data.draw(st.integers(1, 3))):
        part: Any = document
        while isinstance(part, dict | list) and part:
            keys = list(part) if isinstance(part, dict) else list(range(len(part)))
            key = data.draw(st.sampled_from(keys))
            inner = part[key]
            if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
                part[key] = data.draw(JUNK)
                break
            part = inner
    found = objects.read(kind, document, None, objects.Moment(1.0, examples.NOW))
    if isinstance(found, objects.Unreadable):
        return
    assert objects.read(kind, document, found) == found or isinstance(found, objects.State)
    assert isinstance(objects.differs(found, found), bool)
    if isinstance(found, objects.State):
        objects.silent_at(found)
    if isinstance(found, objects.Limit):
        limit_status.status(Outcome(), found, examples.NOW)
        list(events.between(found.status.get("conditions") or (), []))


def test_a_limit_without_a_time_of_creation_stays_in_force_as_it_was() -> None:
    """Its entry in the slice is kept, though it is not known whether it is of this object."""
    document = examples.document("a")
    del document["metadata"]["creationTimestamp"]
    found = objects.read(Kind.LIMIT, document, None)
    assert isinstance(found, objects.Limit)
    item = slices.make("plan-00000", [examples.entry("a")])
    snapshot = objects.Snapshot({"a": found}, {}, {}, {})
    planned = planning.plan_of(snapshot, {item.name: item}, examples.NOW)
    assert set(planned.plan.entries) == {"a"}
    assert planned.rejected["a"][0].field == "metadata.creationTimestamp"


@pytest.mark.parametrize("part", ["creationTimestamp", "spec"])
@pytest.mark.parametrize("later", [5, 6])
def test_a_limit_that_was_odd_on_its_way_is_read_again(part: str, later: int) -> None:
    """The next whole list puts it right, at the same version or at one that only wrote its status."""
    whole = version(examples.document("a"), 5)
    odd = copy.deepcopy(whole)
    if part == "spec":
        odd["spec"] = None
    else:
        del odd["metadata"][part]
    cache = Cache()
    cache.merge(Kind.LIMIT, [([odd], 9)])
    assert objects.in_doubt(cache.snapshot().limits["a"])
    cache.take_changed()
    cache.merge(Kind.LIMIT, [([version(whole, later)], 10)])
    assert not objects.in_doubt(cache.snapshot().limits["a"])
    assert cache.snapshot().limits["a"].created_at is not None
    assert cache.take_changed() == {Kind.LIMIT}


def test_our_own_writes_and_heartbeats_wake_nobody() -> None:
    """Only what means something to us is a change."""
    cache = Cache()
    cache.note(Kind.LIMIT, version(examples.document("a"), 5))
    cache.take_changed()
    written = version(examples.document("a"), 6) | {"status": {"observedGeneration": 1}}
    cache.learn(Kind.LIMIT, written, cache.mark(), own=True)
    cache.note(Kind.NODE, {"metadata": {"name": "n", "uid": "u", "resourceVersion": "7"}})
    cache.take_changed()
    heartbeat = {"metadata": {"name": "n", "uid": "u", "resourceVersion": "8"}, "status": {"images": ["x"]}}
    cache.note(Kind.NODE, heartbeat)
    assert cache.take_changed() == frozenset()
    assert not cache.woken.is_set()


def test_a_parsed_limit_is_kept_while_its_generation_stays() -> None:
    """A write of the status does not make 10,000 limits be parsed again."""
    cache = Cache()
    cache.note(Kind.LIMIT, version(examples.document("a"), 5))
    before = cache.snapshot().limits["a"].parsed
    cache.note(Kind.LIMIT, version(examples.document("a"), 6) | {"status": {"observedGeneration": 1}})
    assert cache.snapshot().limits["a"].parsed is before


def test_the_bucket_bounds_the_rate() -> None:
    """A burst at once, then the rate; spare tokens only while there are many."""
    now = [0.0]
    bucket = TokenBucket(10, 4, clock=lambda: now[0])
    assert [bucket.wait_seconds() for _ in range(4)] == [0, 0, 0, 0]
    assert abs(bucket.wait_seconds() - 0.1) < 1e-9
    now[0] = 0.1
    assert bucket.wait_seconds() == 0
    assert not bucket.has_spare(0.5)
    now[0] = 10.0
    assert bucket.has_spare(0.5)
    assert [bucket.wait_seconds(0.5) for _ in range(2)] == [0, 0]
    assert abs(bucket.wait_seconds(0.5) - 0.1) < 1e-9
    assert [bucket.wait_seconds() for _ in range(2)] == [0, 0]


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
    assert signs.ready() == (
        False,
        "the watch of limits has brought nothing for 200 s of what is known to have happened; they are listed",
    )
    now[0] = 100.0
    signs.turned("lease")
    assert signs.healthy() == (False, "term has not turned for 100 s")
    assert not signs.ready().good
    signs.standing_by()
    assert signs.healthy().good
    assert signs.ready() == (False, "the API server does not answer")
    signs.heard()
    signs.standing_by("standing aside: the watch of limits brings nothing", 20.0)
    assert signs.ready() == (False, "standing aside: the watch of limits brings nothing")
    assert signs.healthy().good
    now[0] = 121.0
    assert signs.ready() == (True, "standing by")


def test_events_are_about_changes_of_conditions() -> None:
    """Ready, not ready but for waiting, conflicts that come and go; nothing for what stays."""

    def condition(kind: str, status: str, reason: str) -> dict[str, str]:
        return {"type": kind, "status": status, "reason": reason, "message": "m"}

    pending, ready = condition("Ready", "False", "Pending"), condition("Ready", "True", "Ready")
    broken, expired = condition("Ready", "False", "ForeignQdisc"), condition("Ready", "False", "Expired")
    alone, beaten = condition("Conflicted", "False", "NoConflict"), condition("Conflicted", "True", "Overridden")

    def told(before: list[dict[str, str]], after: list[dict[str, str]]) -> list[tuple[bool, str]]:
        return [(o.warning, o.reason) for o in events.between(before, after)]

    assert told([], [pending, alone]) == []
    assert told([pending, alone], [ready, alone]) == [(False, "Ready")]
    assert told([ready, alone], [ready, alone]) == []
    assert told([ready, alone], [broken, beaten]) == [(True, "ForeignQdisc"), (True, "Overridden")]
    assert told([broken, beaten], [expired, alone]) == [(False, "Expired"), (False, "NoConflict")]


def test_the_pure_modules_import_nothing_that_acts() -> None:
    """What decides about the plan and the statuses stands on the API package and on each other alone."""
    root = pathlib.Path(run.__file__).parent.parent
    for name in (
        "status/rollup",
        "status/limit_status",
        "publish/planning",
        "publish/slicing",
        "cache/history",
        "cache/objects",
    ):
        text = (root / f"{name}.py").read_text()
        for word in ("bandwidth_kube", "threading", "import time", "kopf", "structlog"):
            assert word not in text, (name, word)


def test_the_status_that_we_write_is_no_news_when_the_event_is_faster_than_the_answer() -> None:
    """The status of another program, or a change beside it, is."""
    cache = Cache()
    cache.note(Kind.LIMIT, version(examples.document("a"), 5))
    cache.take_changed()
    cache.expect("a", {"observedGeneration": 1})
    cache.note(Kind.LIMIT, version(examples.document("a"), 6) | {"status": {"observedGeneration": 1}})
    assert cache.take_changed() == frozenset()
    cache.note(Kind.LIMIT, version(examples.document("a"), 7) | {"status": {"observedGeneration": 7}})
    assert cache.take_changed() == {Kind.LIMIT}
    edited = examples.document("a", generation=2)
    cache.note(Kind.LIMIT, version(edited, 8) | {"status": {"observedGeneration": 1}})
    assert cache.take_changed() == {Kind.LIMIT}


def test_a_report_that_says_what_the_last_one_said_is_no_news() -> None:
    """Thousands of nodes report all the time; only a change, or a word from a node that was silent, is worth a look.

    A node is silent by our clock, whatever its own says: it may be hours behind or ahead, or be set.
    """
    now = [0.0]
    cache = Cache(clock=lambda: now[0])

    def report(number: int, at: float, node_says: float, **more: Any) -> bool:
        now[0] = at
        state = node_state.NodeState("node-0", "d", True, node_says, report_interval_seconds=300, **more)
        metadata = {"name": "node-0", "uid": "u", "resourceVersion": str(number)}
        cache.note(Kind.STATE, {"metadata": metadata, "status": node_state.write(state)})
        return bool(cache.take_changed())

    assert report(1, 0, 1_000_000)
    assert not report(2, 300, 2_000_000)
    assert cache.snapshot().states["node-0"].heard_at == 300
    assert not report(3, 600, 1_000_100)
    assert cache.snapshot().states["node-0"].heard_at == 600
    assert report(4, 900, 1_000_200, desired=1, programmed=1)
    assert objects.silent_at(cache.snapshot().states["node-0"]) == 900 + 2.5 * 300 + 30
    assert report(5, 1681, 1_000_300, desired=1, programmed=1)


def test_the_age_of_a_report_that_was_not_seen_to_come_is_the_api_servers() -> None:
    """An operator that starts knows by the API server's clock how long a node has been silent, not by the node's."""
    server = {"operation": "Update", "subresource": "status", "time": "2027-01-15T08:00:00Z"}
    at = datetime.datetime(2027, 1, 15, 8, 20, tzinfo=datetime.UTC).timestamp()
    for node_says in (at - 10_000, at, at + 10_000):
        cache = Cache(clock=lambda: 5_000.0, server_time=lambda: at)
        metadata = {"name": "n", "uid": "u", "resourceVersion": "1", "managedFields": [{"time": "odd"}, server]}
        state = node_state.write(node_state.NodeState("n", "d", True, node_says))
        cache.merge(Kind.STATE, [([{"metadata": metadata, "status": state}], 9)])
        assert cache.snapshot().states["n"].heard_at == 5_000 - 20 * 60


def test_a_node_whose_state_is_deleted_is_counted_until_it_would_have_been_silent() -> None:
    """Nothing changed on the node; its agent makes the object again, and until that is written it is what it was."""
    now = [0.0]
    cache = Cache(clock=lambda: now[0])

    def item(number: int, uid: str, **more: Any) -> dict[str, Any]:
        metadata = {"name": "n", "uid": uid, "resourceVersion": str(number)}
        state = node_state.NodeState("n", "d", True, examples.NOW, report_interval_seconds=300, **more)
        return {"metadata": metadata, "status": node_state.write(state)}

    cache.note(Kind.STATE, item(1, "u1"))
    cache.note(Kind.STATE, item(2, "u1"), deleted=True)
    now[0] = 700.0
    kept = cache.snapshot().states["n"]
    assert kept.gone
    cache.merge(Kind.STATE, [([], 5)])
    assert cache.snapshot().states["n"] == kept
    made = item(6, "u2") | {"status": None}
    cache.note(Kind.STATE, made)
    assert cache.snapshot().states["n"].content == kept.content
    cache.note(Kind.STATE, item(7, "u2"))
    assert not cache.snapshot().states["n"].gone
    cache.note(Kind.STATE, item(8, "u2"), deleted=True)
    cache.take_changed()
    now[0] = 700.0 + 2.5 * 300 + 31
    assert "n" not in cache.snapshot().states
    assert cache.take_changed() == {Kind.STATE}
    cache.note(Kind.STATE, item(9, "u3", retired=True))
    cache.note(Kind.STATE, item(10, "u3", retired=True), deleted=True)
    assert "n" not in cache.snapshot().states
