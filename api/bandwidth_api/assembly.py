"""From the slices that a reader holds to the plan that they make up, and whether it is all of it. Pure.

Owns the rule by which nothing is lifted because something is missing:

    no head                                    nothing is known to be all: not complete
    named by the head, and readable            its entries
    named, but missing or not readable         what it last held; if that is not known either, not complete
    not named                                  its entries: it is new, and the head will name it
    head says retire                           no entries, complete
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from bandwidth_api import slices
from bandwidth_api.plan import Plan, PlanEntry


@dataclasses.dataclass(frozen=True, slots=True)
class Assembly:
    """The plan as far as it is known. While it is not `complete` nothing may be lifted because it is not in it."""

    plan: Plan
    complete: bool
    digest: str  # of what was used
    retire: bool
    used: Mapping[str, slices.Slice]  # to be given as `kept` the next time
    warnings: tuple[str, ...]  # what is missing or cannot be read, in words
    nodes: int = 0  # as the head says, or said last; to be given as `nodes` the next time


def assemble(read: Iterable[slices.Decoded], kept: Mapping[str, slices.Slice], nodes: int = 0) -> Assembly:
    """The plan from all slices there are. `kept`: what the slices of the last plan held (`Assembly.used`).

    `nodes`: as of the last plan. A head that is lost is told by every node, so they must know then how many they are.
    """
    head: slices.Head | None = None
    present: dict[str, slices.Slice] = {}
    unreadable: dict[str, str] = {}
    for item in read:
        match item:
            case slices.Head():
                head = item
            case slices.Slice():
                present[item.name] = item
            case slices.Unreadable():
                unreadable[item.name] = item.message
    if head is not None:
        nodes = head.nodes
    if head is not None and head.retire:
        return Assembly(Plan({}), True, slices.plan_digest({}, retire=True), True, {}, (), nodes)
    named = head.slices if head is not None else tuple(kept)
    used: dict[str, slices.Slice] = dict(present)
    complete = head is not None
    warnings = [f"{name}: {message}" for name, message in unreadable.items()]
    if head is None and slices.HEAD not in unreadable:
        warnings.append("the head of the plan is missing")
    for name in named:
        if name in present:
            continue
        if name in kept:
            used[name] = kept[name]
        else:
            complete = False
        if name not in unreadable:
            warnings.append(f"{name} is missing")
    entries: dict[str, PlanEntry] = {}
    for name in sorted(used):
        for entry in used[name].entries:
            entries.setdefault(entry.limit, entry)
    digest = slices.plan_digest({name: each.digest for name, each in used.items()})
    return Assembly(Plan(entries), complete, digest, False, used, tuple(sorted(warnings)), nodes)
