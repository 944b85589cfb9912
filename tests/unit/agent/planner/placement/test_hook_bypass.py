"""Which hooks are passed by, as counters tell it; and what is remembered of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.planner.placement import hook_bypass

FRAME = 1514
NOTHING = model.HookCounters(2, 0, 0, 0, 0)
OURS = model.RootQdisc("htb", 0x7CB1, True)


def sent(
    *,
    limited: int = 0,
    others: int = 0,
    unseen: int = 0,
    before: model.HookCounters = NOTHING,
    size: int = FRAME,
    header: int = 0,
) -> model.HookCounters:
    """The counters of an interface after so many packets: redirected, seen at the hook only, and not even there.

    `header`: bytes per packet that only the driver counts.
    """
    return before._replace(
        left_bytes=before.left_bytes + (limited + others + unseen) * (size + header),
        reached_bytes=before.reached_bytes + (2 * limited + others) * size,
        redirected_bytes=before.redirected_bytes + limited * size,
        redirected_packets=before.redirected_packets + limited,
    )


def reading(matched: int, **hooks: model.HookCounters) -> model.HookReading:
    return model.HookReading(matched, hooks)


START = reading(0, eth0=NOTHING)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(reading(100, eth0=sent(unseen=100)), {"eth0"}, id="everything passes by"),
        pytest.param(reading(100, eth0=sent(unseen=5000)), {"eth0"}, id="others of them too"),
        pytest.param(reading(100, eth0=sent(others=500, unseen=100)), {"eth0"}, id="only the limited pass by"),
        pytest.param(reading(100, eth0=sent(limited=1, unseen=99)), {"eth0"}, id="one came late"),
        pytest.param(reading(100, eth0=sent(limited=100, others=9000)), set(), id="all is well"),
        pytest.param(reading(100, eth0=sent(others=9000)), set(), id="the limited are behind another interface"),
        pytest.param(reading(100, eth0=NOTHING), set(), id="or were dropped on the way"),
        pytest.param(reading(100, eth0=sent(others=9000, size=64, header=4)), set(), id="the driver counts more"),
        pytest.param(reading(100, eth0=sent(limited=50, unseen=50)), set(), id="half of them: no verdict"),
        pytest.param(reading(10, eth0=sent(unseen=5000)), None, id="too few"),
        pytest.param(reading(0, eth0=sent(unseen=5000)), None, id="no limited client was sent anything"),
    ],
)
def test_what_two_readings_say(now: model.HookReading, expected: set[str] | None) -> None:
    """Matched packets that were not redirected, and bytes that never came to the hook: only both make a bypass."""
    assert hook_bypass.bypassed_hooks(START, now) == expected


def test_one_of_two_interfaces_is_told_from_the_other() -> None:
    """The interface where bytes are missing is bypassed; the one that redirects is not."""
    before = reading(0, eth0=NOTHING, eth1=NOTHING._replace(index=3))
    seen = sent(limited=100, others=300, before=before.hooks["eth1"])
    assert hook_bypass.bypassed_hooks(before, reading(300, eth0=sent(unseen=400), eth1=seen)) == frozenset({"eth0"})
    idle = before.hooks["eth1"]
    assert hook_bypass.bypassed_hooks(before, reading(300, eth0=sent(unseen=400), eth1=idle)) == frozenset({"eth0"})


@given(
    limited=st.integers(0, 10_000),
    others=st.integers(0, 100_000),
    elsewhere=st.integers(0, 100_000),
    size=st.integers(60, 65_000),
    header=st.integers(0, 4),
)
def test_a_hook_that_sees_all_is_never_suspected(
    limited: int, others: int, elsewhere: int, size: int, header: int
) -> None:
    """Whatever is sent, limited or not, here or elsewhere: as long as it comes to the hook there is no bypass."""
    hook = sent(limited=limited, others=others, size=size, header=header)
    assert not hook_bypass.bypassed_hooks(START, reading(limited + elsewhere, eth0=hook))


def test_few_packets_add_up() -> None:
    """A slow client is noticed when enough of its packets have passed by, however many readings that takes."""
    watch = hook_bypass.Watch()
    hook = NOTHING
    for number in range(7):
        assert not watch.note(reading(5 * number, eth0=hook), 10.0 * number)
        hook = sent(unseen=7, before=hook)
    assert watch.note(reading(40, eth0=hook), 100.0) == {"eth0"}


@pytest.mark.parametrize(
    "restarted",
    [
        reading(3, eth0=sent(unseen=1000)),
        reading(200, eth0=sent(unseen=1000)._replace(index=7)),
        reading(200, eth0=sent(unseen=10)),
        reading(200, eth1=sent(unseen=1000)),
        reading(200),
    ],
    ids=["rules", "device", "counters", "other hooks", "no hooks"],
)
def test_counters_that_start_again_prove_nothing(restarted: model.HookReading) -> None:
    """After the rules were rewritten, or a hook or a device was made again, the comparison starts there."""
    watch = hook_bypass.Watch()
    watch.note(reading(100, eth0=sent(unseen=100)), 0.0)
    assert not watch.note(restarted, 30.0)
    assert not watch.bypassed({"eth0": fake_kernel.interface()}, 30.0)


def test_a_new_hook_is_watched_until_it_works_or_half_a_minute() -> None:
    """Only in that time is a reading wanted between two read-backs."""
    watch = hook_bypass.Watch()
    assert not watch.in_doubt([], 0.0)
    assert watch.in_doubt(["eth0"], 0.0)
    watch.note(START, 0.0)
    assert watch.in_doubt(["eth0"], 29.0)
    assert not watch.in_doubt(["eth0"], 30.0)
    assert watch.in_doubt(["eth0", "eth1"], 30.0)
    proven = hook_bypass.Watch()
    proven.note(START, 0.0)
    proven.note(reading(100, eth0=sent(limited=100)), 1.0)
    assert not proven.in_doubt(["eth0"], 2.0)


def _found() -> hook_bypass.Watch:
    watch = hook_bypass.Watch()
    watch.note(START, 0.0)
    assert watch.note(reading(100, eth0=sent(unseen=100)), 1.0) == {"eth0"}
    return watch


def test_a_bypass_is_tried_again_where_that_frees_nobody() -> None:
    """After ten minutes where the limits are not in force anyway; never while our root limits the traffic."""
    unlimited, limited = {"eth0": fake_kernel.interface()}, {"eth0": fake_kernel.interface(root=OURS)}
    watch = _found()
    assert watch.bypassed(unlimited, 600.0) == {"eth0"}
    assert watch.bypassed(unlimited, 601.0) == set()
    assert watch.bypassed(limited, 602.0) == set(), "forgotten is forgotten"
    assert _found().bypassed(limited, 100_000.0) == {"eth0"}


def test_another_device_of_that_name_starts_anew() -> None:
    """What was found belongs to the device, not to its name."""
    watch = _found()
    assert watch.bypassed({"eth0": fake_kernel.interface(index=2)}, 2.0) == {"eth0"}
    assert watch.bypassed({"eth0": fake_kernel.interface(index=9)}, 2.0) == set()
    assert _found().bypassed({}, 2.0) == set()
