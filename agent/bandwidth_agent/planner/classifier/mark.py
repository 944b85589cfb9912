"""The class id in bits of the mark: (mark & mask) = id << lowest bit of the mask.

The egress hook picks the ifb by the higher bits, a filter of the tree the class. Owns the arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

from bandwidth_agent.kernel import objects
from bandwidth_agent.planner.classifier.sets_and_chain import SetsAndChain
from bandwidth_api import names

_SHARD_BITS = names.SHARD_SIZE.bit_length() - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Mark(SetsAndChain):
    kind: ClassVar[str] = "mark"
    mask: int = 0  # the contiguous bits that hold the class id
    clears: bool = False  # what we wrote into the mark is cleared again, once it has led to the class
    map_priority: ClassVar[bool] = False

    @property
    def map_mark(self) -> bool:
        """Always."""
        return True

    @property
    def shift(self) -> int | None:
        """(mark & mask) >> shift is the shard; None: one shard for all.

        With no more ids than one shard holds, the shard needs no bits; a shift of 32 would be no valid filter.
        """
        return _lowest_bit(self.mask) + _SHARD_BITS if self.capacity >= names.SHARD_SIZE else None

    @property
    def capacity(self) -> int:
        """The highest class id; a narrow mask has room for few limits."""
        return mask_capacity(self.mask)

    def shard(self, number: int) -> int:
        """The ifb of this class id, by its higher bits."""
        return 0 if self.capacity < names.SHARD_SIZE else number // names.SHARD_SIZE

    def entry(self, number: int, comment: str) -> objects.SetEntry:
        """The entry that writes the id into the mark."""
        return objects.SetEntry(number * (self.mask & -self.mask), self.mask, 0, comment)

    def hook(self, shards: Iterable[int]) -> objects.Hook:
        """A hook that picks the ifb by the mark, and leaves clearing it to the tree's filter."""
        return objects.Hook(self.mask, self.shift, frozenset(shards), False)

    @property
    def filter(self) -> objects.MarkFilter:
        """The filter that turns the mark into the class."""
        return objects.MarkFilter(self.mask, self.clears)


def mask_capacity(mask: int) -> int:
    """The highest class id that fits under the mask."""
    return min(names.CLASS_MAX, mask >> _lowest_bit(mask))


def number(entry: objects.SetEntry) -> int | None:
    """The class id that an observed entry writes into the mark, under whatever mask; None if it writes none."""
    mask = entry.mask
    if entry.priority or not mask or not _contiguous(mask):
        return None
    found = (entry.mark & mask) >> _lowest_bit(mask)
    return found if 1 <= found <= names.CLASS_MAX else None


def _lowest_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _contiguous(mask: int) -> bool:
    ones = mask >> _lowest_bit(mask)
    return ones & (ones + 1) == 0
