"""Events: what is told of changes, and how many of them one author of limits can cause."""

from __future__ import annotations

import pytest

from bandwidth_operator.status import events
from bandwidth_operator.status.events import Correlator, Occurrence
from unit.operator import examples

A = events.about(examples.limit("a"))


def told(correlator: Correlator, occurrence: Occurrence, now: float, about: events.Subject = A) -> events.Post | None:
    """What would be written of it, and was."""
    post = correlator.correlate(about, occurrence, now)
    if post is not None:
        correlator.written(post, post.before.name if post.before is not None else f"event-{now}")
    return post


@pytest.mark.parametrize(
    ("status", "reason", "warning"),
    [
        ("True", "Ready", False),
        ("Unknown", "Unverified", False),
        ("False", "Bypassed", True),
        ("Unknown", "Pending", None),
    ],
)
def test_what_becomes_of_a_limit_is_told(status: str, reason: str, warning: bool | None) -> None:
    """A change of Ready: a warning where something is wrong, not while it is only unknown; not another message."""
    before = [{"type": "Ready", "status": "True", "reason": "Other", "message": "m"}]
    after = [{"type": "Ready", "status": status, "reason": reason, "message": "n"}]
    expected = [] if warning is None else [Occurrence(warning, reason, "n")]
    assert list(events.between(before, after)) == expected
    assert list(events.between(after, [after[0] | {"message": "2 nodes"}])) == []


def test_the_same_event_again_is_counted() -> None:
    """It is the first one whose count grows."""
    correlator, ready = Correlator(), Occurrence(False, "Ready", "in force on all 2 nodes")
    first = told(correlator, ready, 1.0)
    assert first == ((*first.key,), "in force on all 2 nodes", None)  # type: ignore[misc, union-attr]
    for number in range(2, 6):
        again = told(correlator, ready, float(number))
        assert again is not None
        assert again.before == ("event-1.0", number - 1)
    other = told(correlator, Occurrence(True, "Disabled", "off"), 7.0)
    assert other is not None
    assert other.before is None


def test_an_event_that_is_gone_is_made_again() -> None:
    """The API server keeps events for an hour."""
    correlator, ready = Correlator(), Occurrence(False, "Ready", "m")
    told(correlator, ready, 1.0)
    post = correlator.correlate(A, ready, 2.0)
    assert post is not None
    correlator.gone(post)
    assert correlator.correlate(A, ready, 3.0) == post._replace(before=None)


def test_ten_similar_ones_within_ten_minutes_are_combined() -> None:
    """From the tenth message on one event stands for all of them, as long as they come."""
    correlator = Correlator()
    posts = [told(correlator, Occurrence(True, "Invalid", f"message {n}"), float(n)) for n in range(14)]
    combined = [p for p in posts if p is not None and p.message.startswith("(combined from similar events): ")]
    assert [p.message[-2:].strip() for p in combined] == ["9", "10", "11", "12", "13"]
    assert [p.before for p in combined] == [None, *(("event-9.0", n) for n in range(1, 5))]
    later = told(correlator, Occurrence(True, "Invalid", "message 99"), 14.0 + events.SIMILAR_SECONDS)
    assert later is not None
    assert later.message == "message 99"


def test_of_one_limit_25_are_written_and_then_one_in_five_minutes() -> None:
    """Counted ones too; other limits are not concerned, and one of the same name made again is another."""
    correlator = Correlator()
    written = [now for now in range(7200) if told(correlator, Occurrence(now % 2 == 0, "R", "m"), float(now))]
    assert len([now for now in written if now < 290]) == 25
    assert len([now for now in written if 3600 <= now < 7200]) == 12
    assert told(correlator, Occurrence(False, "R", "m"), 7200.0, events.about(examples.limit("b"))) is not None


def test_what_is_remembered_is_bounded() -> None:
    """Ten thousand limits with events of all kinds take the memory of four thousand."""
    correlator = Correlator()
    for number in range(10_000):
        told(correlator, Occurrence(False, "Ready", "m"), 1.0, events.about(examples.limit(f"n{number}")))
    held = (correlator._similar, correlator._written, correlator._tokens)
    assert [len(each) for each in held] == [events.REMEMBERED_MAX] * 3
