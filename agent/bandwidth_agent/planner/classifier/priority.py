"""The class id in the skb priority: 7cb1:id, which HTB takes without a filter; for an ifb one mark bit redirects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

from bandwidth_agent.kernel import objects
from bandwidth_agent.planner.classifier.sets_and_chain import SetsAndChain
from bandwidth_api import names


@dataclasses.dataclass(frozen=True, slots=True)
class Priority(SetsAndChain):
    kind: ClassVar[str] = "priority"
    mask: int = 0  # the one mark bit that sends a packet to the ifb; 0 where no ifb is used
    clears: bool = False  # that bit is cleared again, once it has led to the ifb
    map_priority: ClassVar[bool] = True

    @property
    def map_mark(self) -> bool:
        """Whether set entries also set a mark: only where a mark bit redirects packets to an ifb."""
        return self.mask != 0

    @property
    def capacity(self) -> int:
        """The highest class id: all of them fit."""
        return names.CLASS_MAX

    def shard(self, number: int) -> int:
        """One ifb for all: only the priority distinguishes classes."""
        return 0

    def entry(self, number: int, comment: str) -> objects.SetEntry:
        """The entry that writes the id into the priority, and the bit into the mark."""
        return objects.SetEntry(self.mask, self.mask, names.HTB_MAJOR << 16 | number, comment)

    def hook(self, shards: Iterable[int]) -> objects.Hook:
        """A hook that looks at the one bit, and clears it."""
        return objects.Hook(self.mask, None, frozenset(shards), self.clears)

    @property
    def filter(self) -> None:
        """None: HTB takes the class from the priority."""
        return None


def number(entry: objects.SetEntry) -> int | None:
    """The class id that an observed entry writes into the priority; None if it writes none of ours."""
    found = entry.priority & 0xFFFF
    return found if entry.priority >> 16 == names.HTB_MAJOR and 1 <= found <= names.CLASS_MAX else None
