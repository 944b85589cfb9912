"""Which statuses are due, and that a limit whose status is refused costs no other anything."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api.conditions import Problem, Reason
from bandwidth_operator.cache import objects
from bandwidth_operator.status import limit_status, status_queue
from bandwidth_operator.status.rollup import Held, Outcome
from bandwidth_operator.status.status_queue import StatusQueue
from unit.operator import examples

REFUSED = Outcome(rejected=(Problem(Reason.INVALID, "no"),))
PENDING = Outcome(published=True, desired=2)
READY = Outcome(published=True, desired=2, programmed=2)


def queue_of(*names: str, outcome: Outcome = READY) -> tuple[StatusQueue, dict[str, objects.Limit]]:
    queue, found = StatusQueue(), {name: examples.limit(name) for name in names}
    for each in found.values():
        queue.update(outcome, each, 0.0)
    return queue, found


def test_each_limit_is_due_once_in_the_order_of_its_coming() -> None:
    """However often it is updated; and not again before it was brought to its end."""
    queue, found = queue_of("b", "a", "c")
    for each in found.values():
        queue.update(PENDING, each, 0.0)
        queue.update(READY, each, 0.0)
    assert [queue.take(0.0) for _ in range(4)] == ["b", "a", "c", None]
    queue.update(PENDING, found["a"], 0.0)
    assert queue.next_at() is None
    queue.unchanged("a", 0.0)
    assert queue.next_at() == status_queue.PENDING_SECONDS


def test_a_status_that_only_says_not_yet_waits_and_good_news_does_not() -> None:
    """After a write too, unless the limit was edited."""
    queue, found = queue_of("a", outcome=PENDING)
    assert queue.take(0.9) is None
    queue.update(READY, found["a"], 0.9)
    assert queue.take(0.9) == "a"
    queue.written(found["a"], found["a"], 1.0)
    failing = READY._replace(programmed=1, failed=1)
    queue.update(failing, found["a"], 1.1)
    assert queue.next_at() == 1.0 + status_queue.AGAIN_SECONDS
    queue.update(failing, examples.limit("a", generation=2), 1.2)
    assert queue.take(1.2) == "a"


def test_one_more_node_where_a_limit_was_verified_waits() -> None:
    """The first one and everything else is written as ever: only the number of nodes is, at most once in a minute."""
    queue, found = queue_of("a", outcome=READY._replace(entry=examples.entry("a")))
    doubt = Problem(Reason.UNVERIFIED, "packets may leave n0 past its class", name="n0")
    now = 0.0

    def write(outcome: Outcome) -> float:
        """The time from an outcome to the write of its status."""
        nonlocal now
        queue.update(outcome, found["a"], now)
        at = queue.next_at()
        assert at is not None
        assert queue.take(at) == "a"
        status = limit_status.status(outcome, found["a"], examples.NOW)
        written = dataclasses.replace(found["a"], status=status)
        queue.written(found["a"], written, at)
        found["a"] = written
        waited, now = at - now, at
        return waited

    unverified = READY._replace(entry=examples.entry("a"), verified=Held(), doubt=doubt)
    assert write(unverified) == 0.0
    verified = unverified._replace(verified=Held(1, ("n0",)), doubt=None)
    assert write(verified) == 0.0
    more = verified._replace(verified=Held(2, ("n0", "n1")))
    assert write(more) == status_queue.VERIFIED_SECONDS
    bypassed = Problem(Reason.BYPASSED, "gone past", name="n1")
    worse = more._replace(programmed=1, failed=1, bypassed=1, failing=(bypassed,))
    assert write(worse) == status_queue.AGAIN_SECONDS
    assert write(more) == 0.0


def test_a_refusal_costs_that_limit_a_growing_pause() -> None:
    """Up to ten minutes; other outcomes do not shorten it, an edit does, and success ends it."""
    queue, found = queue_of("a")
    now, pauses = 0.0, []
    for number in range(10):
        assert queue.take(now) == "a"
        pauses.append(queue.failed("a", now, lasting=True))
        queue.update(READY._replace(agents=number), found["a"], now)
        assert queue.take(now + pauses[-1] - 0.01) is None
        now += pauses[-1]
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    edited = examples.limit("a", generation=2)
    queue.update(READY, edited, now - 300)
    assert queue.take(now - 299) == "a"
    queue.written(edited, edited, now)
    queue.update(READY._replace(agents=99), edited, now)
    assert queue.take(now) == "a"


def test_a_hundred_refused_limits_hold_no_other_back() -> None:
    """Of the writes under way few are such that failed before, so slow refusals leave the other threads free."""
    names = [f"refused-{number}" for number in range(100)]
    queue, _ = queue_of(*names)
    for _ in names:
        name = queue.take(0.0)
        assert name is not None
        queue.failed(name, 0.0, lasting=True)
    queue.update(READY, examples.limit("honest"), 5.0)
    under_way = [queue.take(6.0) for _ in range(8)]
    assert len([name for name in under_way if name and name != "honest"]) == status_queue.SUSPECTS_AT_ONCE
    assert "honest" in under_way


def test_trouble_of_everybody_is_a_pause_of_everybody() -> None:
    """Three limits in a row that fail by what will pass: the server is away, and it is not asked in a loop."""
    queue, found = queue_of("a", "b", "c", "d")
    for name in ("a", "b"):
        assert queue.take(0.0) == name
        queue.failed(name, 0.0, lasting=False)
    assert queue.take(0.0) == "c"
    queue.failed("c", 0.0, lasting=False)
    assert queue.take(0.1) is None
    assert queue.take(0.2) == "d"
    queue.written(found["d"], found["d"], 0.2)
    assert queue.take(0.5) == "a"


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("seconds", [0.02, 3.0])
def test_a_thousand_limits_that_cannot_be_written_are_no_queue_in_front_of_another(
    seconds: float, lasting: bool
) -> None:
    """A webhook that is slow or fails for each of them: the status of one that came later waits a few writes long."""
    queue, _ = queue_of(*(f"failing-{number}" for number in range(1000)))
    now, under_way = 0.0, [name for _ in range(8) if (name := queue.take(0.0))]
    queue.update(READY, examples.limit("honest"), 0.0)
    while "honest" not in under_way:
        now += seconds
        for name in under_way:
            queue.failed(name, now, lasting=lasting)
        now = max(now, queue.next_at() or now)
        under_way = [name for _ in range(8) if (name := queue.take(now))]
    assert now <= 2 * seconds + 2.0


def test_a_limit_that_could_be_written_before_goes_first_while_others_fail() -> None:
    """Whether this process wrote its status or one before it; however many wait that came before and after it."""
    names = [f"failing-{number}" for number in range(20)]
    queue, _ = queue_of(*names[:10])
    written = dataclasses.replace(examples.limit("written"), status={"conditions": []})
    queue.update(READY, written, 0.0)
    for name in names[10:]:
        queue.update(READY, examples.limit(name), 0.0)
    for name in names[:3]:
        assert queue.take(0.0) == name
        queue.failed(name, 0.0, lasting=True)
    assert [queue.take(0.0) for _ in range(3)] == ["written", names[19], names[3]]


def test_what_is_known_to_be_one_limits_own_trouble_is_no_pause_of_everybody() -> None:
    """A webhook that answers with an error of the server: the others go on at once."""
    queue, _ = queue_of(*(f"failing-{number}" for number in range(10)), "honest")
    for _ in range(10):
        name = queue.take(0.0)
        assert name is not None
        if name != "honest":
            queue.failed(name, 0.0, lasting=False, own=True)
    assert queue.take(0.0) is not None


def test_a_limit_that_is_another_each_time_is_not_written_in_a_loop() -> None:
    """Something that changes each status after we wrote it costs a pause that grows, and does not slow others."""
    queue, found = queue_of("a", "b")
    assert queue.take(0.0) == "a"
    queue.changed("a", 0.0)
    assert queue.take(0.0) == "b"
    queue.written(found["b"], found["b"], 0.0)
    now = 0.0
    for number in range(12):
        at = queue.next_at()
        assert at is not None
        assert at - now >= min(0.1 * 2**number, 30.0) - 1e-6
        now = at
        assert queue.take(now) == "a"
        queue.changed("a", now)


@given(st.data())
def test_nothing_is_lost_and_nothing_is_under_way_twice(data: st.DataObject) -> None:
    """Whatever comes in whatever order: each limit is written at last, one write of it at a time."""
    queue, now = StatusQueue(), 0.0
    limits = {name: examples.limit(name) for name in "abcd"}
    under_way: set[str] = set()
    for _ in range(data.draw(st.integers(1, 30))):
        now += data.draw(st.floats(0, 3))
        step = data.draw(st.sampled_from(["update", "take", "end"]))
        if step == "update":
            outcome = data.draw(st.sampled_from([READY, PENDING, REFUSED]))
            queue.update(outcome, limits[data.draw(st.sampled_from("abcd"))], now)
        elif step == "take":
            name = queue.take(now)
            assert name not in under_way
            under_way |= {name} - {None}  # type: ignore[arg-type]
        elif under_way:
            name = data.draw(st.sampled_from(sorted(under_way)))
            under_way.remove(name)
            match data.draw(st.sampled_from(["written", "failed", "lasting", "changed"])):
                case "written":
                    queue.written(limits[name], limits[name], now)
                case "changed":
                    queue.changed(name, now)
                case how:
                    queue.failed(name, now, lasting=how == "lasting")
    for name in sorted(under_way):
        queue.unchanged(name, now)
    while (at := queue.next_at()) is not None:
        now = max(now, at)
        taken = queue.take(now)
        assert taken is not None
        queue.written(limits[taken], limits[taken], now)
    assert len(queue) == 0
