"""Assembles the plan from the slices that a reader holds, and decides whether it is complete. Pure.

Owns the rule by which no limit is lifted because a slice is missing:

    slice                                      what the plan takes from it
    ─────────────────────────────────────────  ─────────────────────────────────────────────────────────────────
    named by the head, and readable            its entries
    named, but missing or not readable         its last known entries; if there are none, the plan is not complete
    not named                                  its entries: it is new, and the head will name it
    the head itself is missing                 the plan is not complete
    the head says retire                       no entries, and the plan is complete

and the rule by which a node that has retired takes limits again (`retired_term`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from bandwidth_api.crds import slices
from bandwidth_api.plan import Plan, PlanEntry


@dataclasses.dataclass(frozen=True, slots=True)
class Assembly:
    """The plan as far as it is known. While it is not `complete`, no limit may be lifted because it is not in it."""

    plan: Plan
    complete: bool
    digest: str  # of what was used
    retire: bool
    used: Mapping[str, slices.Slice]  # to be given as `kept` the next time
    warnings: tuple[str, ...]  # what is missing or cannot be read, in words
    nodes: int = 0  # from the head, or from the last one; to be given as `nodes` the next time


def assemble(read: Iterable[slices.Decoded], kept: Mapping[str, slices.Slice], nodes: int = 0) -> Assembly:
    """Return the plan from all existing slices. `kept`: what the slices of the last plan held (`Assembly.used`).

    `nodes`: as of the last plan. When the head is lost every node reports that, so they must still know their number.
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


AFTER_ANY = -1  # the term of a retirement whose head is gone, or whose term means nothing: every head is of a later one


def retired_term(before: int | None, read: Iterable[slices.Decoded], made: Assembly) -> int | None:
    """Return the term of the retirement that a node follows; None if it follows none. `before`: the last result.

    A head of an earlier term does not end the retirement: it may be the last write of the leader before. A head of the
    same term does: its leader has repaired a head that was edited by hand.
    """
    head: slices.Head | None = None
    there = False
    for item in read:
        if isinstance(item, slices.Head):
            head, there = item, True
        elif item.name == slices.HEAD:
            there = True  # and has nothing that can be read
    if head is None:
        return before if before is None or there else AFTER_ANY
    if head.retire:
        return head.term if head.term < slices.TERM_MAX else AFTER_ANY  # no leader can go beyond such a number
    return None if before is None or (made.complete and head.term >= before) else before
