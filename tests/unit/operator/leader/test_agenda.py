"""When the acting replica plans, and when it works out the state of all limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api.kinds import Kind
from bandwidth_operator.election.pauses import RETRY_AFTER_MAX_SECONDS, RETRY_SECONDS
from bandwidth_operator.leader import agenda
from bandwidth_operator.leader.agenda import Agenda

NOTHING: frozenset[Kind] = frozenset()
WALL = 1_800_000_000.0


def begun(*, published: bool = True) -> Agenda:
    """At the second 100 of a term that began there; its nodes have all the time in the world to report."""
    made = Agenda()
    made.begin(100.0, 1e9)
    if published:
        made.note(NOTHING, 100.0, WALL, agents_changed=False)
        made.planned(100.0, None)
        made.published()
        made.evaluation_began()
        made.evaluated(100.0, 100.0, None, settling=False)
    return made


def note(of: Agenda, now: float, *changed: Kind, agents_changed: bool = False) -> None:
    of.note(frozenset(changed), now, WALL + now - 100.0, agents_changed=agents_changed)


def test_a_plan_is_due_as_soon_as_everything_is_listed() -> None:
    """Without any change; and what the nodes report is looked at when it is made."""
    due = begun(published=False)
    assert due.plan_is_due(100.0)
    assert due.wait_seconds(100.0, WALL) == 0.0
    due.planned(100.0, None)
    due.published()
    assert not due.plan_is_due(100.0)
    assert due.evaluation_is_due(100.0 + agenda.EVALUATE_SECONDS)


def test_a_change_is_planned_when_nothing_has_changed_for_a_moment() -> None:
    """What is applied together comes into one plan."""
    due = begun()
    note(due, 101.0, Kind.LIMIT)
    assert not due.plan_is_due(101.0)
    note(due, 101.04, Kind.LIMIT)
    assert not due.plan_is_due(101.06)
    assert due.plan_is_due(101.04 + agenda.QUIET_SECONDS)


@given(st.lists(st.floats(0.001, agenda.QUIET_SECONDS * 0.9), min_size=1, max_size=60))
def test_changes_without_end_do_not_keep_a_plan_from_being_made(pauses: list[float]) -> None:
    """A second after the first of them at the latest."""
    due, now = begun(), 101.0
    for pause in pauses:
        note(due, now, Kind.LIMIT)
        now += pause
        assert due.plan_is_due(now) == (now >= 101.0 + agenda.LONGEST_WAIT_SECONDS)
    assert due.plan_is_due(101.0 + agenda.LONGEST_WAIT_SECONDS)


def test_what_nodes_report_makes_no_plan() -> None:
    """But other nodes that run an agent do: a split limit is divided by their number."""
    due = begun()
    note(due, 101.0, Kind.STATE)
    assert not due.plan_is_due(110.0)
    assert due.evaluation_is_due(101.0 + agenda.EVALUATE_SECONDS)
    note(due, 102.0, Kind.STATE, agents_changed=True)
    assert due.plan_is_due(102.0 + agenda.QUIET_SECONDS)


def test_an_expiry_is_planned_to_the_second() -> None:
    """By the wall clock, and at once when that is set past it."""
    due = begun()
    due.planned(101.0, WALL + 60.0)
    due.published()
    due.evaluation_began()
    note(due, 159.0)
    assert due.wait_seconds(159.5, WALL + 59.5) == 0.5
    assert not due.plan_is_due(159.0)
    note(due, 160.0)
    assert due.plan_is_due(160.0)


def test_a_clock_that_was_set_is_planned_at_once() -> None:
    """Forward or back, whether or not something expires."""
    for step in (-3600.0, 3600.0):
        due = begun()
        due.note(NOTHING, 101.0, WALL + 1.0, agents_changed=False)
        assert not due.plan_is_due(101.0)
        due.note(NOTHING, 102.0, WALL + 2.0 + step, agents_changed=False)
        assert due.plan_is_due(102.0)


def test_failed_writes_are_tried_again_after_pauses_that_grow() -> None:
    """Up to the last one, again and again; a success begins from the first."""
    due, now = begun(published=False), 100.0
    for expected in (*RETRY_SECONDS, RETRY_SECONDS[-1]):
        assert due.plan_is_due(now)
        assert due.failed(now) == expected
        assert not due.plan_is_due(now + expected - 0.01)
        now += expected
    due.published()
    assert due.failed(now) == RETRY_SECONDS[0]


def test_a_server_may_ask_for_a_longer_pause_and_not_for_any() -> None:
    """What it asks for is kept within bounds, and never shortens a pause."""
    assert begun().failed(100.0, 7.0) == 7.0
    assert begun().failed(100.0, 1e9) == RETRY_AFTER_MAX_SECONDS
    assert begun().failed(100.0, 0.0) == RETRY_SECONDS[0]


def test_an_expiry_waits_for_the_pause_after_a_failed_write() -> None:
    """An entry that is over and cannot be taken out of its slice keeps no thread busy."""
    due = begun()
    due.planned(101.0, WALL + 5.0)
    due.evaluation_began()
    due.failed(106.0, 20.0)
    note(due, 107.0)
    assert not due.plan_is_due(107.0)
    assert due.wait_seconds(107.0, WALL + 7.0) == agenda.TURN_SECONDS


def test_evaluation_takes_a_fifth_of_the_time() -> None:
    """However often something changes: after one that took a second comes a pause of nearly four."""
    due = begun()
    due.evaluation_began()
    due.evaluated(100.0, 101.0, None, settling=False)
    note(due, 101.0, Kind.STATE)
    assert not due.evaluation_is_due(104.8)
    assert due.evaluation_is_due(105.0)


def test_a_node_that_stops_reporting_is_noticed_without_any_event() -> None:
    """When it counts as silent, and once."""
    due = begun()
    due.evaluation_began()
    due.evaluated(100.0, 100.0, 130.0, settling=False)
    note(due, 130.0)
    assert not due.evaluation_is_due(131.0)
    note(due, 131.0)
    assert due.evaluation_is_due(131.0 + agenda.EVALUATE_SECONDS)
    due.evaluation_began()
    note(due, 140.0)
    assert not due.evaluation_is_due(1000.0)


def test_nodes_have_time_to_report_before_the_plan_counts_on_them() -> None:
    """The longer, the more slowly they report; then the plan is made again, and once."""
    due = Agenda()
    due.begin(100.0, 50.0)
    due.published()
    note(due, 100.0 + agenda.SETTLE_SECONDS + 49.0)
    assert not due.settled
    now = 100.0 + agenda.SETTLE_SECONDS + 51.0
    note(due, now)
    assert due.settled
    assert due.plan_is_due(now + agenda.QUIET_SECONDS)
    due.published()
    note(due, now + 1.0)
    assert not due.plan_is_due(now + 100.0)


def test_while_nodes_settle_they_are_looked_at_every_second() -> None:
    """Without any event."""
    due = begun()
    due.evaluation_began()
    due.evaluated(100.0, 100.1, None, settling=True)
    assert not due.evaluation_is_due(100.9)
    assert due.evaluation_is_due(100.0 + agenda.TURN_SECONDS + 4 * 0.1)


@given(st.floats(0.0, 1e6), st.none() | st.floats(0.0, 1e6))
def test_no_wait_is_longer_than_a_turn(now: float, expires: float | None) -> None:
    """The thread gives a sign of life every second, whatever is due."""
    due = begun()
    due.planned(now, expires)
    assert 0.0 <= due.wait_seconds(now, now) <= agenda.TURN_SECONDS
