"""When the next pass is due, and whether it reads the kernel back."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent import pass_schedule
from bandwidth_agent.pass_schedule import PassSchedule

COST_SECONDS = 0.01


def begun(resync_seconds: float | None = None) -> PassSchedule:
    """After a first pass with a read-back, at the second 100."""
    schedule = PassSchedule(100.0, resync_seconds)
    read(schedule, 100.0)
    return schedule


def read(of: PassSchedule, now: float, *, undone: bool = False) -> None:
    of.limits_changed = False
    of.reading(now)
    of.passed(now, now, COST_SECONDS, undone=undone)


def test_the_first_pass_reads_the_kernel() -> None:
    """At once, since nothing is known of it."""
    schedule = PassSchedule(100.0)
    assert schedule.limits_changed
    assert schedule.read_is_due(100.0, None)
    assert schedule.seconds_until_due(100.0, None, polled=False) == 0.0


def test_a_quiet_kernel_is_read_back_now_and_then() -> None:
    """As often as it costs a sixth of a percent of a core, from 10 s to 2 min, or as often as it was asked for."""
    for took, resync, expected in ((0.001, None, 10.0), (0.05, None, 30.0), (5.0, None, 120.0), (5.0, 7.0, 7.0)):
        schedule = PassSchedule(100.0, resync)
        schedule.reading(100.0)
        schedule.passed(100.0, 100.0 + took, took, undone=False)
        assert not schedule.read_is_due(100.0 + took + expected - 0.1, None)
        assert schedule.read_is_due(100.0 + took + expected, None)


def test_a_pass_without_a_reading_puts_no_reading_off() -> None:
    """Limits may change all the time."""
    schedule = begun()
    for second in range(9):
        schedule.passed(101.0 + second, 101.0 + second, None, undone=False)
    assert schedule.read_is_due(110.0, None)


def test_events_in_a_storm_are_spaced() -> None:
    """A few readings follow at once, then one in a while that grows with what a reading costs."""
    for cost, spacing in ((0.001, pass_schedule.READ_BACK_SECONDS), (0.5, 10.0)):
        schedule, now, at = PassSchedule(0.0, 1e6), 0.0, []
        while now < 60.0:
            schedule.want_read()
            if schedule.read_is_due(now, None):
                schedule.reading(now)
                schedule.passed(now, now, cost, undone=False)
                at.append(now)
            now += 0.125
        assert at[: int(pass_schedule.READ_BACKS)] == [0.0, 0.125, 0.25, 0.375, 0.5]
        gaps = [after - before for before, after in itertools.pairwise(at[6:])]
        assert all(abs(gap - spacing) <= 0.125 for gap in gaps), gaps


def test_a_device_that_went_away_waits_for_no_storm() -> None:
    """Its clients get nothing meanwhile."""
    schedule = begun()
    for _ in range(10):
        read(schedule, 100.0)
    schedule.want_read()
    assert not schedule.read_is_due(100.0, None)
    schedule.want_read(urgent=True)
    assert schedule.read_is_due(100.0, None)


def test_work_left_undone_is_done_again_later_and_later() -> None:
    """0.2 s, doubling up to 30 s; the first success ends that."""
    schedule, now, pauses = begun(), 100.0, []
    for _ in range(10):
        read(schedule, now, undone=True)
        pause = 0.0
        while not schedule.read_is_due(now + pause, None):
            pause = round(pause + 0.1, 1)
        pauses.append(pause)
        now += pause
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    read(schedule, now)
    assert not schedule.read_is_due(now + 5.0, None)


def test_what_another_program_undid_is_tried_again_when_it_is_time() -> None:
    """Unless work of our own is left, which is done again sooner or later than that."""
    schedule = begun()
    assert schedule.read_is_due(103.0, 103.0)
    assert not schedule.read_is_due(102.9, 103.0)
    assert schedule.seconds_until_due(100.5, 101.0, polled=False) == 0.5


def test_a_kernel_that_cannot_be_read_is_read_again() -> None:
    """Soon, and what asked for the reading need not ask again."""
    schedule = begun()
    schedule.want_read(urgent=True)
    schedule.unreadable(101.0)
    assert not schedule.read_is_due(101.1, None)
    assert schedule.read_is_due(101.0 + pass_schedule.RETRY_SECONDS, None)


def test_what_no_event_reports_is_looked_at_once_a_second() -> None:
    """However often it is asked."""
    schedule = begun()
    looks = [tick / 10 for tick in range(1000, 1050) if schedule.pulse_is_due(tick / 10)]
    assert looks == [100.0, 101.0, 102.0, 103.0, 104.0]


@given(st.lists(st.sampled_from(("event", "urgent", "undone", "done")), max_size=20), st.booleans())
def test_no_wait_outlasts_a_pulse_and_none_is_negative(happened: list[str], polled: bool) -> None:
    """Whatever happened before; a source without a descriptor is asked twice a second."""
    schedule, now = begun(), 100.0
    for each in happened:
        if each in ("event", "urgent"):
            schedule.want_read(urgent=each == "urgent")
        else:
            read(schedule, now, undone=each == "undone")
        now += 0.3
        most = pass_schedule.POLL_SECONDS if polled else pass_schedule.PULSE_SECONDS
        assert 0.0 <= schedule.seconds_until_due(now, None, polled=polled) <= most
