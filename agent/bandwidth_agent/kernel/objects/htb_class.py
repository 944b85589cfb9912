"""An HTB class with its leaf, in the kernel's units: what limits one client, or several that share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel.objects import change, root
from bandwidth_agent.kernel.objects.leaf import Leaf
from bandwidth_api import units

TICK_NS = 64  # one psched tick, in which HTB and TBF count their buffers
UNLIMITED_BYTES_PER_SECOND = 50_000_000_000  # 400 Gbit: the rate at which no class and no TBF of ours delays


class HtbClass(NamedTuple):
    """One HTB class in the kernel's units."""

    parent: int  # minor of the parent class, 0 for the root
    rate: int  # bytes per second
    ceil: int  # bytes per second
    burst_ticks: int  # 64 ns each
    cburst_ticks: int
    quantum: int  # bytes
    leaf: Leaf | None  # None: a class with children


@dataclasses.dataclass(frozen=True, slots=True)
class PutClasses(root.PutIntoTree):
    """Create classes with their leaves, or change them in place where `observed` has the minor."""

    classes: Mapping[int, HtbClass]
    observed: Mapping[int, HtbClass]  # of the same minors, those that exist

    @property
    def size(self) -> int:
        return len(self.classes)

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        for minor, wanted in sorted(self.classes.items(), key=lambda item: (item[1].parent != 0, item[0])):
            standing = self.observed.get(minor)
            rate = units.show_rate(wanted.rate * 8)
            if standing is not None and standing.rate != wanted.rate:
                rate = f"{units.show_rate(standing.rate * 8)} → {rate}"
            burst = units.show_bytes(wanted.burst_ticks * TICK_NS * wanted.rate // 1_000_000_000)
            words = " ".join(filter(None, (labels.of(minor), _how(wanted))))
            verb = "add" if standing is None else "change"
            yield verb, "class", self.device, root.classid(minor), rate, f"burst {burst}", words


def _how(wanted: HtbClass) -> str:
    if wanted.ceil > wanted.rate:
        return "observe, slow nothing"
    return "no limit" if wanted.rate >= UNLIMITED_BYTES_PER_SECOND else ""


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteClasses(root.OfTree, change.Removal):
    """Remove classes with their leaves."""

    minors: frozenset[int]

    @property
    def size(self) -> int:
        return len(self.minors)

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        for minor in sorted(self.minors):
            yield "delete", "class", self.device, root.classid(minor), labels.of(minor)
