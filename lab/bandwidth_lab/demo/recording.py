"""What a demonstration has measured, and what it makes of it. Pure: measures nothing and prints nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from bandwidth_lab.meter import Sample, bits_per_second

RATIO_MIN, RATIO_MAX = 0.97, 1.03  # of a limited client's wire rate to its limit
QUIET_MIN = 0.97  # of a quiet client's payload to what it asked for


class Event(NamedTuple):
    """Something that was done to the limits."""

    at: float
    text: str
    limit_bits_per_second: int | None  # what each of the greedy client's addresses has from now on


class Row(NamedTuple):
    """One line of the table at the end."""

    client: str
    situation: str
    expected_bits_per_second: float | None  # the limit, or what a quiet client asks for; None: nothing to compare with
    measured_bits_per_second: float
    good: bool

    @property
    def ratio(self) -> float | None:
        if self.expected_bits_per_second is None:
            return None
        return self.measured_bits_per_second / self.expected_bits_per_second


@dataclasses.dataclass
class Recording:
    """All of it, on one monotonic clock."""

    started_at: float
    ended_at: float = 0.0
    events: list[Event] = dataclasses.field(default_factory=list)
    rows: list[Row] = dataclasses.field(default_factory=list)
    greedy: Sequence[Sample] = ()
    quiet: Sequence[Sample] = ()
    remarks: list[str] = dataclasses.field(default_factory=list)

    @property
    def good(self) -> bool:
        return bool(self.rows) and all(row.good for row in self.rows)


def limited(client: str, limit_bits_per_second: int, measured_bits_per_second: float) -> Row:
    """A row for a client under a limit: good when the wire has the limit, no more and no less."""
    ratio = measured_bits_per_second / limit_bits_per_second
    return Row(client, "limited to", limit_bits_per_second, measured_bits_per_second, RATIO_MIN <= ratio <= RATIO_MAX)


def undisturbed(client: str, asked_bits_per_second: float, measured_bits_per_second: float) -> Row:
    """A row for a client without a limit beside a limited one: good when it got what it asked for."""
    good = measured_bits_per_second >= QUIET_MIN * asked_bits_per_second
    return Row(client, "asks for", asked_bits_per_second, measured_bits_per_second, good)


def lifted(client: str, limit_bits_per_second: int, measured_bits_per_second: float) -> Row:
    """A row for a client whose limit has expired: good when it is faster than the limit would let it be."""
    good = measured_bits_per_second > 1.5 * limit_bits_per_second
    return Row(client, "limit expired", None, measured_bits_per_second, good)


def seconds_until(samples: Sequence[Sample], event: Event, family: int) -> float | None:
    """How long after an event the client was first no faster than its limit allows, over 0.2 s; None: never."""
    assert event.limit_bits_per_second is not None
    later = [sample for sample in samples if sample.at >= event.at]
    for start, end in zip(later, later[2:], strict=False):
        if bits_per_second(start, end, family) <= 1.1 * event.limit_bits_per_second:
            return end.at - event.at
    return None


def megabits(bits: float) -> str:
    return f"{bits / 1e6:.2f}" if bits < 9.995e6 else f"{bits / 1e6:.1f}"
