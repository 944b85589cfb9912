"""The numbers of a class, against the kernel's own arithmetic and the measurements that they rest on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent import shape
from bandwidth_agent.kernel import model
from bandwidth_api import burst, names

RATES = st.integers(64_000, 400_000_000_000)
BURSTS = st.none() | st.integers(3_000, 64 << 20)


@pytest.mark.parametrize(
    ("rate", "burst_bytes", "ticks", "quantum"),
    [
        (64_000, 1_632, 3_187_500, 1514),
        (5_000_000, 4_100, 102_500, 1514),
        (10_000_000, 6_600, 82_500, 1514),
        (100_000_000, 51_600, 64_500, 15_140),
        (1_000_000_000, 501_600, 62_700, 60_000),
        (400_000_000_000, 200_001_600, 62_501, 60_000),
    ],
)
def test_the_formulas_by_example(rate: int, burst_bytes: int, ticks: int, quantum: int) -> None:
    """4 ms of the rate and a frame, as time at that rate; one frame a turn up to 10 Mbit."""
    assert burst.computed(rate) == burst_bytes
    assert shape.ticks(burst_bytes, rate // 8) == ticks
    assert shape.quantum_bytes(rate) == quantum


@given(RATES, BURSTS, st.sampled_from((576, 1500, 9000)), st.booleans())
def test_every_class_fits_into_the_kernels_fields(rate: int, own: int | None, mtu: int, fq_codel: bool) -> None:
    """No number overflows, no buffer is too small for a frame, no quantum makes the kernel complain."""
    for htb_class in (shape.enforce(rate, own, mtu, fq_codel), shape.observe(rate, own)):
        assert 0 < htb_class.burst_ticks < 1 << 32
        assert 0 < htb_class.cburst_ticks < 1 << 32
        assert 1_000 <= htb_class.quantum <= 200_000
        assert htb_class.rate == rate // 8
        assert htb_class.leaf is not None
        assert htb_class.leaf.limit_bytes < 1 << 32
        if htb_class.burst_ticks < shape.TICKS_MAX:
            wanted = burst.computed(rate) if own is None else own
            held = htb_class.burst_ticks * model.TICK_NS * htb_class.rate
            assert wanted * 10**9 <= held < wanted * 10**9 + model.TICK_NS * htb_class.rate


def test_a_burst_of_more_time_than_the_kernel_can_hold_is_cut() -> None:
    """64 MiB at 64 kbit would be two hours; the field holds 275 seconds."""
    assert shape.enforce(64_000, 64 << 20, 1500, False).burst_ticks == shape.TICKS_MAX


@pytest.mark.parametrize(
    ("rate", "mtu", "leaf"),
    [
        (64_000, 1500, model.Leaf("tbf", 1586, 12_688, "bfifo")),
        (20_000_000, 1500, model.Leaf("tbf", 1586, 100_000, "bfifo")),
        (199_999_999, 1500, model.Leaf("tbf", 1586, 100_000, "bfifo")),
        (199_999_999, 9000, model.Leaf("tbf", 9086, 100_000, "bfifo")),
        (200_000_000, 1500, model.Leaf("tbf", 1_048_576, 262_144, "bfifo")),
        (1_000_000_000, 1500, model.Leaf("tbf", 1_048_576, 625_000, "bfifo")),
    ],
)
def test_packets_are_cut_below_200_mbit_and_pass_whole_above(rate: int, mtu: int, leaf: model.Leaf) -> None:
    """The queue is bounded in time on both sides, and holds ten frames or two whole packets at least."""
    assert shape.leaf(rate, mtu, fq_codel=False) == leaf
    assert shape.leaf(rate, mtu, fq_codel=True) == leaf._replace(inner="fq_codel")


def test_an_observed_class_may_take_the_whole_line() -> None:
    """Its rate is the limit, so HTB counts what goes beyond; its ceiling is its parent's and its queue large."""
    observed, parent = shape.observe(5_000_000, None), shape.observe_parent()
    assert (observed.parent, observed.rate) == (names.OBSERVE_PARENT, 625_000)
    assert observed.ceil == parent.ceil == parent.rate == 50_000_000_000
    assert observed.leaf == model.Leaf("bfifo", 0, 16 << 20, "")
    assert (parent.parent, parent.leaf) == (0, None)
