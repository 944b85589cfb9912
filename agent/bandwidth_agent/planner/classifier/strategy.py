"""The interface of a classifier towards the planner. Owns the interface only."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Protocol

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.objects import lookup_table
from bandwidth_api.plan import ClassKey, PortRange, Prefix, Table


class Carrier(Protocol):
    """A class of the plan that has a class id."""

    @property
    def entry(self) -> objects.SetEntry:
        """What the classifier made of the class id, see `Classifier.entry`."""


@dataclasses.dataclass(slots=True)
class Memo:
    """What the last `match` made. It saves time only: the result is the same without it."""

    entries: dict[int, tuple[Table, Mapping[Prefix, objects.SetEntry]]] = dataclasses.field(default_factory=dict)
    rules: dict[int, tuple[tuple[object, ...], tuple[objects.Rule, ...]]] = dataclasses.field(default_factory=dict)
    numbers: dict[int, tuple[Mapping[Prefix, objects.SetEntry], lookup_table.Numbers]] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Classifier(abc.ABC):
    """One way for packets to find their class, the same for every limit of the node."""

    kind: ClassVar[str]  # as in the report
    reason: str  # CamelCase: why this one was chosen
    message: str
    warning: str = ""  # an explicit setting collides with another program's rule

    @property
    @abc.abstractmethod
    def capacity(self) -> int:
        """The highest class id."""

    @abc.abstractmethod
    def shard(self, number: int) -> int:
        """The device beside the interfaces that holds the class with this id: an ifb, or a pair."""

    @abc.abstractmethod
    def entry(self, number: int, comment: str) -> objects.SetEntry:
        """What gives an address the class with this id; `comment` names the owner (`names.comment`)."""

    @abc.abstractmethod
    def match(self, tables: Sequence[Table], placed: Mapping[ClassKey, Carrier], memo: Memo) -> model.State:
        """The part of the desired state that leads the addresses and ports of these tables to the classes in `placed`.

        `memo.entries` must come from a call with the same entries in `placed`, or be empty.
        """

    @abc.abstractmethod
    def lead(self, ways: Mapping[str, str], shards: Collection[int]) -> model.State:
        """The part of the desired state that leads packets from interfaces to the devices with these shards' classes.

        `ways`: by interface the kind of its placement, none of which is "none".
        """

    @property
    @abc.abstractmethod
    def filter(self) -> objects.MarkFilter | None:
        """The filter with which a tree finds the class; None where HTB finds it by itself."""


Named = tuple[tuple[str, tuple[PortRange, ...]], ...]  # sets of one family, each with the ports it answers for
