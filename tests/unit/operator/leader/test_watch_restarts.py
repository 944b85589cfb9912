"""When all watches are begun again, and when another replica had better act."""

from __future__ import annotations

import pytest

from bandwidth_api.kinds import Kind
from bandwidth_operator.leader import watch_restarts
from bandwidth_operator.leader.watch_restarts import CannotFollowError, WatchRestarts


def test_nothing_is_begun_again_while_all_is_well() -> None:
    """However long that lasts."""
    restarts = WatchRestarts()
    assert not any(restarts.due(now, {}, went_back=False) for now in (0.0, 1e6))


def test_a_silent_watch_is_begun_again_now_and_then() -> None:
    """At once, and every half a minute while it stays silent."""
    restarts = WatchRestarts()
    due = [now for now in range(100) if restarts.due(float(now), {Kind.NODE: 21.0}, went_back=False)]
    assert due == [0, 30, 60, 90]


def test_a_server_that_went_back_is_listed_more_often() -> None:
    """Every three seconds while its versions go back; it passes."""
    restarts = WatchRestarts()
    due = [now for now in range(10) if restarts.due(float(now), {}, went_back=True)]
    assert due == [0, 3, 6, 9]


def test_who_cannot_follow_for_long_does_not_act() -> None:
    """The message names the watches that bring nothing."""
    restarts = WatchRestarts()
    silent = {Kind.LIMIT: watch_restarts.GIVE_UP_SECONDS + 1.0, Kind.SLICE: 25.0}
    with pytest.raises(CannotFollowError, match="the watch of limits and slices brings nothing"):
        restarts.due(500.0, silent, went_back=False)
