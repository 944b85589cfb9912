"""When repairing has become a fight: the ledger of repairs, with the clock in the test's hands."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.planner import conflicts

CHAIN, SET = objects.chain_object(4), objects.Object("set", "cbl-v4")


class History:
    """One object that another program changes, and what the ledger makes of it."""

    def __init__(self) -> None:
        self.ledger = conflicts.RepairRecords()
        self.now = 1000.0

    def undone(self, after_seconds: float) -> bool:
        """Another program changes the object so long after the last repair; returns whether it is repaired again."""
        self.now += after_seconds
        self.ledger.changed([CHAIN], self.now)
        return self.tried()

    def tried(self) -> bool:
        if CHAIN in self.ledger.abandoned(self.now):
            return False
        self.ledger.repaired([CHAIN], self.now)
        return True

    def fight(self) -> None:
        """Undo each repair at once until the object is given up."""
        while self.undone(0.1):
            pass


@pytest.mark.parametrize("held", [conflicts.HOLDS_SECONDS, 10.0, 150.0, 3600.0])
def test_repairs_that_hold_are_made_for_ever(held: float) -> None:
    """No number of reloads is a fight, where each repair holds for seconds."""
    history = History()
    assert all(history.undone(held) for _ in range(1000))


@pytest.mark.parametrize("held", [0.0, 0.05, 1.0, 1.9])
def test_a_program_that_undoes_at_once_is_given_up(held: float) -> None:
    """The first repair and seven more are made; the eighth that does not hold is the last for now."""
    history = History()
    assert [history.undone(held) for _ in range(9)] == [True] * 8 + [False]
    assert history.ledger.abandoned(history.now) == {CHAIN}


def test_a_reload_that_undoes_several_times_is_no_fight() -> None:
    """A script that flushes in eight steps, again and again with a pause, meets a repair after each step."""
    history = History()
    for _ in range(20):
        assert history.undone(30.0)
        assert all(history.undone(0.2) for _ in range(7))


def test_what_was_given_up_is_tried_again_later_and_later() -> None:
    """Two seconds at first, twice as long after each trial that does not hold, half a minute at most."""
    history, pauses = History(), []
    history.fight()
    for _ in range(8):
        trial = history.ledger.next_trial([CHAIN])
        assert trial is not None
        pauses.append(trial - history.now)
        assert not history.undone(pauses[-1] / 2), "it is left alone until then"
        history.now = trial
        assert history.tried()
        assert not history.undone(0.1)
    assert pauses == pytest.approx([2, 4, 8, 16, 30, 30, 30, 30])


def test_a_trial_that_holds_ends_the_fight() -> None:
    """Once a repair has held, the object has as many attempts as one that was never fought over."""
    history = History()
    history.fight()
    history.now += conflicts.PAUSE_SECONDS
    assert history.tried()
    assert [history.undone(seconds) for seconds in (conflicts.HOLDS_SECONDS, *[0] * 8)] == [True] * 8 + [False]


def test_each_object_has_its_own_history() -> None:
    """A fight about one does not keep another from being repaired."""
    history = History()
    history.fight()
    history.ledger.changed([SET], history.now)
    assert history.ledger.abandoned(history.now) == {CHAIN}
    assert history.ledger.next_trial([SET]) is None


def test_a_place_that_was_cleared_is_left_for_a_second() -> None:
    """Whoever took the place of ours away has a second to put something there; longer it is not left."""
    room, hook, now = conflicts.Room(), objects.Object("hook", "eth0"), 50.0
    assert room.next_end is None
    room.cleared([hook], now)
    room.cleared([hook], now + 0.9)
    assert room.left(now + 0.9) == {hook}
    assert room.next_end == now + conflicts.ROOM_SECONDS
    assert room.left(now + conflicts.ROOM_SECONDS) == frozenset()
    assert room.next_end is None
