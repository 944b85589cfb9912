"""Finds which of thousands of entries changed from one pass to the next; nearly all are the same objects. Pure."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

FEW = 100


def keys(now: Mapping[K, V], before: Mapping[K, V]) -> list[K] | None:
    """Return the keys whose value is another object than before; None unless keys and order are the same."""
    if len(now) != len(before) or not all(map(operator.is_, now, before)):
        return None
    same = map(operator.is_, now.values(), before.values())
    return [key for key, is_same in zip(now, same, strict=True) if not is_same]


def places(now: Sequence[V], before: Sequence[V]) -> list[int] | None:
    """Return the few indexes with another object than before; None if they are many, or the lengths differ."""
    if len(now) != len(before):
        return None
    differing = itertools.compress(itertools.count(), map(operator.is_not, now, before))
    found = list(itertools.islice(differing, FEW + 1))
    return found if len(found) <= FEW else None
