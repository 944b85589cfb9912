"""Decides which slice holds which limit. Pure.

A limit stays in the slice where it is as long as it lives, so that one edit rewrites one object. New ones fill the
slices that have room, by number, then make new slices. A slice that becomes empty is deleted. Room is counted in limits
and in bytes: etcd takes no object of more than 1.5 MB, and a hundred limits with the longest selectors are 5 MB.

The head also has the approximate number of nodes that run an agent. It is rounded, so that it changes rarely, because
every node reads it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import operator
from collections.abc import Mapping, MutableMapping, Sequence

from bandwidth_api.crds import slices
from bandwidth_api.plan import Plan, PlanEntry, write_entry

SLICE_SIZE = 100
SLICE_BYTES = 500_000  # of JSON; a usual slice has 30,000, so that edits may enlarge it
FEW_NODES = 256  # so many may report at once, and the head does not count them


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """The writes that make the slices equal to the plan, in this order."""

    puts: tuple[slices.Slice, ...]  # new ones and those whose content changed
    head: slices.Head | None  # None: it names the right ones already
    deletes: tuple[str, ...]

    @property
    def writes(self) -> int:
        return len(self.puts) + (self.head is not None) + len(self.deletes)


def steps(
    plan: Plan,
    existing: Mapping[str, slices.Decoded],
    *,
    term: int,
    nodes: int = 0,
    size: int = SLICE_SIZE,
    made: MutableMapping[str, slices.Slice] | None = None,
) -> Steps:
    """Return the difference between the plan and the existing slices, by name; empty if they are equal.

    `nodes`: how many nodes run an agent.
    `made` holds the slices made from the last plan of this term, and is updated: a slice whose entries are the same
    objects as before is not encoded again to compare it. That saves time and does not change the result.
    """
    made = {} if made is None else made
    present = {name: item for name, item in existing.items() if isinstance(item, slices.Slice)}
    members = _members(plan, present, size)
    puts = []
    for name in sorted(members):
        wanted = made[name] = _make(name, members[name], term, made.get(name))
        if name not in present or present[name].digest != wanted.digest:
            puts.append(wanted)
    for name in made.keys() - members.keys():
        del made[name]
    named = tuple(sorted(members))
    head = existing.get(slices.HEAD)
    before = head if isinstance(head, slices.Head) else slices.Head(())
    wanted_head = slices.Head(named, term=term, nodes=_rounded(nodes, before.nodes))
    planned_head = dataclasses.replace(before, term=term, traffic=None, watching=None)
    head_is_right = head is before and planned_head == wanted_head
    deletes = tuple(sorted(name for name in existing if name not in members and name != slices.HEAD))
    return Steps(tuple(puts), None if head_is_right else wanted_head, deletes)


def _rounded(nodes: int, written: int) -> int:
    """Return the number of nodes for the head: the next power of two, 0 for few; or the written number.

    A number that is too small lets too many nodes report at once, so it grows with the first node too many. One that is
    too large only delays reports, so it shrinks when three quarters of the nodes are gone. So a cluster that loses half
    of its nodes each night and gains them again each morning never has its head rewritten.
    """
    least = 1 << (nodes - 1).bit_length() if nodes > FEW_NODES else 0
    return written if least <= written < 4 * nodes else least


def _make(name: str, members: Sequence[PlanEntry], term: int, before: slices.Slice | None) -> slices.Slice:
    if before is not None and before.term == term and len(before.entries) == len(members):
        ordered = sorted(members, key=lambda e: e.limit)
        if all(map(operator.is_, ordered, before.entries)):
            return before
    return slices.make(name, members, term)


def _members(plan: Plan, present: Mapping[str, slices.Slice], size: int) -> dict[str, list[PlanEntry]]:
    members: dict[str, list[PlanEntry]] = {}
    placed: set[str] = set()
    for name in sorted(present):
        if slices.slice_number(name) is None:
            continue  # not of our making: its limits move, and it goes
        for entry in present[name].entries:
            wanted = plan.entries.get(entry.limit)
            if wanted is not None and entry.limit not in placed:
                members.setdefault(name, []).append(wanted)
                placed.add(entry.limit)
    waiting = [entry for name, entry in sorted(plan.entries.items()) if name not in placed]
    number = 0
    while waiting:
        name = slices.slice_name(number)
        if fitting := _fitting(waiting, members.get(name, ()), size):
            members.setdefault(name, []).extend(waiting[:fitting])
            del waiting[:fitting]
        number += 1
    return members


def _fitting(waiting: Sequence[PlanEntry], there: Sequence[PlanEntry], size: int) -> int:
    """Return how many waiting entries fit into a slice beside its present ones; into an empty one at least one."""
    most = size - len(there)
    if most <= 0:
        return 0
    sizes = itertools.accumulate(map(_bytes, waiting[:most]), initial=sum(map(_bytes, there)))
    fitting = sum(total <= SLICE_BYTES for total in sizes) - 1
    return max(fitting, 0 if there else 1)


def _bytes(entry: PlanEntry) -> int:
    return len(json.dumps(write_entry(entry)))
