"""Works out the kernel state for the wanted limits, and the problems of those that cannot be part of it. Pure.

limits ── protected? ports? ──▶ overlaps ──▶ class ids ──▶ desired state
             └ refused            └ left out    └ none left
"""

from __future__ import annotations

import dataclasses

from bandwidth_agent.kernel import model
from bandwidth_agent.planner import desired, limit_status
from bandwidth_agent.planner.admission import port_budget, protected_addresses
from bandwidth_agent.planner.classifier import Classifier, class_ids
from bandwidth_agent.planner.placement import Placement
from bandwidth_api import plan
from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.conditions import Problem, Reason


@dataclasses.dataclass(slots=True)
class Memo:
    """What the steps of the last pass made, for those of the next. It saves time only: nothing depends on it.

    The one memory of the pure modules below; the reconciler owns it.
    """

    protection: protected_addresses.Protection = dataclasses.field(default_factory=protected_addresses.Protection)
    overlaps: resolve.Memo = dataclasses.field(default_factory=resolve.Memo)
    class_ids: class_ids.Memo = dataclasses.field(default_factory=class_ids.Memo)
    desired: desired.Memo = dataclasses.field(default_factory=desired.Memo)


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """The node as it was read, and how it shapes: what a goal is made for."""

    facts: model.Facts
    observed: model.State
    placements: dict[str, Placement]  # by interface
    classifier: Classifier


def reach(
    entries: tuple[plan.PlanEntry, ...],
    node: Node,
    protected: frozenset[plan.Prefix],
    ids: class_ids.ClassIds,
    memo: Memo,
    now: float,
) -> limit_status.PassContext:
    """Return the goal for these entries. `ids` keeps the class ids that are given; `now` in monotonic seconds."""
    facts, classifier = node.facts, node.classifier
    admitted, problems = memo.protection.sift(entries, protected, facts.spared)
    admitted, beyond = port_budget.sift(admitted)
    resolution = resolve.resolve(admitted, memo.overlaps)
    problems |= {**beyond, **resolution.left_out}
    slots = class_ids.slots(resolution.classes, memo.class_ids)
    assignment = ids.assign(slots.values(), facts, node.observed, classifier.capacity, memo.class_ids)
    if assignment.unplaced:
        full = Problem(
            Reason.CAPACITY_EXCEEDED,
            f"all {classifier.capacity} class numbers of this node are in use;"
            " remove limits, or give a mark mask with more bits",
        )
        numberless = frozenset(assignment.unplaced)
        left_out = {entry.limit for key, entry in resolution.classes.items() if slots[key] in numberless}
        problems |= dict.fromkeys(left_out, full)
        resolution = resolve.resolve(tuple(e for e in admitted if e.limit not in left_out), memo.overlaps)
        slots = class_ids.slots(resolution.classes, memo.class_ids)
        assignment = ids.assign(slots.values(), facts, node.observed, classifier.capacity, memo.class_ids)
    ids.keep(assignment.numbers, now)
    return limit_status.PassContext(
        entries=entries,
        problems=problems,
        goal=desired.build(
            resolution, assignment.numbers, classifier, node.placements, facts, node.observed, memo.desired
        ),
        classes=resolution.classes,
        numbers=assignment.numbers,
        placements=node.placements,
        classifier=classifier,
        unclear_routes=facts.unclear_routes,
    )
