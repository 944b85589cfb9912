"""Our chain of one family, with the jump to it: its rules look a packet's destination up in the sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel.objects import change, port_text
from bandwidth_api import names
from bandwidth_api.plan import PortRange

EPHEMERAL_FIRST = 32_768  # from here the kernel takes ports for connections of its own, unless told otherwise


class Rule(NamedTuple):
    """One rule of our chain: look the destination up in a set and take what its entry has."""

    set_name: str
    ports: PortRange | None  # None: every port and protocol; else the port that the client dialled (conntrack)
    map_mark: bool
    map_priority: bool


class Chain(NamedTuple):
    """Our chain in one family's mangle table. Desired: `jump_first`, the first rule of POSTROUTING leads to it.

    Rules without ports come first, and of two rules for the same port the later one wins. `chain_layout` decides how
    rules for ports are spread over chains, so that a packet passes few of them.
    """

    rules: tuple[Rule, ...]
    jump_first: bool
    guard: str = ""  # the set that a packet's destination must be in to be looked up at all; "": every packet is


def chain_object(family: int) -> change.Object:
    """The chain of a family as one object."""
    return change.Object("chain", f"IPv{family} {names.CHAIN}")


@dataclasses.dataclass(frozen=True, slots=True)
class _OfChain(change.Step):
    family: int

    @property
    def touches(self) -> change.Object:
        return chain_object(self.family)


@dataclasses.dataclass(frozen=True, slots=True)
class PutChain(_OfChain):
    """Write our chain whole and make the jump to it the first rule of POSTROUTING, in one transaction."""

    chain: Chain

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        looked_up = f" for destinations in {self.chain.guard}" if self.chain.guard else ""
        yield "put", "chain", names.CHAIN, f"IPv{self.family}, from the first rule of POSTROUTING{looked_up}"
        for rule in self.chain.rules:
            yield "put", "rule", names.CHAIN, f"{_packets(rule.ports)} look up the destination in {rule.set_name}"

    def without_broken(self, applied: change.Applied, number: change.ClassNumber) -> PutChain | None:
        """No rule names a set that failed; without a whole guard every packet is looked up."""
        failed = {item.name for item in applied.objects if item.layer == "set"}
        rules = tuple(rule for rule in self.chain.rules if rule.set_name not in failed)
        guard = "" if self.chain.guard in failed | {name for name, _ in applied.entries} else self.chain.guard
        return dataclasses.replace(self, chain=self.chain._replace(rules=rules, guard=guard)) if rules else None


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteChain(_OfChain, change.Undoing):
    """Remove our chain and the jump to it."""

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "chain", names.CHAIN, f"IPv{self.family}, and the jump to it"


def _packets(ports: PortRange | None) -> str:
    return "all packets:" if ports is None else f"{port_text.of(ports)}:"
