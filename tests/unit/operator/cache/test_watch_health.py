"""What a watch owes, and when it counts as silent; when lists take its place."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api.kinds import Kind
from bandwidth_operator.cache import list_schedule
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.cache.list_schedule import Schedule
from bandwidth_operator.cache.watch_health import OWED_MAX, WatchHealth
from bandwidth_operator.reporting.health import SILENT_SECONDS
from unit.operator import examples

Clock = list[float]


def item(name: str, version: int) -> dict[str, object]:
    return examples.document(name) | {
        "metadata": examples.document(name)["metadata"] | {"resourceVersion": str(version)},
    }


def watched() -> tuple[Cache, Clock]:
    """A memory whose watches began, and where all kinds were listed since."""
    now = [0.0]
    cache = Cache(clock=lambda: now[0])
    cache.watch_health.start()
    for kind in Kind:
        cache.began(kind)
        cache.merge(kind, [([], 10)])
    return cache, now


def silence(cache: Cache, kind: Kind = Kind.LIMIT) -> float:
    return cache.watch_health.silence_seconds()[kind]


def test_a_quiet_cluster_owes_nothing() -> None:
    """However long nothing comes where nothing happens, no watch is silent."""
    cache, now = watched()
    now[0] = 1e6
    for _ in range(3):
        cache.merge(Kind.LIMIT, [([], 20)])
    assert set(cache.watch_health.silence_seconds().values()) == {0.0}


def test_a_watch_that_never_begins_is_silent_from_the_start() -> None:
    """A connection that only one of the two ways to the server can make is noticed without any event."""
    now = [0.0]
    watch_health = WatchHealth(clock=lambda: now[0])
    watch_health.start()
    watch_health.began(Kind.NODE, 1)
    now[0] = 30.0
    assert watch_health.silence_seconds() == {Kind.LIMIT: 30, Kind.NODE: 0, Kind.SLICE: 30, Kind.STATE: 30}


def test_our_own_writes_must_come_back() -> None:
    """A write of a kind is owed by its watch, until that brings this version or a later one."""
    cache, now = watched()
    cache.learn(Kind.LIMIT, item("a", 11), cache.mark(), own=True)
    now[0] = 5.0
    assert silence(cache) == 5.0
    cache.note(Kind.LIMIT, item("b", 11))
    assert silence(cache) == 0.0  # it brings something, so the rest is on its way
    now[0] = 7.0
    assert silence(cache) == 2.0
    cache.note(Kind.LIMIT, item("a", 12))
    now[0] = 100.0
    assert silence(cache) == 0.0


def test_an_event_faster_than_the_answer_leaves_no_debt() -> None:
    """And a write that changed nothing, which no event follows, is not owed either."""
    cache, now = watched()
    asked = cache.mark()
    cache.note(Kind.LIMIT, item("a", 11))
    cache.learn(Kind.LIMIT, item("a", 11), asked, own=True)
    cache.learn(Kind.LIMIT, item("a", 11), cache.mark(), own=True)
    now[0] = 50.0
    assert silence(cache) == 0.0


def test_what_a_list_finds_is_owed_if_it_happened_after_the_watch_began() -> None:
    """A change before the watch began, which the first list after that finds, is never brought by it."""
    now = [0.0]
    cache = Cache(clock=lambda: now[0])
    cache.watch_health.start()
    cache.began(Kind.LIMIT)
    cache.merge(Kind.LIMIT, [([item("a", 5)], 10)])
    now[0] = 40.0
    assert silence(cache) == 0.0
    cache.merge(Kind.LIMIT, [([item("a", 11), item("b", 12)], 20)])
    now[0] = 50.0
    assert silence(cache) == 10.0
    cache.began(Kind.LIMIT)  # kopf listed again by itself: nothing was concluded from a short silence
    assert silence(cache) == 0.0
    cache.merge(Kind.LIMIT, [([item("a", 21)], 30)])
    now[0] = 60.0
    assert silence(cache) == 0.0


def test_a_deletion_that_a_list_finds_is_owed_too() -> None:
    """The watch pays with the event of the deletion."""
    cache, now = watched()
    cache.note(Kind.LIMIT, item("a", 11))
    cache.merge(Kind.LIMIT, [([], 20)])
    now[0] = 3.0
    assert silence(cache) == 3.0
    cache.note(Kind.LIMIT, item("a", 12), deleted=True)
    assert silence(cache) == 0.0


def test_a_watch_begun_again_because_of_its_silence_stays_in_doubt() -> None:
    """Until something comes of it: an event, or the end that was asked for; and if after such an end it owes again
    without having brought anything, the silence is one."""
    cache, now = watched()
    cache.learn(Kind.LIMIT, item("a", 11), cache.mark(), own=True)
    now[0] = SILENT_SECONDS + 1
    cache.began(Kind.LIMIT)
    cache.merge(Kind.LIMIT, [([item("a", 11)], 20)])
    now[0] = 60.0
    assert silence(cache) == 60.0
    cache.watch_health.ended(Kind.LIMIT)
    assert silence(cache) == 0.0
    cache.learn(Kind.LIMIT, item("a", 21), cache.mark(), own=True)
    now[0] = 100.0
    assert silence(cache) == 100.0
    cache.note(Kind.LIMIT, item("a", 21))
    assert silence(cache) == 0.0
    cache.learn(Kind.LIMIT, item("a", 31), cache.mark(), own=True)
    now[0] = 101.0
    assert silence(cache) == 1.0


def test_what_is_owed_is_bounded() -> None:
    """Ten thousand debts are no more than a thousand in cache."""
    cache, now = watched()
    for number in range(3 * OWED_MAX):
        cache.watch_health.owe(Kind.LIMIT, f"n{number}", 11, cache.mark())
    assert len(cache.watch_health._owed[Kind.LIMIT]) == OWED_MAX
    now[0] = 2.0
    assert silence(cache) == 2.0


def test_a_cheap_kind_is_listed_whole_and_a_costly_one_looked_at() -> None:
    """A list takes a small part of the time, and is made within half an hour at the latest."""
    schedule = Schedule(0.0)
    assert schedule.due(0.0, {}) == {}
    schedule.want(Kind.LIMIT, 0.0)
    assert schedule.due(0.0, {}) == {Kind.LIMIT: True}
    schedule.listed(Kind.LIMIT, 0.0, 3.0)
    for kind in set(Kind) - {Kind.LIMIT}:
        schedule.listed(kind, 0.0, 0.01)
    now, whole = 3.0, []
    while now < 2 * list_schedule.RELIST_SECONDS:
        now += 1.0
        for kind, is_whole in schedule.due(now, {}).items():
            if is_whole:
                whole.append((kind, now))
                schedule.listed(kind, now - (3.0 if kind is Kind.LIMIT else 0.01), now)
            else:
                schedule.agreed(kind, now)
    assert len([1 for kind, _ in whole if kind is Kind.LIMIT]) in (2, 3)
    assert len([1 for kind, _ in whole if kind is Kind.NODE]) > 2 * list_schedule.RELIST_SECONDS / 16


def test_a_silent_kind_is_listed_at_short_intervals_in_place_of_its_watch() -> None:
    """Every few seconds, or a tenth of the time where a list is long; a failed one after its pause."""
    for took, expected in ((0.01, list_schedule.SILENT_LIST_SECONDS), (3.0, 30.0)):
        schedule = Schedule(0.0)
        schedule.listed(Kind.LIMIT, 0.0, took)
        made, now = [], took
        while now < 200:
            now += 0.25
            if schedule.due(now, {Kind.LIMIT: 30.0}).get(Kind.LIMIT):
                made.append(now)
                schedule.listed(Kind.LIMIT, now - took, now)
        assert all(expected <= b - a <= expected + 1 for a, b in itertools.pairwise(made))
        assert len(made) > 3


@given(st.lists(st.booleans(), max_size=40))
def test_lists_that_fail_are_made_again_after_a_pause(fates: list[bool]) -> None:
    """Never twice within a second, whatever succeeds and fails, silent or not."""
    schedule, now, last = Schedule(0.0), 0.0, -10.0
    schedule.want(Kind.LIMIT, 0.0)
    for works in fates:
        while not schedule.due(now, {Kind.LIMIT: 99.0}).get(Kind.LIMIT):
            now += 0.25
        assert now - last >= 1.0 or last < 0
        last = now
        schedule.listed(Kind.LIMIT, now, now) if works else schedule.failed(Kind.LIMIT, now)
