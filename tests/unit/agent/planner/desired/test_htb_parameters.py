"""The numbers of a class, against the kernel's own arithmetic and the measurements that they rest on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import objects
from bandwidth_agent.planner.desired import htb_parameters
from bandwidth_api import names
from bandwidth_api.compiler import burst

RATES = st.integers(64_000, 400_000_000_000)
PLAIN, FAIR = frozenset[str](), frozenset({"fq_codel"})  # kinds of leaves that the kernel has
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
    assert htb_parameters.ticks(burst_bytes, rate // 8) == ticks
    assert htb_parameters.quantum_bytes(rate) == quantum


@given(RATES, BURSTS, st.sampled_from((576, 1500, 9000)), st.sampled_from((PLAIN, FAIR)))
def test_every_class_fits_into_the_kernels_fields(rate: int, own: int | None, mtu: int, kinds: frozenset[str]) -> None:
    """No number overflows, no buffer is too small for a frame, no quantum makes the kernel complain."""
    for htb_class in (htb_parameters.enforce(rate, own, mtu, kinds), htb_parameters.observe(rate, own)):
        assert 0 < htb_class.burst_ticks < 1 << 32
        assert 0 < htb_class.cburst_ticks < 1 << 32
        assert 1_000 <= htb_class.quantum <= 200_000
        assert htb_class.rate == rate // 8
        assert htb_class.leaf is not None
        assert htb_class.leaf.limit_bytes < 1 << 32
        if htb_class.burst_ticks < htb_parameters.TICKS_MAX:
            wanted = burst.computed(rate) if own is None else own
            held = htb_class.burst_ticks * objects.TICK_NS * htb_class.rate
            assert wanted * 10**9 <= held < wanted * 10**9 + objects.TICK_NS * htb_class.rate


def test_a_burst_of_more_time_than_the_kernel_can_hold_is_cut() -> None:
    """64 MiB at 64 kbit would be two hours; the field holds 275 seconds."""
    assert htb_parameters.enforce(64_000, 64 << 20, 1500, PLAIN).burst_ticks == htb_parameters.TICKS_MAX


@pytest.mark.parametrize(
    ("rate", "mtu", "leaf"),
    [
        (64_000, 1500, objects.Leaf("tbf", 1586, 12_688, "bfifo")),
        (20_000_000, 1500, objects.Leaf("tbf", 1586, 100_000, "bfifo")),
        (199_999_999, 1500, objects.Leaf("tbf", 1586, 100_000, "bfifo")),
        (199_999_999, 9000, objects.Leaf("tbf", 9086, 100_000, "bfifo")),
        (200_000_000, 1500, objects.Leaf("tbf", 1_048_576, 262_144, "bfifo")),
        (1_000_000_000, 1500, objects.Leaf("tbf", 1_048_576, 625_000, "bfifo")),
    ],
)
def test_packets_are_cut_below_200_mbit_and_pass_whole_above(rate: int, mtu: int, leaf: objects.Leaf) -> None:
    """The queue is bounded in time on both sides, and holds ten frames or two whole packets at least."""
    assert htb_parameters.leaf(rate, mtu, PLAIN) == leaf
    assert htb_parameters.leaf(rate, mtu, FAIR) == leaf._replace(inner="fq_codel")


def test_an_observed_class_may_take_the_whole_line() -> None:
    """Its rate is the limit, so HTB counts what goes beyond; its ceiling is its parent's and its queue large."""
    observed, parent = htb_parameters.observe(5_000_000, None), htb_parameters.observe_parent()
    assert (observed.parent, observed.rate) == (names.OBSERVE_PARENT, 625_000)
    assert observed.ceil == parent.ceil == parent.rate == 50_000_000_000
    assert observed.leaf == objects.Leaf("bfifo", 0, 16 << 20, "")
    assert (parent.parent, parent.leaf) == (0, None)
