"""Tables and ages as kubectl prints them."""

from __future__ import annotations

import pytest

from bandwidth_cli.text import ages, tables


def test_columns_are_three_blanks_apart() -> None:
    """The widest cell decides, the last column is not filled, an empty cell is named."""
    assert tables.lines(("NAME", "RATE"), [("a", "5Mbit"), ("long-name", "")]) == [
        "NAME        RATE",
        "a           5Mbit",
        "long-name   <none>",
    ]


def test_nothing_in_a_cell_steers_the_terminal() -> None:
    """Names and reasons come from outside."""
    assert tables.lines(("A",), [("\x1b[31mred\n",)])[1] == "\\x1b[31mred\\n"


def test_wide_letters_take_two_columns() -> None:
    """So that what stands behind them is aligned."""
    assert tables.lines(("A", "B"), [("日本", "x"), ("ab", "y")]) == ["A      B", "日本   x", "ab     y"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (599, "9m59s"), (600, "10m"), (7200, "120m"),
     (10800, "3h"), (12000, "3h20m"), (28800, "8h"), (86400, "24h"), (172800, "2d"), (180000, "2d2h"), (691200, "8d"),
     (86400 * 365, "365d"), (86400 * 800, "2y70d"), (86400 * 365 * 9, "9y")],
)  # fmt: skip
def test_ages_are_those_of_kubectl(seconds: float, text: str) -> None:
    """The steps of HumanDuration in apimachinery."""
    assert ages.short(seconds) == text


@pytest.mark.parametrize("text", [None, 5, "", "yesterday", "2030-01-01T00:00:00", "9999-99-99T00:00:00Z"])
def test_what_is_no_time_is_none(text: object) -> None:
    """A time without a zone is none either."""
    assert ages.seconds(text) is None


def test_a_time_of_the_api_server_is_read() -> None:
    """Seconds since the epoch, with a fraction or without."""
    assert ages.seconds("1970-01-01T00:01:00Z") == 60
    assert ages.seconds("1970-01-01T00:01:00.500000Z") == 60.5
