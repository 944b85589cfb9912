"""When looks are made, and that they cost no more than they may."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bandwidth_agent.sight.truth import schedule

CHEAP, DEAR = 0.002, 0.08  # seconds: a few limits, ten thousand of them


def looks(
    planned: schedule.Schedule, until: float, cost: float = CHEAP, *, unverified: bool = False, sign: bool = False
) -> Iterator[float]:
    """Look whenever it is due; the times."""
    now = 0.0
    while (now := max(now, planned.due(now))) < until:
        yield now
        now += schedule.OPEN_SECONDS
        planned.looked(now, cost, unverified=unverified, sign=sign)


@pytest.fixture
def planned() -> schedule.Schedule:
    """A schedule without jitter, that has looked at the start."""
    made = schedule.Schedule(0.0, lambda: 0.5)
    made.looked(0.0, 0.0, unverified=False, sign=False)
    return made


def test_after_a_change_soon_and_again(planned: schedule.Schedule) -> None:
    """After 1, 3 and 10 seconds, and then in a minute."""
    planned.changed(0.0)
    assert list(looks(planned, 80.0)) == pytest.approx([1.0, 3.0, 10.0, 70.25])


def test_changes_without_end_do_not_put_a_look_off(planned: schedule.Schedule) -> None:
    """The first of three looks stays due while more changes follow."""
    for step in range(50):
        planned.changed(step * 0.1)
        assert planned.due(step * 0.1) <= 1.0 or step >= 10
    assert planned.due(5.0) == pytest.approx(5.0)


def test_a_doubt_is_looked_at_a_second_later(planned: schedule.Schedule) -> None:
    """Whatever else is due, and once."""
    planned.doubted(5.0)
    assert list(looks(planned, 50.0)) == pytest.approx([6.1])


@pytest.mark.parametrize(
    ("unverified", "sign", "seconds"),
    [(False, False, 60.0), (False, True, 3.0), (True, False, 2.0), (True, True, 2.0)],
)
def test_how_often_depends_on_what_is_known(
    planned: schedule.Schedule, unverified: bool, sign: bool, seconds: float
) -> None:
    """Often until all limits were seen to hold, then rarely, and less rarely on a node where something looks odd."""
    planned.looked(0.0, 0.0, unverified=unverified, sign=sign)
    times = list(looks(planned, 300.0, unverified=unverified, sign=sign))
    assert times[0] == pytest.approx(seconds)
    assert times[1] - times[0] == pytest.approx(seconds + schedule.OPEN_SECONDS)


def test_nodes_do_not_look_all_at_once() -> None:
    """A tenth sooner or later."""
    for share, expected in ((0.0, 54.0), (1.0, 66.0)):
        made = schedule.Schedule(0.0, lambda share=share: share)  # type: ignore[misc]
        made.looked(0.0, 0.0, unverified=False, sign=False)
        assert made.due(0.0) == pytest.approx(expected)


@pytest.mark.parametrize("cost", [CHEAP, DEAR, 1.0])
def test_looks_cost_a_thousandth_of_a_core(cost: float) -> None:
    """Over an hour, with limits that nobody has seen and others that change each second."""
    made = schedule.Schedule(0.0, lambda: 0.5)
    now, spent = 0.0, 0.0
    while now < 3600.0:
        made.changed(now)
        if made.due(now) <= now:
            spent += cost
            made.looked(now, cost, unverified=True, sign=True)
        now += 1.0
    assert spent <= 3600.0 * schedule.CORE_SHARE + schedule.SAVED_SECONDS + cost


def test_some_is_kept_for_what_is_urgent() -> None:
    """However long limits were not seen, a change is looked at in time, by ten thousand classes too."""
    made = schedule.Schedule(0.0, lambda: 0.5)
    *_, last = looks(made, 3000.0, DEAR, unverified=True)
    made.changed(last + 1.0)
    now = last + 1.0
    for seconds in schedule.AFTER_CHANGE_SECONDS:
        assert made.due(now) == pytest.approx(last + 1.0 + seconds)
        now = made.due(now)
        made.looked(now, DEAR, unverified=True, sign=False)


def test_changes_without_end_pay_for_their_looks() -> None:
    """Half of what their passes take; so a node with much to do is looked at as often as it changes."""
    made = schedule.Schedule(0.0, lambda: 0.5)
    spent = passes = 0.0
    for step in range(6000):
        now = step * 0.25
        made.changed(now, 0.01)
        passes += 0.01
        if made.due(now) <= now:
            spent += 0.02
            made.looked(now, 0.02, unverified=True, sign=True)
    assert spent <= 1500.0 * schedule.CORE_SHARE + schedule.SAVED_SECONDS + schedule.PASS_SHARE * passes + 0.02
    assert spent >= 0.02 * 1000  # nearly one each second


def test_a_doubt_may_overdraw_a_little() -> None:
    """What was saved is spent, and the second look of two comes in time nevertheless; but not for ever."""
    made = schedule.Schedule(0.0, lambda: 0.5)
    made.looked(0.0, schedule.SAVED_SECONDS + 0.1, unverified=True, sign=False)
    made.changed(0.0)
    assert made.due(0.0) == pytest.approx(100.0)
    made.doubted(0.0)
    assert made.due(0.0) == pytest.approx(schedule.DOUBT_SECONDS)
    made.looked(1.1, schedule.KEPT_SECONDS, unverified=True, sign=False)
    made.doubted(1.1)
    assert made.due(1.1) == pytest.approx(100.0, abs=2.0)


def test_a_look_that_failed_is_made_again_later(planned: schedule.Schedule) -> None:
    """And not at once, whatever was urgent."""
    planned.changed(0.0)
    planned.failed(2.0, 0.0)
    assert planned.due(2.0) == pytest.approx(3.0)
    planned.failed(10.5, 0.0)
    assert planned.due(10.5) == pytest.approx(10.5 + schedule.TROUBLE_SECONDS)
