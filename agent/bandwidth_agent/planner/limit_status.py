"""Works out from one pass which limits are in force, and why the others are not. Pure.

problems found on the way ──┐
problems of the whole node ─┤ the first one counts ──▶ by limit ──▶ the list of the report
objects that are broken ────┤
packets seen past a class ──┘
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.planner import conflicts
from bandwidth_agent.planner.classifier import Classifier, class_ids, guard_set, ownership
from bandwidth_agent.planner.placement import Placement
from bandwidth_api import names, plan
from bandwidth_api.conditions import Problem, Reason


@dataclasses.dataclass(frozen=True, slots=True)
class PassContext:
    """What was known in a pass before anything was written."""

    entries: tuple[plan.PlanEntry, ...]  # all that should be in force, those with a problem included
    problems: Mapping[str, Problem]  # by limit: protected addresses, no class number left
    goal: model.State  # what the limits come to
    classes: Mapping[plan.ClassKey, plan.PlanEntry]  # whose number is in `numbers`
    numbers: Mapping[class_ids.Slot, int]
    placements: Mapping[str, Placement]  # by interface
    classifier: Classifier
    abandoned: frozenset[objects.Object] = frozenset()
    unclear_routes: bool = False  # as in the facts


def problems(
    context: PassContext,
    applied: objects.Applied | None,
    *,
    asleep: Mapping[str, Problem],
    astray: Mapping[str, Problem],
    bypassed: Mapping[str, Problem],
) -> dict[str, Problem]:
    """Return by limit why it is not in force; a limit that is not in the result is in force.

    `asleep`: limits whose packets come to no rule of ours. `astray`: those whose clients are reached another way.
    `bypassed`: those whose packets were seen to leave past their class; any other reason says more.
    """
    found = {**asleep, **context.problems}
    for problem in _of_the_node(context):
        for entry in context.entries:
            found.setdefault(entry.limit, problem)
    broken = {item: _abandoned(item) for item in context.abandoned}
    if applied is not None:
        broken |= {item: _refused(str(item), why.message) for item, why in applied.objects.items()}
    if broken or (applied is not None and not applied.clean):
        limits = {
            number: entry.limit
            for key, entry in context.classes.items()
            if (number := context.numbers.get(class_ids.slot(key, entry))) is not None
        }
        for number, problem in _of_objects(context, applied or objects.Applied(), broken):
            found.setdefault(limits[number], problem)
    wanted = {entry.limit for entry in context.entries} if bypassed else ()
    return {**{name: problem for name, problem in bypassed.items() if name in wanted}, **astray, **found}


def _of_the_node(context: PassContext) -> Iterator[Problem]:
    """Yield the problems that every limit of the node has."""
    if not context.placements:
        why = "none holds a default route or matches the configured names"
        if context.unclear_routes:
            why = "the kernel tells of a default route, but by which interface it leads is not understood"
        yield Problem(
            Reason.NO_EGRESS_INTERFACE,
            f"this node has no interface to shape on: {why}; name one with --interface",
        )
    for name, place in context.placements.items():
        if place.kind == "none":
            yield Problem(place.reason, f"traffic that leaves by {name} is not limited: {place.message}")


def _of_objects(
    context: PassContext, applied: objects.Applied, broken: Mapping[objects.Object, Problem]
) -> Iterator[tuple[int, Problem]]:
    """Yield the class numbers of set entries that depend on a failed object, each with the problem."""
    classes = {
        minor: _refused(f"class {minor:x} on {dev}", why.message) for (dev, minor), why in applied.classes.items()
    }
    everywhere = [
        problem
        for item, problem in broken.items()
        if item.layer in ("hook", "program") or (item.layer == "tree" and item.name in context.placements)
    ]
    for set_name, ipset in context.goal.sets.items():
        guard = context.goal.chains[ipset.family].guard if ipset.family in context.goal.chains else ""
        chain = broken.get(objects.chain_object(ipset.family)) or broken.get(objects.Object("set", set_name))
        chain = chain or broken.get(objects.Object("set", guard)) or broken.get(objects.Object("table", set_name))
        for prefix, entry in ipset.entries.items():
            number = ownership.number(entry)
            if number is None:
                continue
            shard = context.classifier.shard(number)
            failed = applied.entries.get((set_name, prefix)) or next(
                (why for p in (prefix, *guard_set.pieces(prefix)) if (why := applied.entries.get((guard, p)))), None
            )
            problem = (
                next(iter(everywhere), None)
                or chain
                or next((found for item in _beside(shard) if (found := broken.get(item))), None)
                or classes.get(number)
                or (_refused(f"entry in set {set_name}", failed.message) if failed is not None else None)
            )
            if problem is not None:
                yield number, problem


def _beside(shard: int) -> Iterator[objects.Object]:
    """The devices beside the interfaces that hold the classes of a shard, with their trees."""
    for device in (objects.Object("ifb", names.ifb(shard)), objects.Object("pair", names.pair(shard))):
        yield device
        yield objects.Object("tree", device.name)


def _abandoned(item: objects.Object) -> Problem:
    return Problem(
        Reason.CONFLICTING_WRITER,
        f"another program undoes every repair of {item} at once: left alone, and tried again every"
        f" {conflicts.PAUSE_MAX_SECONDS:.0f} s at the latest; find that program and stop it",
    )


def _refused(what: str, message: str) -> Problem:
    return Problem(Reason.KERNEL_REFUSED, f"{what}: {message}; tried again by itself")


def failing(
    problems: Mapping[str, Problem], of_source: Iterable[Problem], file_of: Callable[[str], str]
) -> tuple[Problem, ...]:
    """Return the problems of this pass and of the source as one list by name; a source's problem comes first."""
    found = [*of_source, *(_named(problem, name, file_of(name)) for name, problem in problems.items())]
    found.sort(key=lambda problem: problem.name)
    return tuple(found)


def _named(problem: Problem, name: str, file: str) -> Problem:
    """What its author must change names the file and the field; what the node lacks names neither."""
    if not problem.field:
        return problem._replace(name=name)
    message = f"{file}: {problem}" if file else str(problem)
    return problem._replace(message=message, name=name, file=file)
