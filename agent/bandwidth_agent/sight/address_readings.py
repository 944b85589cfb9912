"""What was read of the kernel about one address, and what was seen to leave for it: the values. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.sight.truth import judge
from bandwidth_api.plan import Prefix


class Passed(NamedTuple):
    """What left for all clients of a class, and what the class let out meanwhile."""

    packets: int  # on the wire
    left_bytes: int  # with those that found no room
    class_bytes: int

    @property
    def astray(self) -> bool:
        """Whether most of it did not come out of the class; by itself no proof."""
        return 2 * self.class_bytes < self.left_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What a capture saw leave."""

    seconds: float
    packets: int  # to the address, that were looked at
    bytes: float  # with those that found no room
    ports: Mapping[tuple[int, int], float]  # to the address: (protocol, source port) → bytes
    own: Mapping[int, float]  # to the address: number of the class that it should pass (0: none) → bytes
    classes: Mapping[int, Passed]  # to whomever: by number of the class
    bypassed: Mapping[int, judge.Finding]  # by number of the class: the proof that packets leave past it
    lost: int = 0  # packets to whomever that found no room
    class_seconds: float = 0.0  # between the readings of the classes around all captures, which take longer than these

    @property
    def bits_per_second(self) -> float:
        return self.bytes * 8 / self.seconds if self.seconds > 0 else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Readings:
    """What was read of the kernel. None: it could not be read, and `missing` of the answer says why."""

    facts: model.Facts
    state: model.State  # empty where it could not be read
    known: bool  # whether it could
    rules_known: bool  # whether the rules could, which say for which ports a set is asked
    before: model.Counters | None
    after: model.Counters | None
    ways: model.Ways | None
    seen: Seen | None
    shaped: frozenset[str] = frozenset()  # interfaces that hold something of ours
    egress: frozenset[str] = frozenset()  # interfaces that hold something of ours while there is a limit
    peers: Mapping[Prefix, str] = dataclasses.field(default_factory=dict)  # as `contract.Kernel.peers`
