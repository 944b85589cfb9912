"""An ifb: the device that an egress hook redirects to, and that carries one tree of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel.objects import change
from bandwidth_api import names


class Ifb(NamedTuple):
    """An ifb of ours; up, with a transmit queue of 1000 and our alias, or `healthy` is False."""

    healthy: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _OfIfb(change.Step):
    shard: int

    @property
    def touches(self) -> change.Object:
        return change.Object("ifb", names.ifb(self.shard))


@dataclasses.dataclass(frozen=True, slots=True)
class PutIfb(_OfIfb):
    """Create the ifb, or set up, name and alias one that is there."""

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "add", "ifb", names.ifb(self.shard), "up"


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteIfb(_OfIfb, change.Removal):
    """Remove the ifb with its tree."""

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "ifb", names.ifb(self.shard), "with its classes"
