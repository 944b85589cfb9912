"""Applies a list of changes in order, and keeps one failure from hurting what does not depend on it.

Owns the rule of what depends on what; never decides what should be there. A failed device is not redirected to, a
failed class gets no entry, a rule does not name a failed set; everything else goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from bandwidth_agent import drift
from bandwidth_agent.kernel import change, interface, model
from bandwidth_api import names
from bandwidth_api.plan import Prefix


@dataclasses.dataclass(slots=True)
class Applied:
    """What became of a list of changes."""

    changes: int = 0  # kernel objects added, altered or removed
    objects: dict[drift.Object, change.Failure] = dataclasses.field(default_factory=dict)
    classes: dict[tuple[str, int], change.Failure] = dataclasses.field(default_factory=dict)  # (device, minor)
    entries: dict[tuple[str, Prefix], change.Failure] = dataclasses.field(default_factory=dict)  # (set, prefix)

    @property
    def clean(self) -> bool:
        return not (self.objects or self.classes or self.entries)


def apply(
    kernel: interface.Kernel,
    changes: Sequence[change.Change],
    number: Callable[[model.SetEntry], int | None],
    checkpoint: Callable[[change.Change], None] | None = None,
) -> Applied:
    """Apply the changes in the order given; `number` reads a class number back from a set entry.

    `checkpoint` is called before each change, for tests that end the process there.
    """
    applied = Applied()
    for step in changes:
        reduced = _without_broken(step, applied, number)
        if reduced is None:
            continue
        if checkpoint is not None:
            checkpoint(reduced)
        _note(kernel.apply_one(reduced), applied)
    return applied


def _note(outcome: change.Outcome, applied: Applied) -> None:
    step = outcome.change
    if outcome.failure is not None:
        applied.objects.setdefault(drift.touched(step), outcome.failure)
        return
    applied.changes += change.size(step) - len(outcome.failed_classes) - len(outcome.failed_entries)
    match step:
        case change.PutClasses(device=name) | change.DeleteClasses(device=name):
            applied.classes.update({(name, minor): why for minor, why in outcome.failed_classes.items()})
        case change.PutSet(name=name) | change.PutEntries(name=name) | change.DeleteEntries(name=name):
            applied.entries.update({(name, prefix): why for prefix, why in outcome.failed_entries.items()})


def _without_broken(
    step: change.Change, applied: Applied, number: Callable[[model.SetEntry], int | None]
) -> change.Change | None:
    """The change without the parts that lean on something that failed; None when nothing is left of it."""
    if applied.clean:
        return step
    own = drift.touched(step)
    broken_minors = {minor for _, minor in applied.classes}
    match step:
        case change.PutRoot() | change.PutClasses() | change.PutFilter():
            device = drift.Object("ifb", step.device)
            return None if own in applied.objects or device in applied.objects else step
        case change.PutHook(hook=hook, observed=observed):
            broken = {s for s in hook.shards if _broken_device(names.ifb(s), applied)}
            kept = broken & (observed.shards if observed is not None else frozenset())
            return dataclasses.replace(step, hook=hook._replace(shards=(hook.shards - broken) | kept))
        case change.PutSet(set=ipset):
            entries = {p: e for p, e in ipset.entries.items() if number(e) not in broken_minors}
            return dataclasses.replace(step, set=dataclasses.replace(ipset, entries=entries))
        case change.PutEntries(entries=entries):
            whole = {p: e for p, e in entries.items() if number(e) not in broken_minors}
            return dataclasses.replace(step, entries=whole) if whole and own not in applied.objects else None
        case change.PutChain(chain=chain):
            rules = tuple(r for r in chain.rules if drift.Object("set", r.set_name) not in applied.objects)
            return dataclasses.replace(step, chain=chain._replace(rules=rules)) if rules else None
        case change.DeleteClasses() | change.DeleteRoot() | change.DeleteIfb() | change.DeleteSet():
            # Something may still lead here if taking it away failed; the next pass tries again.
            leading = {"hook", "chain", "set"} & {item.layer for item in applied.objects}
            return None if leading or own in applied.objects else step
        case _:
            return step


def _broken_device(device: str, applied: Applied) -> bool:
    return drift.Object("ifb", device) in applied.objects or drift.Object("tree", device) in applied.objects
