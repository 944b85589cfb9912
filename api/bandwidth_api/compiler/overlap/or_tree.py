"""Finds the first in a row of bit sets that shares a bit with a given set. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class OrTree:
    """A row of bit sets; each operation takes steps in the logarithm of its length."""

    def __init__(self, masks: Sequence[int]) -> None:
        self._size = size = 1 << max(0, len(masks) - 1).bit_length()
        self._nodes = nodes = [0] * size + list(masks) + [0] * (size - len(masks))
        for at in range(size - 1, 0, -1):
            nodes[at] = nodes[2 * at] | nodes[2 * at + 1]

    def put(self, at: int, mask: int) -> None:
        """Replace the set at one place."""
        nodes, node = self._nodes, self._size + at
        nodes[node] = mask
        while node > 1:
            node >>= 1
            nodes[node] = nodes[2 * node] | nodes[2 * node + 1]

    def first(self, mask: int, start: int = 0) -> int:
        """Return the place of the first set from `start` on that shares a bit with the mask; -1 if there is none."""
        nodes, size = self._nodes, self._size
        if start >= size:
            return -1
        node = size + start
        while not nodes[node] & mask:  # up, to the next tree on the right
            while node & 1:
                node >>= 1
            if not node:
                return -1
            node += 1
        while node < size:
            node *= 2
            if not nodes[node] & mask:
                node += 1
        return node - size
