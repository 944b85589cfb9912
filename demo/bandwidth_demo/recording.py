"""The measurements of a demonstration and their evaluation. Pure: measures nothing and prints nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from bandwidth_lab.meter import Sample, bits_per_second

RATIO_MIN, RATIO_MAX = 0.97, 1.03  # of a limited client's wire rate to its limit
QUIET_MIN = 0.97  # of a quiet client's payload to what it asked for
SUFFERS_MAX = 0.9  # the same, while a greedy client takes the uplink: with more than that it would not suffer
SEEN_MIN, SEEN_MAX = 0.85, 1.18  # of what the router counts to what `top` shows, of windows that differ a little


class Rate(NamedTuple):
    """A rate as it is typed and as the manifests write it."""

    megabits: int

    @property
    def bits_per_second(self) -> int:
        return self.megabits * 1_000_000

    @property
    def text(self) -> str:
        return f"{self.megabits}Mbit"

    def __str__(self) -> str:
        return f"{self.megabits} Mbit/s"

    def of_each(self) -> dict[int, int]:
        """Return the limits of the greedy client when each of its addresses has this rate."""
        return dict.fromkeys((4, 6), self.bits_per_second)


class Event(NamedTuple):
    """What happened, and when."""

    at: float
    text: str
    limit_bits_per_second: int | None  # what each of the greedy client's addresses has from now on
    label: str = ""  # a few words for a picture


class Row(NamedTuple):
    """One line of the table at the end."""

    client: str
    situation: str
    word: str  # what the expected rate is: "asks for", "limited to"
    expected_bits_per_second: float | None  # None: nothing to compare with
    measured_bits_per_second: float
    good: bool

    @property
    def ratio(self) -> float | None:
        if self.expected_bits_per_second is None:
            return None
        return self.measured_bits_per_second / self.expected_bits_per_second


@dataclasses.dataclass
class Recording:
    """All measurements, on one monotonic clock."""

    started_at: float
    ended_at: float = 0.0
    events: list[Event] = dataclasses.field(default_factory=list)
    rows: list[Row] = dataclasses.field(default_factory=list)
    greedy: Sequence[Sample] = ()
    quiet: Sequence[Sample] = ()
    remarks: list[str] = dataclasses.field(default_factory=list)
    screens: dict[str, Sequence[Text]] = dataclasses.field(default_factory=dict)  # by name

    @property
    def good(self) -> bool:
        return bool(self.rows) and all(row.good for row in self.rows)


def limited(client: str, situation: str, limit_bits_per_second: int, measured_bits_per_second: float) -> Row:
    """Return the row of a limited client: good when its rate on the wire is the limit, no more and no less."""
    ratio = measured_bits_per_second / limit_bits_per_second
    good = RATIO_MIN <= ratio <= RATIO_MAX
    return Row(client, situation, "limited to", limit_bits_per_second, measured_bits_per_second, good)


def undisturbed(client: str, situation: str, asked_bits_per_second: float, measured_bits_per_second: float) -> Row:
    """Return the row of an unlimited client that nobody starves: good when it got all that it asked for."""
    good = measured_bits_per_second >= QUIET_MIN * asked_bits_per_second
    return Row(client, situation, "asks for", asked_bits_per_second, measured_bits_per_second, good)


def suffering(client: str, situation: str, asked_bits_per_second: float, measured_bits_per_second: float) -> Row:
    """Return the row of a client beside a greedy one: as expected when it got less than it asked for."""
    good = measured_bits_per_second <= SUFFERS_MAX * asked_bits_per_second
    return Row(client, situation, "asks for", asked_bits_per_second, measured_bits_per_second, good)


def seen(client: str, situation: str, shown_bits_per_second: float, measured_bits_per_second: float) -> Row:
    """Return the row of a client that `top` shows: good when that is what the next router counts."""
    good = SEEN_MIN <= measured_bits_per_second / shown_bits_per_second <= SEEN_MAX
    return Row(client, situation, "top shows", shown_bits_per_second, measured_bits_per_second, good)


def lifted(client: str, situation: str, limit_bits_per_second: int, measured_bits_per_second: float) -> Row:
    """Return the row of a client whose limit has expired: good when it is faster than that limit."""
    good = measured_bits_per_second > 1.5 * limit_bits_per_second
    return Row(client, situation, "", None, measured_bits_per_second, good)


def seconds_until(samples: Sequence[Sample], event: Event, family: int) -> float | None:
    """Return the time from an event until the client was first within its limit over 0.2 s; None if it never was."""
    assert event.limit_bits_per_second is not None
    later = [sample for sample in samples if sample.at >= event.at]
    for start, end in zip(later, later[2:], strict=False):
        if bits_per_second(start, end, family) <= 1.1 * event.limit_bits_per_second:
            return end.at - event.at
    return None


def megabits(bits: float) -> str:
    return f"{bits / 1e6:.2f}" if bits < 9.995e6 else f"{bits / 1e6:.1f}"
