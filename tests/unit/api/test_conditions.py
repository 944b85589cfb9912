"""Conditions: how they are merged into a status."""

from __future__ import annotations

import datetime

import pytest

from bandwidth_api.conditions import Condition, ConditionType, Problem, Reason, Status, merge

MORNING = datetime.datetime(2030, 1, 1, 8, 0, 0, 999999, tzinfo=datetime.UTC)
EVENING = datetime.datetime(2030, 1, 1, 20, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
READY = Condition(ConditionType.READY, Status.TRUE, Reason.READY, "in force")
NOT_READY = Condition(ConditionType.READY, Status.FALSE, Reason.KERNEL_REFUSED, "no")


def test_a_new_condition_is_dated_now() -> None:
    """The first statement about something carries the time of this write, in UTC and whole seconds."""
    (written,) = merge([], [READY], observed_generation=3, now=MORNING)
    assert written == {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 3,
        "lastTransitionTime": "2030-01-01T08:00:00Z",
        "reason": "Ready",
        "message": "in force",
    }


def test_time_moves_only_with_the_status() -> None:
    """Another reason or message leaves the time of the last transition; another status moves it."""
    before = merge([], [READY], observed_generation=1, now=MORNING)
    (same,) = merge(before, [READY._replace(message="still in force")], observed_generation=2, now=EVENING)
    assert (same["lastTransitionTime"], same["message"]) == ("2030-01-01T08:00:00Z", "still in force")
    assert same["observedGeneration"] == 2
    (changed,) = merge(before, [NOT_READY], observed_generation=2, now=EVENING)
    assert changed["lastTransitionTime"] == "2030-01-01T18:00:00Z"


def test_a_second_merge_changes_nothing() -> None:
    """What was written and is said again is written as it was, whatever the time."""
    before = merge([], [READY], observed_generation=1, now=MORNING)
    assert merge(before, [READY], observed_generation=1, now=EVENING) == before


def test_other_conditions_stay() -> None:
    """Conditions of types that are not spoken of stay as and where they were; new types come behind."""
    other = {"type": "Reviewed", "status": "True"}
    merged = merge([other, {"type": "Ready", "status": "True"}], [NOT_READY], observed_generation=1, now=MORNING)
    assert merged[0] == other
    assert [condition["type"] for condition in merged] == ["Reviewed", "Ready"]
    accepted = Condition(ConditionType.ACCEPTED, Status.TRUE, Reason.ACCEPTED)
    assert [c["type"] for c in merge([other], [accepted], observed_generation=1, now=MORNING)] == [
        "Reviewed",
        "Accepted",
    ]


def test_messages_are_cut_to_what_kubernetes_takes() -> None:
    """A message longer than the CRD allows does not make the status unwritable."""
    (written,) = merge([], [READY._replace(message="x" * 40_000)], observed_generation=1, now=MORNING)
    assert len(str(written["message"])) == 32768


def test_a_time_without_a_zone_is_a_bug() -> None:
    """Local times never reach a status."""
    with pytest.raises(ValueError, match="time zone"):
        merge([], [READY], observed_generation=1, now=datetime.datetime(2030, 1, 1))  # noqa: DTZ001


def test_problems_read_as_field_and_message() -> None:
    """The text of a problem names its field, if it has one."""
    assert str(Problem(Reason.INVALID, "must be on", "spec.mode")) == "spec.mode: must be on"
    assert str(Problem(Reason.INVALID, "must be an object")) == "must be an object"


def test_a_reason_of_a_newer_program_keeps_its_text() -> None:
    """It is a reason like any other, but not known; what this version knows is the same object again."""
    reason = Reason("OfTheFuture")
    assert (reason, reason.value, f"{reason}", reason.known) == ("OfTheFuture", "OfTheFuture", "OfTheFuture", False)
    assert reason == Reason("OfTheFuture")
    assert len({reason, Reason("OfTheFuture"), Reason("")}) == 2
    assert Reason("Invalid") is Reason.INVALID
    assert all(each.known for each in Reason)
    with pytest.raises(ValueError, match="7"):
        Reason(7)
