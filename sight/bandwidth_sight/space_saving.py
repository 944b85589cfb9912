"""The largest of very many, in a table of fixed size: the algorithm Space-Saving (Metwally et al. 2005) with weights.

Pure. What was counted lies between `least` and `most`, and these differ by no more than the total ÷ size. Whatever has
more than that of the total is in the table.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, KeysView
from typing import NamedTuple


class Counted(NamedTuple):
    least: int
    most: int


class SpaceSaving:
    """Sums by key. One that is new takes the place of the smallest, and what that had is its uncertainty."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._counted: dict[bytes, Counted] = {}
        # Every key once, with what it had when it was put here: at most what it has now.
        self._heap: list[tuple[int, bytes]] = []
        self.total = 0

    def add(self, key: bytes, amount: int) -> None:
        """Add to one key; takes time logarithmic in the size, on average less."""
        self.total += amount
        counted = self._counted
        found = counted.get(key)
        if found is not None:
            counted[key] = Counted(found[0] + amount, found[1] + amount)
        elif len(counted) < self._size:
            counted[key] = Counted(amount, amount)
            heapq.heappush(self._heap, (amount, key))
        else:
            smallest = self._smallest()
            most = counted.pop(smallest).most
            counted[key] = Counted(amount, most + amount)
            heapq.heapreplace(self._heap, (most + amount, key))

    def _smallest(self) -> bytes:
        """Return the key with the least upper bound, and have it at the root of the heap."""
        heap, counted = self._heap, self._counted
        while True:
            most, key = heap[0]
            now = counted[key].most
            if now == most:
                return key
            heapq.heapreplace(heap, (now, key))

    def keys(self) -> KeysView[bytes]:
        return self._counted.keys()

    def __contains__(self, key: bytes) -> bool:
        return key in self._counted

    def __len__(self) -> int:
        return len(self._counted)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._counted)

    def get(self, key: bytes) -> Counted:
        """Return what is known of a key; of one that is not in the table, at most what the smallest has."""
        found = self._counted.get(key)
        if found is not None:
            return found
        return Counted(0, self._counted[self._smallest()].most if len(self._counted) == self._size else 0)
