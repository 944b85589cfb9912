"""What the end-to-end tests conclude from a client's counters."""

from __future__ import annotations

import math

import pytest

from bandwidth_lab.kind import series


def samples(*points: tuple[float, float, float]) -> list[series.Sample]:
    """Samples of (at, until, bytes of IPv4)."""
    return [series.Sample(at, until, {4: moved, 6: 0.0}, {"f": int(moved)}, {"f": 1}) for at, until, moved in points]


def test_a_steady_download_has_its_rate_in_every_second() -> None:
    """A thousand bytes every 100 ms are 80 kbit/s, whichever second is looked at."""
    steady = samples(*((n / 10, n / 10, 1000.0 * n) for n in range(31)))
    found = series.seconds(steady, 4)
    assert len(found) == 21
    assert [rate for _, rate in found] == pytest.approx([80_000.0] * 21)
    assert series.rate(steady, 4) == pytest.approx(80_000.0)
    assert series.payload_rate(steady, "f") == pytest.approx(80_000.0)


def test_a_fast_second_is_found_between_slow_ones() -> None:
    """A burst of one second is seen although it begins in the middle of one."""
    burst = samples(*((n / 10, n / 10, 100.0 * n + 900.0 * min(max(n - 15, 0), 10)) for n in range(41)))
    assert max(rate for _, rate in series.seconds(burst, 4)) == pytest.approx(80_000.0)


def test_a_long_reading_accuses_nobody() -> None:
    """Where the counters were read at some moment of a second, the least possible rate is told."""
    late = samples((0.0, 0.0, 0.0), (1.0, 2.0, 2000.0))
    assert series.seconds(late, 4) == [(0.0, 8000.0)]


def test_one_sample_is_no_rate() -> None:
    """From one reading nothing can be concluded, and no comparison with it is true."""
    assert math.isnan(series.rate(samples((0.0, 0.0, 0.0)), 4))


def test_segments_have_headers_of_their_own_on_the_wire() -> None:
    """A packet of ten segments counts once in the IP layer and is ten frames on the wire."""
    one_by_one = series.wire_bytes(4, packets=10, segments=10, octets=10 * 1500)
    merged = series.wire_bytes(4, packets=1, segments=10, octets=10 * 1500 - 9 * 52)
    assert one_by_one == merged == 10 * 1514
