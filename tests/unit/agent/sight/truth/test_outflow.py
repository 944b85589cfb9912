"""What may leave in a look though its class let it out before."""

from __future__ import annotations

from collections.abc import Mapping

from bandwidth_agent.kernel import model
from bandwidth_agent.sight.truth import outflow


def reading(through: int, waiting: int, sent: int, *, root: str = "") -> model.QueueReading:
    """So much came out of class 1, so much waits before eth0, which has sent so much."""
    counters = model.ClassCounters(through, 0, 0, 0, 0, 0, 0)
    classes: Mapping[str, Mapping[int, model.ClassCounters]] = {root or "cbl0": {1: counters}}
    return model.QueueReading(0.0, classes, {"eth0": model.UplinkCounters(sent, waiting)})


def test_where_nothing_waits_nothing_is_from_before() -> None:
    """However much the class has let out."""
    watched = outflow.Outflow()
    for step in range(5):
        earlier = watched.read(reading(step * 1000, 0, step * 1000))
        assert (earlier.of(1), earlier.waiting_bytes) == (0, 0)


def test_a_queue_that_drains_is_followed_to_its_end() -> None:
    """As long as it leaves, what it holds counts as let out; when it is gone, nothing does."""
    watched = outflow.Outflow()
    watched.read(reading(0, 0, 0))
    waiting, sent = 10_000, 1_000
    while waiting:
        earlier = watched.read(reading(11_000, waiting, sent))
        assert (earlier.of(1), earlier.waiting_bytes) == (11_000, 0)
        waiting, sent = waiting - 1_000, sent + 1_000
    assert watched.read(reading(11_000, 0, sent)).of(1) == 0


def test_a_queue_that_stands_hides_a_bypass_only_for_its_length() -> None:
    """What came out before the packets that wait now came there is not counted."""
    watched = outflow.Outflow()
    watched.read(reading(50_000, 5_000, 0))
    assert watched.read(reading(90_000, 5_000, 6_000)).of(1) == 40_000
    assert watched.read(reading(90_000, 5_000, 12_000)).of(1) == 0


def test_what_already_waits_at_the_first_reading_is_of_unknown_age() -> None:
    """It may have come out at any time."""
    watched = outflow.Outflow()
    assert watched.read(reading(0, 700, 0)).waiting_bytes == 700
    assert watched.read(reading(0, 650, 50)).waiting_bytes == 650
    assert watched.read(reading(0, 600, 800)).waiting_bytes == 0
    watched.forget()
    assert watched.read(reading(0, 600, 900)).waiting_bytes == 600


def test_a_device_that_counts_anew_has_sent_nothing_known() -> None:
    """Its queue may be old."""
    watched = outflow.Outflow()
    watched.read(reading(0, 700, 5_000))
    assert watched.read(reading(0, 700, 10)).waiting_bytes == 700


def test_our_own_root_is_no_queue_of_others() -> None:
    """What waits there waits in the classes."""
    assert outflow.Outflow().read(reading(0, 700, 0, root="eth0")).waiting_bytes == 0


def test_few_readings_are_kept() -> None:
    """However slowly a queue drains, the oldest of them is one from which on all is counted."""
    watched = outflow.Outflow()
    watched.read(reading(1_000, 0, 0))
    for step in range(100):
        earlier = watched.read(reading(5_000 + step, 1_000_000 - step, step))
        assert earlier.of(1) == 4_000 + step
    assert len(watched._readings) <= outflow._MOST
