"""What all changes have in common: the object that one touches, its size, its text, and what becomes of it.

A change is one step from the observed to the desired kernel state, as a value: it can be printed, counted and applied.
Owns the base of all changes; the changes themselves stand beside the type of their object. Does no I/O.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Literal, NamedTuple, TypeVar, get_args

from bandwidth_agent.kernel.objects.set_entry import SetEntry
from bandwidth_api import names
from bandwidth_api.plan import Prefix

Row = tuple[str, ...]  # verb, noun, cells of one line
ClassNumber = Callable[[SetEntry], int | None]  # the class that an entry leads to; None for a hole or another program's

Layer = Literal["ifb", "pair", "tree", "hook", "table", "program", "set", "chain"]
LAYERS: tuple[Layer, ...] = get_args(Layer)

SomeStep = TypeVar("SomeStep", bound="Step")


class Object(NamedTuple):
    """One kernel object of ours as another program sees it: a device, a tree, a hook, a program, a set …"""

    layer: Layer
    name: str

    def __str__(self) -> str:
        return f"{self.layer} {self.name}"


class Labels(NamedTuple):
    """What a reader calls the classes: the names of their limits."""

    number: ClassNumber
    limits: Mapping[int, str]  # by class number

    def of(self, minor: int) -> str:
        """The limit of a class in brackets, or what the class is for; "" if neither is known."""
        if minor == names.OBSERVE_PARENT:
            return "(parent of the observed)"
        if minor == names.DEFAULT_CLASS:
            return "(everybody else)"
        return f"({self.limits[minor]})" if minor in self.limits else ""


class Step(abc.ABC):
    """One change. What is not overridden here is what most changes have."""

    __slots__ = ()

    removes: ClassVar[bool] = False  # whether it takes something away; such changes wait for the first complete plan

    @property
    @abc.abstractmethod
    def touches(self) -> Object:
        """The object that this change is about."""

    @property
    def size(self) -> int:
        """How many kernel objects this change adds, alters or removes."""
        return 1

    @abc.abstractmethod
    def rows(self, labels: Labels) -> Iterator[Row]:
        """Its lines for a reader, one per elementary step, in the order in which they are applied."""

    def without_broken(self: SomeStep, applied: Applied, number: ClassNumber) -> SomeStep | None:
        """This change without the parts that depend on something that failed; None when nothing is left of it."""
        return self


class Undoing(Step):
    """A change that takes away a part of the way of packets through rules and hooks to their classes."""

    __slots__ = ()

    removes: ClassVar[bool] = True

    def without_broken(self: SomeStep, applied: Applied, number: ClassNumber) -> SomeStep | None:
        """Where programs take over what rules did, the old way stays until the new one is whole."""
        return self if applied.programs_stand_in else None


class Removal(Step):
    """A change that takes away what nothing leads to any more."""

    __slots__ = ()

    removes: ClassVar[bool] = True

    def without_broken(self: SomeStep, applied: Applied, number: ClassNumber) -> SomeStep | None:
        """Something may still lead here if taking it away failed; the next pass tries again."""
        leading = {"hook", "chain", "set"} & {item.layer for item in applied.objects}
        whole = not leading and applied.programs_stand_in
        return self if whole and self.touches not in applied.objects else None


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a part of a change did not happen. `errno` 0 where a command failed without one."""

    errno: int
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change.

    `failure`: the change as a whole failed; `failed_classes` and `failed_entries` name the parts that did while the
    rest was applied.
    """

    change: Step
    failure: Failure | None = None
    failed_classes: Mapping[int, Failure] = dataclasses.field(default_factory=dict)
    failed_entries: Mapping[Prefix, Failure] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class Applied:
    """What became of a list of changes."""

    changes: int = 0  # kernel objects added, altered or removed
    objects: dict[Object, Failure] = dataclasses.field(default_factory=dict)
    classes: dict[tuple[str, int], Failure] = dataclasses.field(default_factory=dict)  # (device, minor)
    entries: dict[tuple[str, Prefix], Failure] = dataclasses.field(default_factory=dict)  # (set or table, prefix)
    cut: set[Object] = dataclasses.field(default_factory=set)  # changes to these were left out, or parts of them

    @property
    def clean(self) -> bool:
        """Whether nothing failed."""
        return not (self.objects or self.classes or self.entries)

    @property
    def programs_stand_in(self) -> bool:
        """Whether programs can do what rules did: nothing that they need failed or was left out."""
        return self._whole("pair", "table", "program") and not any(
            device.startswith(names.PAIR_PREFIX) for device, _ in self.classes
        )

    @property
    def rules_stand_in(self) -> bool:
        """Whether rules and hooks can do what programs did, likewise."""
        return self._whole("ifb", "hook", "set", "chain") and not any(
            device.startswith(names.IFB_PREFIX) and not device.startswith(names.PAIR_PREFIX)
            for device, _ in self.classes
        )

    def _whole(self, *layers: str) -> bool:
        return all(item.layer not in layers for item in (*self.objects, *self.cut))

    def note(self, outcome: Outcome) -> None:
        """Add what became of one more change."""
        touched = outcome.change.touches
        if outcome.failure is not None:
            self.objects.setdefault(touched, outcome.failure)
            return
        self.changes += outcome.change.size - len(outcome.failed_classes) - len(outcome.failed_entries)
        self.classes.update({(touched.name, minor): why for minor, why in outcome.failed_classes.items()})
        self.entries.update({(touched.name, prefix): why for prefix, why in outcome.failed_entries.items()})
