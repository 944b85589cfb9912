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


ETH0, ETH1 = look.Scope("eth0"), look.Scope("eth1")
DNS = look.Scope("eth0", 4, 17, 53)


class WithParts(Watched):
    """A judge that is shown parts of class 1 as well."""

    def parts(self, whole: look.Passage, *, times: int = 1, **shown: look.Passage) -> set[look.Scope]:
        """Take so many looks of the same kind; the parts that are bypassed then."""
        scopes = {"eth0": ETH0, "eth1": ETH1, "dns": DNS}
        parts = {scopes[name]: each._replace(interface=scopes[name].interface) for name, each in shown.items()}
        for _ in range(times):
            self.judge.note({1: whole}, self.now, self.now + 0.25, {1: parts})
            self.now += 1.35
        return {finding.scope for finding in self.judge.findings.get(SLOW, ())}


@pytest.fixture
def by_parts() -> WithParts:
    return WithParts()


def test_an_uplink_is_judged_by_itself(by_parts: WithParts) -> None:
    """Beside much that is held by another; few packets of it add up, and the finding names it."""
    few = passage(900, 0, packets=9, seen=9)
    assert by_parts.parts(HELD, times=4, eth0=HELD, eth1=few) == set()
    assert by_parts.judge.in_doubt
    assert by_parts.parts(HELD, times=4, eth0=HELD, eth1=few) == {ETH1}
    assert by_parts.judge.bypassed[SLOW].interface == "eth1"


def test_what_was_found_on_an_uplink_ends_by_packets_of_it(by_parts: WithParts) -> None:
    """What the other holds is no proof; when it is not shaped any more, there is nothing to prove."""
    by_parts.parts(HELD, times=2, eth1=PAST)
    assert by_parts.parts(HELD, times=50, eth0=HELD) == {ETH1}
    assert by_parts.parts(HELD, eth1=HELD) == set()
    by_parts.parts(HELD, times=2, eth1=PAST)
    by_parts.judge.shaped(["eth0", "eth1"])
    assert SLOW in by_parts.judge.bypassed
    by_parts.judge.shaped(["eth0"])
    assert by_parts.judge.bypassed == {}


def test_a_kind_of_packet_that_is_enough_of_itself_is_judged(by_parts: WithParts) -> None:
    """In each of two looks; fewer do not add up."""
    few = passage(3100, 0, packets=31, seen=31)
    assert by_parts.parts(HELD, times=50, dns=few) == set()
    assert by_parts.parts(HELD, dns=PAST) == set()
    assert by_parts.parts(HELD, dns=PAST) == {DNS}
    assert by_parts.parts(HELD, times=50) == {DNS}
    assert by_parts.parts(HELD, dns=HELD) == set()


def test_a_kind_of_packet_is_no_matter_where_the_whole_goes_past(by_parts: WithParts) -> None:
    """One finding says it all, and ends by whatever is held."""
    assert by_parts.parts(PAST, times=5, eth0=PAST, dns=PAST) == {look.WHOLE, ETH0}
    assert by_parts.parts(HELD, eth0=HELD) == set()


def test_the_whole_does_not_end_while_a_part_is_in_doubt(by_parts: WithParts) -> None:
    """Or the limit would be in force for a second in between."""
    by_parts.parts(PAST, times=2, eth0=PAST)
    assert by_parts.parts(HELD, eth0=HELD, dns=PAST) == {look.WHOLE, ETH0}
    assert by_parts.parts(HELD, times=2, eth0=HELD, dns=PAST) == {DNS}


def test_few_kinds_are_followed(by_parts: WithParts) -> None:
    """However many there are; doubts that led to nothing make room after ten minutes."""

    def seen(first: int) -> None:
        for port in range(first, first + 20):
            scope = DNS._replace(port=port)
            by_parts.judge.note({1: HELD}, by_parts.now, by_parts.now + 0.25, {1: {scope: PAST}})

    seen(1)
    by_parts.now += judge.FORGET_SECONDS + 1.0
    assert by_parts.parts(HELD, times=2, dns=PAST) == {DNS}
    seen(100)
    by_parts.now += 1.5
    seen(100)
    assert len(by_parts.judge.findings[SLOW]) == judge.MOST_PARTS


def test_a_limit_with_a_part_in_doubt_is_not_verified(by_parts: WithParts) -> None:
    """Whatever its class counts."""
    by_parts.judge.count(counted({1: 0}))
    by_parts.parts(HELD, dns=PAST)
    by_parts.judge.count(counted({1: 5000}))
    assert by_parts.judge.verified == frozenset()


def test_what_came_out_before_the_look_speaks_for_the_limit(watched: Watched) -> None:
    """But does not prove that it holds."""
    drained = passage(40_000, 0)._replace(earlier_bytes=30_000)
    assert not watched.look(*[drained] * 5)
    assert watched.look(PAST, PAST)
    assert watched.look(*[drained] * 5)


def test_what_is_found_while_our_own_objects_are_missing_is_withdrawn_once(watched: Watched) -> None:
    """A repair explains it; if it is found again soon after, the repair has not helped."""
    for sound, bypassed in ((False, False), (False, True)):
        assert watched.look(PAST, PAST)
        assert watched.judge.unconfirmed
        watched.judge.confirm(watched.now, sound=sound)
        assert not watched.judge.unconfirmed
        assert (SLOW in watched.judge.bypassed) == bypassed
    watched.look(HELD, apart=judge.FORGET_SECONDS)
    watched.look(PAST, PAST)
    watched.judge.confirm(watched.now, sound=False)
    assert watched.judge.bypassed == {}


def test_a_finding_that_was_reported_is_not_withdrawn(watched: Watched) -> None:
    """What is repaired later says nothing about it; packets do."""
    watched.look(PAST, PAST)
    watched.judge.confirm(watched.now, sound=True)
    watched.judge.confirm(watched.now, sound=False)
    assert SLOW in watched.judge.bypassed
