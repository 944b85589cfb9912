"""Our program on the way out of an interface: it looks destinations up in the tables, and gives packets their class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel.objects import change, root
from bandwidth_api import names


class Program(NamedTuple):
    """Our program on one interface's way out.

    shard: the pair that it sends packets with a class to; None: they go on with their class as their priority, for
        the tree at the interface's own root.
    first: no program that could take packets away comes before it. Desired: True.
    sound: it has the code of this version of the agent, looks into the tables that we write, and is kept by the
        kernel whether an agent runs or not. Desired: True.
    """

    shard: int | None
    first: bool = True
    sound: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class _OfProgram(change.Step):
    interface: str

    @property
    def touches(self) -> change.Object:
        return change.Object("program", self.interface)


@dataclasses.dataclass(frozen=True, slots=True)
class PutProgram(_OfProgram):
    """Make our program the first on an interface's way out; one that is there is replaced between two packets."""

    program: Program
    observed: Program | None

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        shard = self.program.shard
        way = "on with its class as priority" if shard is None else f"to {names.pair(shard)}"
        verb = "change" if self.observed else "add"
        yield verb, "ebpf", self.interface, f"egress, first of all: what the tables have goes {way}"

    def without_broken(self, applied: change.Applied, number: change.ClassNumber) -> PutProgram | None:
        """Nothing is sent to a pair that failed, and nothing gets a class that no tree has."""
        shard = self.program.shard
        device = self.interface if shard is None else names.pair(shard)
        needed = {change.Object("pair", device), root.of(device)}
        return self if needed.isdisjoint(applied.objects) else None


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteProgram(_OfProgram):
    """Remove our program from an interface, and a clsact qdisc that it needed and that was ours."""

    removes = True

    def without_broken(self, applied: change.Applied, number: change.ClassNumber) -> DeleteProgram | None:
        """Where rules take over what programs did, these stay until rules do so for every client."""
        return self if applied.rules_stand_in and not applied.entries else None

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "ebpf", self.interface, "egress"
