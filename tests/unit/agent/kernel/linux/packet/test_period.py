"""How many bytes one sample stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel.linux.packet import period

PERIODS = st.sampled_from([1 << n for n in range(9, 25)])


def paces(packets_per_second: float, length: int) -> list[tuple[int, float]]:
    """The periods that traffic of packets of one length leads to from the first one on, and their samples a second."""
    found, now = [], period.FIRST
    for _ in range(20):
        pace = packets_per_second * min(1.0, length / now)
        found.append((now, pace))
        now = period.following(now, pace, length)
    return found


@given(PERIODS, st.floats(0, 1e9))
def test_it_is_a_power_of_two_between_the_bounds(before: int, pace: float) -> None:
    """Whatever it was and whatever is sent."""
    after = period.following(before, pace)
    assert period.LEAST <= after <= period.MOST
    assert after & (after - 1) == 0


@given(st.floats(0, 1e8), st.integers(20, 1 << 17))
def test_it_comes_to_rest(packets_per_second: float, length: int) -> None:
    """Any steady traffic, of packets of any length, has its period within twenty looks and keeps it."""
    *_, (before, _), (after, pace) = paces(packets_per_second, length)
    assert before == after == period.following(after, pace, length)
    assert pace <= period.HIGH or after == period.MOST
    assert pace >= period.LOW or after == period.LEAST or packets_per_second < period.LOW * 1.0001


@given(PERIODS, st.floats(period.HIGH, 1e9, exclude_min=True))
def test_a_burst_is_followed_at_once(before: int, pace: float) -> None:
    """One step, however far, brings as few samples as wanted."""
    after = period.following(before, pace)
    assert pace * before / after <= period.HIGH * 1.0001 or after == period.MOST


@given(st.floats(period.HIGH, 1e8, exclude_min=True), st.integers(20, 1 << 17))
def test_a_burst_after_silence_is_followed_at_once(packets_per_second: float, length: int) -> None:
    """Also where packets are longer than the period, so that all of them were sampled."""
    pace = packets_per_second * min(1.0, length / period.LEAST)
    after = period.following(period.LEAST, pace, length)
    assert packets_per_second * min(1.0, length / after) <= period.HIGH * 1.0001 or after == period.MOST


def test_no_line_brings_more_samples_than_wanted() -> None:
    """Not 400 Gbit/s by one interface: what a sample costs is bounded by what the period can be, too."""
    assert 400e9 / 8 / period.MOST <= period.HIGH


@pytest.mark.parametrize(
    ("packets_per_second", "length", "wanted"),
    [
        (0, 1500, period.LEAST),
        (0.1, 1500, period.LEAST),  # 1 kbit/s
        (83_000, 1500, 1 << 16),  # 1 Gbit/s
        (1_900, 65_000, 1 << 15),  # the same, as long packets: every one is sampled
        (1_400, 1500, period.LEAST),  # 17 Mbit/s: each packet is counted as it is
        (8_300_000, 1500, 1 << 22),  # 100 Gbit/s
    ],
)
def test_some_rates(packets_per_second: float, length: int, wanted: int) -> None:
    """From next to nothing to 100 Gbit/s."""
    assert min(paces(packets_per_second, length)[-1][0], wanted) == wanted
