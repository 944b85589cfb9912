"""The filter of a tree that turns a packet's mark into its class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel.objects import change, root


class MarkFilter(NamedTuple):
    """The filter of a Tree that turns the mark under `mask` into a class number.

    `clears`: and takes these bits out of the mark, so that what the packet meets next finds it as it was before us.
    """

    mask: int
    clears: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PutFilter(root.PutIntoTree):
    """Put (or replace) the mark → class filter of a tree."""

    filter: MarkFilter

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "add", "filter", self.device, f"mark/{self.filter.mask:#x} to class"


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteFilter(root.OfTree, change.Undoing):
    """Remove the mark → class filter of a tree."""

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "filter", self.device, "mark to class"
