"""How the time of a resolution grows with the number of entries, by the processor's clock."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.plan import PlanEntry, Prefix
from unit.api.compiler.test_overlap import TEN, around, entry, singles


def dialled(count: int) -> list[PlanEntry]:
    return [entry(f"p-{i}", Prefix(4, TEN + i, 32), dialled=[str(1 + i)]) for i in range(count)]


CROWDS: dict[str, Callable[[int], list[PlanEntry]]] = {
    "apart": lambda n: singles(n),
    "in one prefix": lambda n: [*around(1), *singles(n)],
    "under one prefix that wins": lambda n: [*around(1, priority=1), *singles(n)],
    "on one prefix": lambda n: around(n),
    "half on one prefix, half in it": lambda n: [*around(n // 2), *singles(n // 2)],
    "nested 112 deep": lambda n: [
        entry(f"n-{i}", Prefix(6, 0x2001 << 112, 16 + i % 112), created_at=float(i)) for i in range(n)
    ],
    "each with a hole": lambda n: [
        entry(f"x-{i}", Prefix(4, TEN, 8), excepted=[f"10.{i >> 8}.{i & 255}.0/24"]) for i in range(n)
    ],
    "each a port of one prefix": lambda n: [
        entry(f"p-{i}", Prefix(4, TEN, 8), dialled=[str(1 + i)], created_at=float(i)) for i in range(n)
    ],
    "each its own port": lambda n: dialled(n),
    "crossing ports of one prefix": lambda n: [
        entry(f"c-{i}", Prefix(4, TEN, 8), dialled=[f"{1 + 7 * i}-{30_000 + 7 * i}"], created_at=float(i))
        for i in range(n)
    ],
    "crossing ports of many prefixes": lambda n: [
        entry(
            f"c-{i}",
            *(Prefix(4, TEN + (k << 16), 16) for k in range(8)),
            dialled=[f"{1 + (i * 977) % 30_000}-{30_001 + (i * 6007) % 30_000}"],
            created_at=float(i),
        )
        for i in range(n)
    ],
}


@pytest.mark.parametrize("crowd", CROWDS.values(), ids=CROWDS.keys())
def test_time_grows_with_the_number_of_entries(crowd: Callable[[int], list[PlanEntry]]) -> None:
    """Eight times as many entries take about eight times as long, not sixty-four times."""
    few, many = seconds(crowd(500)), seconds(crowd(4000))
    assert many < 24 * few + 0.01


def seconds(entries: list[PlanEntry]) -> float:
    """The processor time of a resolution: the best of three, because others use this machine too."""
    best = 1e9
    for _ in range(3):
        gc.collect()
        started = time.process_time()
        resolve.resolve(entries)
        best = min(best, time.process_time() - started)
    return best
