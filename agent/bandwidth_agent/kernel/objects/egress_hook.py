"""Our filters on the egress hook of an interface: they send marked packets to the ifb of their shard."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bandwidth_agent.kernel.objects import change, root
from bandwidth_api import names


class Hook(NamedTuple):
    """Our filters on the egress hook of one interface.

    A packet whose masked mark is 0 leaves at the first filter. Otherwise shard = (mark & mask) >> shift, and the
    packet goes to that shard's ifb; with `shift` None every packet with a non-zero masked mark goes to shard 0.
    `clears`: and these bits are taken out of its mark on the way there.
    """

    mask: int
    shift: int | None
    shards: frozenset[int]
    clears: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class _OfHook(change.Step):
    interface: str

    @property
    def touches(self) -> change.Object:
        return change.Object("hook", self.interface)


@dataclasses.dataclass(frozen=True, slots=True)
class PutHook(_OfHook):
    """Make the egress hook of an interface lead to the ifbs, adding a clsact qdisc if none is there.

    Only adds and replaces filters; shards that are no longer wanted stay in `hook` until `TrimHook`.
    """

    hook: Hook
    observed: Hook | None

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        verb = "change" if self.observed else "add"
        yield verb, "filter", self.interface, "egress", f"mark/{self.hook.mask:#x} to {_ifbs(self.hook.shards)}"

    def without_broken(self, applied: change.Applied, number: change.ClassNumber) -> PutHook:
        """Return the change without new redirects to failed devices; a redirect that exists stays."""
        broken = {shard for shard in self.hook.shards if not _failed(names.ifb(shard)).isdisjoint(applied.objects)}
        kept = broken & (self.observed.shards if self.observed is not None else frozenset())
        return dataclasses.replace(self, hook=self.hook._replace(shards=(self.hook.shards - broken) | kept))


def _failed(device: str) -> set[change.Object]:
    return {change.Object("ifb", device), root.of(device)}


@dataclasses.dataclass(frozen=True, slots=True)
class TrimHook(_OfHook, change.Undoing):
    """Take away the redirects to shards that nothing is marked for any more."""

    shards: frozenset[int]

    @property
    def size(self) -> int:
        return len(self.shards)

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "filter", self.interface, "egress", f"to {_ifbs(self.shards)}"


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteHook(_OfHook, change.Undoing):
    """Remove our filters from an interface's egress hook, and the clsact qdisc if it was ours."""

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "filter", self.interface, "egress", "all of ours"


def _ifbs(shards: Iterable[int]) -> str:
    found = sorted(shards)
    if len(found) > 3 and found == list(range(found[0], found[-1] + 1)):
        return f"{names.ifb(found[0])} … {names.ifb(found[-1])}"
    return ", ".join(map(names.ifb, found))
