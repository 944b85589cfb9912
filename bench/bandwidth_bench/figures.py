"""What a benchmark measured, as values: one `Figure` per number, with every round behind it.

Owns medians, bounds and their JSON form. Measures nothing and prints nothing.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number of a table: the row that `case` names, the column `metric`, one value per round.

    `low` and `high` are the bounds that the median should reach; None: not judged, it stands there for comparison.
    """

    case: Mapping[str, str]
    metric: str
    rounds: tuple[float, ...]
    unit: str  # behind the number: "", "ms", "s", "MiB", "%", "Mbit/s", "ns"
    low: float | None = None
    high: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def judged(self) -> bool:
        return self.low is not None or self.high is not None

    @property
    def reached(self) -> bool:
        return (self.low is None or self.median >= self.low) and (self.high is None or self.median <= self.high)


@dataclasses.dataclass(frozen=True)
class Result:
    """One row of the benchmarks: its figures, and the machine and time they are from."""

    row: str
    figures: tuple[Figure, ...]
    machine: Mapping[str, str]
    at: str  # UTC, to the minute
    seconds: float
    quick: bool

    @property
    def missed(self) -> tuple[Figure, ...]:
        return tuple(f for f in self.figures if not f.reached)


def ratios(values: Sequence[float], baseline: Sequence[float]) -> tuple[float, ...]:
    """Round by round, because what disturbs a machine disturbs neighbouring rounds alike."""
    return tuple(value / base for value, base in zip(values, baseline, strict=True))


def as_json(result: Result) -> dict[str, Any]:
    """The JSON form; figures rounded to what a reader can use."""
    text = dataclasses.asdict(result)
    text["seconds"] = round(result.seconds, 1)
    for figure in text["figures"]:
        figure["rounds"] = [float(f"{value:.5g}") for value in figure["rounds"]]
    return text


def from_json(text: Mapping[str, Any]) -> Result:
    """What `as_json` wrote."""
    figures = tuple(Figure(**{**f, "rounds": tuple(f["rounds"])}) for f in text["figures"])
    return Result(**{**text, "figures": figures})
