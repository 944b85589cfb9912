"""What differs between two mappings of thousands of objects, nearly all of them the same. Pure; saves time only."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def differing(now: Mapping[K, V], before: Mapping[K, V]) -> list[K] | None:
    """The keys whose value is another object than before; None unless the keys are the very same, in the same order."""
    if len(now) != len(before) or not all(map(operator.is_, now, before)):
        return None
    same = map(operator.is_, now.values(), before.values())
    return [key for key, is_same in zip(now, same, strict=True) if not is_same]
