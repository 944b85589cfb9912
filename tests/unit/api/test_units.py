"""Rates and sizes: text and numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_api import units

RATES = {
    "64k": 64_000,
    "64kbit": 64_000,
    "64Kbit": 64_000,
    "64KBit": 64_000,
    "5M": 5_000_000,
    "5Mbit": 5_000_000,
    "5mbit": 5_000_000,
    "5mBit": 5_000_000,
    "1.5Gbit": 1_500_000_000,
    "0.125M": 125_000,
    "1.001kbit": None,
    "123.456M": 123_456_000,
    "400Gbit": 400_000_000_000,
    "400G": 400_000_000_000,
}


@pytest.mark.parametrize(("text", "expected"), RATES.items())
def test_rates(text: str, expected: int | None) -> None:
    """All spellings are read exactly, or refused when out of range."""
    if expected is None:
        with pytest.raises(ValueError, match="between 64kbit and 400Gbit"):
            units.parse_rate(text)
    else:
        assert units.parse_rate(text) == expected


WRONG_RATES = {
    "5": "no unit",
    "5000000": "no unit",
    "5MB": "bits, not bytes",
    "5 MB/s": "bits, not bytes",
    "5MiB": "bits, not bytes",
    "5Mi": "decimal prefixes",
    "5m": "a thousandth",
    "5K": "such as 5Mbit",
    "5 Mbit": "such as 5Mbit",
    "5Mbps": "such as 5Mbit",
    "-5Mbit": "such as 5Mbit",
    "05Mbit": "such as 5Mbit",
    "5.Mbit": "such as 5Mbit",
    "5Mbit\n": "such as 5Mbit",
    "٥Mbit": "such as 5Mbit",
    "": "such as 5Mbit",
    "63.999kbit": "between 64kbit and 400Gbit",
    "401Gbit": "between 64kbit and 400Gbit",
    "0.0Gbit": "between 64kbit and 400Gbit",
}


@pytest.mark.parametrize(("text", "hint"), WRONG_RATES.items())
def test_wrong_rates_say_what_is_right(text: str, hint: str) -> None:
    """An error names the slip where it is a usual one, and shows a rate as it should be."""
    with pytest.raises(ValueError, match=hint) as caught:
        units.parse_rate(text)
    assert "bit" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    {"3k": 3000, "3000": 3000, "64Ki": 65536, "1M": 1_000_000, "64Mi": 67_108_864, "67108864": 67_108_864}.items(),
)
def test_bursts(text: str, expected: int) -> None:
    """Bursts are bytes, with decimal and binary prefixes."""
    assert units.parse_burst(text) == expected


@pytest.mark.parametrize("text", ["2999", "65Mi", "68M", "0", "64KiB", "64K", "1.5k", "1G", "", "-1", "3k\n"])
def test_wrong_bursts(text: str) -> None:
    """A burst out of range or in other units is refused with what is right."""
    with pytest.raises(ValueError, match="write "):
        units.parse_burst(text)


@given(st.integers(units.RATE_MIN, units.RATE_MAX).map(lambda n: n // 1000 * 1000))
def test_what_is_written_is_read_back(bits_per_second: int) -> None:
    """Every rate of whole kilobits survives writing and reading."""
    assert units.parse_rate(units.write_rate(bits_per_second)) == bits_per_second


SHOWN = [
    (0, "0 bit"),
    (0.4, "0.4 bit"),
    (64_000, "64 kbit"),
    (999_700, "999.7 kbit"),
    (999_960, "1 Mbit"),
    (5_000_000, "5 Mbit"),
    (9_996_000, "9.996 Mbit"),
    (12_345_678, "12.35 Mbit"),
    (99_960_000, "99.96 Mbit"),
    (1_500_000_000, "1.5 Gbit"),
    (400_000_000_000, "400 Gbit"),
]


@pytest.mark.parametrize(("number", "text"), SHOWN)
def test_rates_for_people(number: float, text: str) -> None:
    """With four digits at most."""
    assert units.show_rate(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1000, "1000 B"), (1024, "1 KiB"), (65536, "64 KiB"), (1.5 * 2**20, "1.5 MiB")]
)
def test_bytes_for_people(number: float, text: str) -> None:
    """Sizes have binary prefixes."""
    assert units.show_bytes(number) == text
