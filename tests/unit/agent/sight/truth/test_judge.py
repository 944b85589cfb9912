"""Which limits are verified and which bypassed, from what looks show."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from bandwidth_agent.kernel import model
from bandwidth_agent.sight.truth import judge, look
from bandwidth_api.plan import ClassKey

SLOW = ClassKey("slow", "")
OWNERS = {1: SLOW, 2: ClassKey("other", ""), 3: ClassKey("each", "192.0.2.1"), 4: ClassKey("each", "192.0.2.2")}


def passage(
    left: int, through: int, *, seen: int = 40, packets: int = 40, share: float = 1.0, stale: int = 0
) -> look.Passage:
    return look.Passage(seen, packets, left, through, share, stale, "eth0", (4, 1))


PAST, HELD = passage(40_000, 0), passage(40_000, 41_000)


def counted(packets: Mapping[int, int]) -> model.QueueReading:
    classes = {number: model.ClassCounters(0, count, 0, 0, 0, 0, 0) for number, count in packets.items()}
    return model.QueueReading(0.0, {"cbl0": classes}, {})


class Watched:
    """A judge, and looks of a quarter of a second that begin every `apart` seconds."""

    def __init__(self) -> None:
        self.judge = judge.Judge()
        self.judge.owned(OWNERS)
        self.now = 0.0

    def look(self, *passages: look.Passage, number: int = 1, apart: float = 1.1) -> bool:
        """Take these, one look each; whether the class is bypassed then."""
        for each in passages:
            self.judge.note({number: each}, self.now, self.now + 0.25)
            self.now += 0.25 + apart
        return OWNERS[number] in self.judge.bypassed


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_two_looks_a_second_apart_find_a_bypass(watched: Watched) -> None:
    """One is not enough, and what was seen is kept for the message."""
    assert not watched.look(PAST)
    assert watched.judge.in_doubt
    assert watched.look(PAST)
    assert not watched.judge.in_doubt
    assert watched.judge.bypassed[SLOW] == judge.Finding(40, 40_000, 0, "eth0", (4, 1))


def test_two_looks_at_once_are_one(watched: Watched) -> None:
    """What is odd in one moment is no proof in the next."""
    assert not watched.look(PAST, PAST, PAST, PAST, PAST, apart=0.0)
    assert watched.look(PAST)


def test_a_look_that_shows_it_held_ends_the_doubt(watched: Watched) -> None:
    """Twice means twice in a row."""
    assert not watched.look(*(PAST, HELD) * 20)


@pytest.mark.parametrize(
    ("shown", "bypassed"),
    [
        pytest.param(passage(1000, 499), True, id="less than half"),
        pytest.param(passage(1000, 500), False, id="half"),
        pytest.param(passage(1000, 0, packets=31), True, id="few packets add up over looks"),
        pytest.param(passage(90_000, 0, packets=63, seen=1), True, id="one GSO packet a look adds up as well"),
        pytest.param(passage(1000, 0, share=0.01), True, id="the capture was full: at least this has left"),
        pytest.param(passage(1000, 501, share=0.01), False, id="it was full, and much came out"),
        pytest.param(passage(1000, 0, stale=1000), False, id="all of it may have been classified before a change"),
        pytest.param(passage(1000, 0, stale=900), True, id="not all of it can have been"),
    ],
)
def test_a_bypass_must_be_proven(watched: Watched, shown: look.Passage, bypassed: bool) -> None:
    """By what was seen to leave alone, and over a few looks of the same kind."""
    assert watched.look(*[shown] * 9) == bypassed


def test_a_bypass_is_cleared_by_a_look_and_not_by_silence(watched: Watched) -> None:
    """Without packets, with few, and where a capture that was full may hide it, it stays."""
    assert watched.look(PAST, PAST)
    watched.now += 1e5
    assert watched.look(passage(1000, 1000, packets=4, seen=4))
    assert watched.look(passage(40_000, 41_000, share=0.1), apart=1e4)
    assert not watched.look(HELD)


def test_what_is_found_is_doubted_no_more(watched: Watched) -> None:
    """More looks that show the same change nothing, and ask for no other."""
    watched.look(PAST, PAST)
    watched.look(passage(99_000, 0), PAST, PAST)
    assert watched.judge.bypassed[SLOW].left_bytes == 40_000
    assert not watched.judge.in_doubt


def test_what_few_packets_showed_is_forgotten(watched: Watched) -> None:
    """After ten minutes it is no part of a judgement, and neither is an old doubt."""
    few = passage(1000, 0, packets=20, seen=20)
    assert not watched.look(few, few, few, few, few, apart=judge.FORGET_SECONDS + 1)
    assert not watched.judge.in_doubt
    assert not watched.look(PAST, PAST, apart=judge.FORGET_SECONDS + 1)


def test_a_limit_is_verified_by_what_its_class_counts(watched: Watched) -> None:
    """From the first reading on; any class of a limit will do."""
    watched.judge.count(counted({1: 1000, 2: 0, 3: 5, 4: 5, 99: 5}))
    assert watched.judge.verified == frozenset()
    watched.judge.count(counted({1: 1031, 2: 32, 3: 5, 4: 37, 99: 500}))
    assert watched.judge.verified == {"other", "each"}
    assert watched.judge.unverified
    watched.judge.count(counted({1: 1032, 2: 32, 3: 37, 4: 37}))
    assert watched.judge.verified == {"slow", "other", "each"}
    assert not watched.judge.unverified


def test_a_class_that_counts_anew_is_counted_anew(watched: Watched) -> None:
    """Another program made it again."""
    for count in (100, 3, 34):
        watched.judge.count(counted({1: count}))
    assert watched.judge.verified == frozenset()
    watched.judge.count(counted({1: 35}))
    assert watched.judge.verified == {"slow"}


@pytest.mark.parametrize(
    "against",
    [
        pytest.param([passage(1000, 0, packets=5, seen=5)], id="a few packets past it"),
        pytest.param([PAST], id="one look"),
        pytest.param([PAST, PAST], id="bypassed"),
    ],
)
def test_a_limit_is_not_verified_against_what_was_seen(watched: Watched, against: list[look.Passage]) -> None:
    """What its class counts may come from other programs than those that go past it."""
    watched.judge.count(counted({1: 0}))
    watched.look(*against)
    watched.judge.count(counted({1: 5000}))
    assert watched.judge.verified == frozenset()
    watched.look(HELD, HELD)
    watched.judge.count(counted({1: 5001}))
    assert watched.judge.verified == {"slow"}


def test_a_verified_limit_is_not_when_it_is_bypassed(watched: Watched) -> None:
    """And one bypassed class is enough for a limit of several."""
    watched.judge.count(counted(dict.fromkeys(OWNERS, 0)))
    watched.judge.count(counted(dict.fromkeys(OWNERS, 50)))
    assert watched.judge.verified == {"slow", "other", "each"}
    watched.look(PAST, PAST)
    watched.look(PAST, PAST, number=4)
    assert watched.judge.verified == {"other"}


def test_a_class_made_anew_is_seen_anew(watched: Watched) -> None:
    """It is no longer verified and no longer in doubt, but what was bypassed is so until it was seen to hold."""
    watched.judge.count(counted({1: 0, 2: 0}))
    watched.judge.count(counted({1: 50, 2: 50}))
    watched.look(PAST)
    watched.look(PAST, PAST, number=2)
    watched.judge.forget([1, 2])
    assert watched.judge.verified == frozenset()
    assert not watched.judge.in_doubt
    assert [*watched.judge.bypassed] == [OWNERS[2]]
    assert not watched.look(PAST)


def test_a_limit_that_is_gone_is_forgotten(watched: Watched) -> None:
    """With everything that was known of it; a number that another limit has now says nothing about it."""
    watched.judge.count(counted({1: 0, 2: 0}))
    watched.judge.count(counted({1: 50, 2: 50}))
    watched.look(PAST, PAST)
    watched.judge.owned({1: OWNERS[2], 2: SLOW})
    assert watched.judge.verified == frozenset()
    assert [*watched.judge.bypassed] == [SLOW]
    watched.judge.owned({1: OWNERS[2]})
    assert watched.judge.bypassed == {}
    assert not watched.look(passage(1000, 0), number=3)


def test_one_limit_says_nothing_about_another(watched: Watched) -> None:
    """Each class has its own evidence."""
    for shown, number in itertools.product([PAST, PAST], OWNERS):
        watched.look(HELD if number == 2 else shown, number=number)
    assert watched.judge.bypassed.keys() == {OWNERS[1], OWNERS[3], OWNERS[4]}
