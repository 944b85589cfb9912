"""Which limits are in force, and why the others are not. Pure: looks at one pass and says what became of each limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from bandwidth_agent import apply, drift
from bandwidth_agent.kernel import model
from bandwidth_agent.placement import Placement
from bandwidth_agent.report import Failing
from bandwidth_api import names, plan
from bandwidth_api.conditions import Reason


class Trouble(NamedTuple):
    reason: Reason
    message: str
    field: str = ""  # the field of the limit that its author must change, if that helps


@dataclasses.dataclass(frozen=True, slots=True)
class Outlook:
    """What a pass knew before it wrote anything."""

    entries: tuple[plan.PlanEntry, ...]  # all that should be in force, those with trouble included
    troubles: Mapping[str, Trouble]  # by limit: protected addresses, no class number left
    placements: Mapping[str, Placement]  # by interface
    number: Callable[[model.SetEntry], int | None]  # the class number that a set entry carries
    shard: Callable[[int], int]  # the shard of a class number
    given_up: frozenset[drift.Object] = frozenset()


def judge(outlook: Outlook, goal: model.State, applied: apply.Applied | None) -> dict[str, Trouble]:
    """What keeps each limit from being in force, by limit; a limit that is not in the answer is in force."""
    troubles = dict(outlook.troubles)
    wanted = [e.limit for e in outlook.entries]
    for trouble in _of_the_node(outlook):
        for limit in wanted:
            troubles.setdefault(limit, trouble)
    broken = {item: _given_up(item) for item in outlook.given_up}
    if applied is not None:
        broken |= {item: _refused(str(item), why.message) for item, why in applied.objects.items()}
    if broken or (applied is not None and not applied.clean):
        by_cut_name = {names.short_limit(limit): limit for limit in wanted}
        for comment, trouble in _of_objects(outlook, goal, applied or apply.Applied(), broken):
            whole_name = by_cut_name.get(names.parse_comment(comment).key.limit)
            if whole_name is not None:
                troubles.setdefault(whole_name, trouble)
    return troubles


def _of_the_node(outlook: Outlook) -> Iterator[Trouble]:
    """Troubles that every limit of the node has."""
    if not outlook.placements:
        yield Trouble(
            Reason.NO_EGRESS_INTERFACE,
            "this node has no interface to shape on: none holds a default route or matches the configured names;"
            " name one with --interface",
        )
    for name, place in outlook.placements.items():
        if place.kind == "none":
            yield Trouble(Reason(place.reason), f"traffic that leaves by {name} is not limited: {place.message}")


def _of_objects(
    outlook: Outlook,
    goal: model.State,
    applied: apply.Applied,
    broken: Mapping[drift.Object, Trouble],
) -> Iterator[tuple[str, Trouble]]:
    """Comments of the set entries that lean on something broken, each with the trouble."""
    classes = {
        minor: _refused(f"class {minor:x} on {dev}", why.message) for (dev, minor), why in applied.classes.items()
    }
    everywhere = [
        t for o, t in broken.items() if o.layer == "hook" or (o.layer == "tree" and o.name in outlook.placements)
    ]
    for set_name, ipset in goal.sets.items():
        chain = broken.get(drift.chain(ipset.family)) or broken.get(drift.Object("set", set_name))
        for prefix, entry in ipset.entries.items():
            if entry.hole:
                continue
            number = outlook.number(entry)
            device = "" if number is None else names.ifb(outlook.shard(number))
            failed = applied.entries.get((set_name, prefix))
            trouble = (
                next(iter(everywhere), None)
                or chain
                or broken.get(drift.Object("ifb", device))
                or broken.get(drift.Object("tree", device))
                or (classes.get(number) if number is not None else None)
                or (_refused(f"entry in set {set_name}", failed.message) if failed is not None else None)
            )
            if trouble is not None:
                yield entry.comment, trouble


def _given_up(item: drift.Object) -> Trouble:
    return Trouble(
        Reason.CONFLICTING_WRITER,
        f"another program keeps changing {item}: repaired {drift.REPAIRS_BEFORE_GIVING_UP} times within"
        f" {drift.WINDOW_SECONDS / 60:.0f} minutes, now left alone; find that program and stop it",
    )


def _refused(what: str, message: str) -> Trouble:
    return Trouble(Reason.KERNEL_REFUSED, f"{what}: {message}; tried again by itself")


def failing(
    troubles: Mapping[str, Trouble], problems: Iterable[Failing], file_of: Callable[[str], str]
) -> tuple[Failing, ...]:
    """Troubles of this pass and problems of the source as one list by name; a source's problem comes first."""
    found = [*problems, *(_failing(name, trouble, file_of(name)) for name, trouble in troubles.items())]
    found.sort(key=lambda f: f.name)
    return tuple(found)


def _failing(name: str, trouble: Trouble, file: str) -> Failing:
    """What its author must change names the file and the field; what the node lacks names neither."""
    if not trouble.field:
        return Failing(name, trouble.reason.value, trouble.message)
    message = ": ".join(filter(None, (file, trouble.field, trouble.message)))
    return Failing(name, trouble.reason.value, message, file, trouble.field)
