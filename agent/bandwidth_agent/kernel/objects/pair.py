"""A pair of veth devices beside the interfaces: a program sends packets into it, and behind its classes they come back.

egress of eth0             cblv0                      cblp0                         egress of eth0
Program: its class,   ──▶  Tree: HTB class, leaf ──▶  on arrival, a program   ──▶   Program: from the pair, so it
on to the pair                                        sends it back to eth0         leaves as if we were not there
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel.objects import change
from bandwidth_api import names


class Pair(NamedTuple):
    """A pair of ours; both ends as we make them, with our program on the peer's way in, or `healthy` is False."""

    healthy: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _OfPair(change.Step):
    shard: int

    @property
    def touches(self) -> change.Object:
        return change.Object("pair", names.pair(self.shard))


@dataclasses.dataclass(frozen=True, slots=True)
class PutPair(_OfPair):
    """Create the pair with the program that sends packets back, or set up one that is there."""

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "add", "pair", names.pair(self.shard), f"veth, up; what arrives at {names.peer(self.shard)} goes on"


@dataclasses.dataclass(frozen=True, slots=True)
class DeletePair(_OfPair, change.Removal):
    """Remove the pair with its tree and its program."""

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "pair", names.pair(self.shard), "with its classes"
