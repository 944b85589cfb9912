"""The state machine of one client: the table of its decisions, against load shapes and clocks."""

from __future__ import annotations

import random

import pytest

from bandwidth_api.policy import books, memory
from bandwidth_api.policy.decision import What
from unit.api.policy import scenes
from unit.api.policy.scenes import Demand, World

GREEDY = "203.0.113.7"
HOURS = 7200


def noise(seed: int = 1) -> Demand:
    source = random.Random(seed)
    drawn = [47 + source.gauss(0, 12) for _ in range(HOURS)]
    return lambda second: drawn[second]


SHAPES: dict[str, Demand] = {
    "loop": lambda _: 47,
    "noisy": noise(),
    "bursts": lambda second: 60 if second % 120 < 40 else 2,
    "download": lambda second: 90 if 100 <= second < 145 else 1,
    "fast download": lambda second: 950 if 100 <= second < 145 else 1,
    "stops": lambda second: 47 if second < 1200 else 1,
}
ENDS_SOON = {"download": 900, "fast download": 900, "stops": 1800}  # after so many seconds all is said
# Decisions within two hours, and seconds for which a client got more than the threshold, at most.
TABLE = {
    60: {
        "loop": (3, 60),
        "noisy": (3, 45),
        "bursts": (5, 130),
        "download": (2, 31),
        "fast download": (2, 31),
        "stops": (3, 60),
    },
    300: {
        "loop": (3, 300),
        "noisy": (3, 230),
        "bursts": (0, 2400),
        "download": (0, 45),
        "fast download": (0, 45),
        "stops": (3, 300),
    },
}


@pytest.mark.parametrize(("window", "shape"), [(window, shape) for window in TABLE for shape in SHAPES])
def test_few_decisions_for_each_shape_of_load(window: int, shape: str) -> None:
    """A client that goes on is never let go in between, and what ends soon passes a long window at any speed."""
    every = 2 if window == 60 else 5
    world = World([scenes.policy(when__rate__forSeconds=window)], {GREEDY: SHAPES[shape]}, report_seconds=every)
    world.run(ENDS_SOON.get(shape, HOURS))
    decisions, most = TABLE[window][shape]
    assert len(world.decisions) == decisions, world.decisions
    assert sum(rate > 40 for rate in world.sent_mbits[GREEDY]) <= most


@pytest.mark.parametrize(
    ("window", "demand"),
    [
        (60, lambda second: 90 if second % 20 < 10 else 4),
        (60, lambda second: 450 if second % 10 == 0 else 0),
        (300, lambda second: 150 if second % 30 < 10 else 0),
        (300, lambda second: 2400 if second % 50 == 0 else 0),
    ],
)
def test_bursts_that_come_again_count_in_full(window: int, demand: Demand) -> None:
    """It is the mean that counts, and all these have one that is above the threshold."""
    every = 2 if window == 60 else 5
    world = World([scenes.policy(when__rate__forSeconds=window)], {GREEDY: demand}, report_seconds=every)
    world.run(window + 60)
    assert world.whats()[:1] == ["Limited"]


@pytest.mark.parametrize("mbits", [100, 1000, 100_000])
@pytest.mark.parametrize("begins", range(500, 560, 7))
def test_what_is_over_in_a_third_of_the_window_is_nothing(mbits: int, begins: int) -> None:
    """However much it is, wherever the parts of the window begin."""
    world = World(
        [scenes.policy(when__rate__forSeconds=300)],
        {GREEDY: lambda second: mbits if begins <= second < begins + 88 else 0},
        report_seconds=5,
    )
    world.run(900)
    assert not world.decisions


@pytest.mark.parametrize("seconds", [5, 7])
def test_a_short_window_waits_for_no_longer_one(seconds: int) -> None:
    """A client just above the threshold is limited when its window is full."""
    world = World([scenes.policy(when__rate__forSeconds=seconds)], {GREEDY: lambda second: 42 if second > 100 else 0})
    world.run(101 + seconds + 2)
    assert world.whats() == ["Limited"]


def test_the_reason_keeps_the_figures_of_the_beginning() -> None:
    """Through steps, an edit and a restart."""
    world = World([scenes.policy()], {GREEDY: lambda _: 47})

    def reason() -> str:
        (limit,) = world.made.values()
        return limit.spec.reason or ""

    world.run(100)
    begun = reason().partition("step 1 of 3: ")[2]
    assert begun.startswith("more than 40 Mbit over 60 s")
    world.run(600)
    assert reason() == f"policy fair, step 2 of 3: {world.decisions[-1][1].why}; at first: {begun}"
    world.restart()
    world.run(10)
    world.policies = [scenes.policy(generation=2, then__steps=[{"rate": "2Mbit", "ttlSeconds": 3600}])]
    world.run(10)
    assert reason() == f"policy fair, step 1 of 1: the policy was edited; at first: {begun}"
    assert world.whats() == ["Limited", "Stepped", "Adjusted"]


def test_steps_follow_without_a_gap() -> None:
    """Three steps, each before the last one ends: from the first on no second is faster than its step."""
    world = World([scenes.policy()], {GREEDY: SHAPES["loop"]})
    world.run(HOURS)
    assert world.whats() == ["Limited", "Stepped", "Stepped"]
    first = world.decisions[0][0]
    assert max(world.sent_mbits[GREEDY][first:]) <= 20
    for (_, before), (second, after) in zip(world.decisions, world.decisions[1:], strict=False):
        assert after.at <= before.expires_at
        assert after.limit == before.limit
        assert max(world.sent_mbits[GREEDY][second:]) <= after.rate_bits_per_second / 1e6


@pytest.mark.parametrize("seconds", [60, 300])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_limited_within_the_window_and_lifted_in_time(seconds: int, every: int) -> None:
    """At most two seconds after the window is full, and two after the time to be lifted is over; not before that."""
    world = World(
        [scenes.policy(when__rate__forSeconds=seconds, lift__forSeconds=120)],
        {GREEDY: lambda second: 47 if second < 400 else 0},
        report_seconds=every,
    )
    world.run(800)
    (limited, one), (lifted, other) = world.decisions
    assert (one.what, other.what) == (What.LIMITED, What.LIFTED)
    assert limited <= seconds + 2
    assert 400 + 120 - every <= lifted <= 400 + 120 + max(2, every)


def test_little_is_not_enough_to_be_lifted_when_it_is_short() -> None:
    """A pause shorter than the time to be lifted lifts nothing, and one packet in a long pause prevents nothing."""
    world = World(
        [scenes.policy(lift__forSeconds=120)],
        {GREEDY: lambda second: 47 if second < 200 or 310 <= second < 330 or second == 400 else 0},
    )
    world.run(700)
    assert world.whats() == ["Limited", "Lifted"]
    assert 330 + 120 <= world.decisions[1][0] <= 330 + 122


def test_zero_per_cent_never_lifts() -> None:
    """With 0 the time of the step is what ends it."""
    world = World(
        [scenes.policy(lift={"whenBelowPercent": 0, "forSeconds": 30})],
        {GREEDY: lambda second: 47 if second < 100 else 0},
    )
    world.run(900)
    assert world.whats() == ["Limited", "Expired"]
    assert world.decisions[1][1].expires_at == pytest.approx(world.decisions[0][1].at + 600)


@pytest.mark.parametrize(("counted", "what"), [(True, "Stepped"), (False, "Expired")])
def test_a_flow_that_is_slow_under_its_limit_presses_if_its_class_says_so(counted: bool, what: str) -> None:
    """TCP at 70 % of its limit whose packets are held back presses; without that count nobody could say so."""
    world = World([scenes.policy()], {GREEDY: lambda second: 47}, names_over_limits=counted)
    world.rate = lambda text, plain=world.rate: plain(text) * (0.7 if world.made else 1.0)  # type: ignore[method-assign,misc]
    world.run(700)
    assert world.whats()[:2] == ["Limited", what]


def test_memory_leads_to_the_next_step() -> None:
    """Who comes back within the memory begins at the next step, and after it at the first."""
    for seconds, step in ((86400, 2), (500, 1)):
        world = World(
            [scenes.policy(then__memorySeconds=seconds)],
            {GREEDY: lambda second: 47 if second < 200 or second > 1500 else 0},
        )
        world.run(1700)
        assert world.whats() == ["Limited", "Lifted", "Limited"]
        assert world.decisions[2][1].step == step


def test_the_last_step_comes_again() -> None:
    """A client that presses for ever stays in the last step, a new decision each time."""
    world = World([scenes.policy(then__steps=[{"rate": "20Mbit", "ttlSeconds": 60}])], {GREEDY: lambda _: 47})
    world.run(400)
    assert world.whats() == ["Limited"] + ["Stepped"] * (len(world.decisions) - 1)
    assert len(world.decisions) > 4
    assert {decision.step for _, decision in world.decisions} == {1}


def test_deleted_by_a_person_is_pardoned() -> None:
    """It is not limited again until the memory is over, and the reason is told once."""
    world = World([scenes.policy(then__memorySeconds=900)], {GREEDY: lambda _: 47})
    world.run(100)
    deleted_at = world.second
    world.made.clear()
    world.run(1200)
    assert world.whats() == ["Limited", "Pardoned", "Blocked", "Limited"]
    assert scenes.block(world.decisions[2][1]) == "Pardoned"
    assert world.decisions[3][0] >= deleted_at + 900
    assert world.decisions[3][1].step == 1


def test_a_pardon_lasts_as_long_as_the_limit_would_have() -> None:
    """Also where nothing is remembered."""
    world = World([scenes.policy(then__memorySeconds=0)], {GREEDY: lambda _: 47})
    world.run(100)
    end = world.decisions[0][1].expires_at
    world.made.clear()
    world.run(700)
    assert world.whats() == ["Limited", "Pardoned", "Blocked", "Limited"]
    assert world.decisions[3][1].at >= end


# ── clocks, silence, restarts ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seconds", [-86400, -3600, -10])
def test_a_clock_that_is_set_back_makes_nothing_longer(seconds: float) -> None:
    """A limit is deleted or changed when its time has passed, whatever the clock says."""
    world = World([scenes.policy()], {GREEDY: lambda second: 47 if second < 500 else 15})
    world.run(200)
    world.set_forward_seconds = seconds
    world.run(600)
    (made, _), (ended, decision) = world.decisions
    assert decision.what is What.EXPIRED
    assert ended - made <= 600
    assert not world.made


@pytest.mark.parametrize("seconds", [30, 3600, 86400 * 30])
def test_a_clock_that_is_set_forward_lets_go_and_slows_no_longer(seconds: float) -> None:
    """Nodes end the limit by that clock; it is then over, and no longer step follows from it."""
    world = World([scenes.policy()], {GREEDY: lambda _: 47})
    world.run(200)
    world.set_forward_seconds = seconds
    world.run(20)
    assert world.whats() == (["Limited", "Expired"] if seconds > 600 else ["Limited"])
    for _, decision in world.decisions:
        if decision.what is What.LIMITED:
            assert decision.expires_at - decision.at <= 600


def test_windows_do_not_see_the_wall_clock() -> None:
    """A clock that jumps each second changes no decision."""
    worlds = [World([scenes.policy()], {GREEDY: lambda _: 47}) for _ in range(2)]
    for _ in range(55):
        worlds[1].set_forward_seconds += 97 * (-1) ** worlds[1].second
        for world in worlds:
            world.run(1)
    assert worlds[0].whats() == worlds[1].whats() == ["Limited"]


def test_who_is_not_measured_is_neither_limited_nor_lifted() -> None:
    """A node that falls silent: nobody new, nobody lifted; the time of the limit ends it."""
    world = World([scenes.policy()], {GREEDY: lambda _: 47, "203.0.113.8": lambda second: 47 if second > 100 else 0})
    world.run(110)
    assert world.whats() == ["Limited"]
    world.silent = True
    world.run(1000)
    assert world.whats() == ["Limited", "Expired"]
    assert world.decisions[1][0] - world.decisions[0][0] <= 600


def test_a_restart_takes_over_what_is_there() -> None:
    """Killed 20 times: never two limits, never one that is longer than its step, and the step goes on."""
    world = World([scenes.policy()], {GREEDY: lambda _: 47})
    world.run(100)
    end = world.decisions[0][1].expires_at
    for _ in range(20):
        world.restart()
        world.run(20)
    assert world.whats() == ["Limited"]
    world.run(300)
    assert world.whats() == ["Limited", "Stepped"]
    assert world.decisions[1][1].at <= end
    assert world.decisions[1][1].step == 2


def test_a_restart_remembers_who_was_slowed_and_who_was_pardoned() -> None:
    """From the bounded list in the status."""
    for deleted, what in ((False, "Limited"), (True, "Blocked")):
        world = World([scenes.policy()], {GREEDY: lambda second: 47 if second < 100 or second > 1000 else 0})
        world.run(90)
        if deleted:
            world.made.clear()
        world.run(900)
        known = len(world.decisions)
        world.restart()
        world.run(200)
        ((_, decision), *_) = world.decisions[known:]
        assert decision.what.value == what
        assert decision.step == (0 if deleted else 2)


def test_a_list_that_is_not_of_our_form_is_passed_over() -> None:
    """Whatever stands in a status, nobody is remembered for longer than the policy says."""
    now = scenes.World([], {}).now
    texts = (
        "",
        "x",
        "203.0.113.7 9 Ended 1900000100",
        "203.0.113.7 12 Ended 1900000100",
        "203.0.113.7 1 Gone 1900000100",
        "a 1 Ended 1900000100",
        5,
        None,
    )
    policy = scenes.policy(then__memorySeconds=100)
    assert not memory.remember(books.Book(), policy, texts, {}, now)[0].entries["fair"].clients
    far, _ = memory.remember(books.Book(), policy, ("203.0.113.7 1 Ended 99999999999999",), {}, now)
    (state,) = far.entries["fair"].clients.values()
    assert state.remembered_until <= now.steady + 100


def test_a_limit_that_never_came_into_being_is_no_pardon() -> None:
    """After a minute the client is watched again."""
    world = World([scenes.policy()], {GREEDY: lambda _: 47})
    while not world.made:
        world.run(1)
    for _ in range(70):
        world.made.clear()
        world.run(1)
        if len(world.decisions) > 1:
            break
    assert "Pardoned" not in world.whats()
