"""What the rows share: rounds that take turns, a folder that is gone afterwards, progress on the terminal."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

PREFIX = "kb-"


class Extent(NamedTuple):
    """How much to measure: all of it, or a quick look."""

    quick: bool

    def rounds(self, full: int) -> int:
        return max(1, full // 3) if self.quick else full

    def seconds(self, full: float) -> float:
        return full / 3 if self.quick else full


def in_turns(designs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure A B C, A B C, …: what disturbs the machine for a while disturbs all of them."""
    values: dict[str, list[float]] = {name: [] for name in designs}
    for _ in range(rounds):
        for name, measure in designs.items():
            values[name].append(measure())
    return values


@contextlib.contextmanager
def folder() -> Iterator[pathlib.Path]:
    """A folder for manifests and state."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        yield pathlib.Path(name)


def pause(seconds: float) -> None:
    """Let traffic settle or a while pass."""
    time.sleep(seconds)


def say(text: str) -> None:
    """Progress, for the person who waits."""
    print(f"  {text}", file=sys.stderr, flush=True)
