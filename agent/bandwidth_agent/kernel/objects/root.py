"""Our HTB as the root qdisc of a device: what classes and the mark filter of that device stand in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from bandwidth_agent.kernel.objects import change
from bandwidth_api import names


def of(device: str) -> change.Object:
    """The whole tree of a device as one object: root, classes, leaves and filter are repaired together."""
    return change.Object("tree", device)


def classid(minor: int) -> str:
    """A class as `tc` writes it."""
    return f"{names.HTB_MAJOR:x}:{minor:x}"


@dataclasses.dataclass(frozen=True, slots=True)
class OfTree(change.Step):
    """A change of the tree of `device`."""

    device: str

    @property
    def touches(self) -> change.Object:
        return of(self.device)


class PutIntoTree(OfTree):
    """A change that adds to a tree: of no use where the device or the tree failed."""

    __slots__ = ()

    def without_broken(
        self: change.SomeStep, applied: change.Applied, number: change.ClassNumber
    ) -> change.SomeStep | None:
        name = self.touches.name
        needed = {self.touches, change.Object("ifb", name), change.Object("pair", name)}
        return self if needed.isdisjoint(applied.objects) else None


@dataclasses.dataclass(frozen=True, slots=True)
class PutRoot(PutIntoTree):
    """Make our HTB the root of a device, over whatever default root it has."""

    default_minor: int

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        default = self.default_minor
        rest = f"everybody else: class {classid(default)}" if default else "everybody else: as without it"
        yield "add", "qdisc", self.device, f"htb {names.HTB_MAJOR:x}: as root", rest


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteRoot(OfTree, change.Removal):
    """Remove our HTB from a device; the kernel puts its default root back."""

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "qdisc", self.device, f"htb {names.HTB_MAJOR:x}:", "the original root comes back"
