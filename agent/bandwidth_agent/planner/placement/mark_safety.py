"""Checks whether our marks and priorities would disturb other programs, or theirs ours. Pure.

    POSTROUTING          rules after ours        egress hook       ifb          the interface's own root, and below it
    ours marks ────▶ who compares or saves ────▶ … redirect ────▶ HTB ────▶ filters by mark, bands by priority
                     the whole mark is spoiled     (skbedit clears our bits on the way, where there is it)

Owns the check: whose comparison or copy of a mark would have another result than without us? Never decides where
limits are enforced (`decision`) or how packets are classified (`classifier`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.settings import ClassifierSetting, Settings

_FREE_THE_MASK = "free bits of the mark for the class (--mark-mask)"
_REMEDY = "give other bits, or --classifier priority with --placement interface"


class Conflict(NamedTuple):
    """Why packets should not be marked and led through an ifb."""

    harmful: bool  # to others; else only our limits would lose their effect
    what: str  # as a clause
    remedy: str


def uses(facts: model.Facts, egress: Iterable[model.Interface]) -> tuple[model.MarkUse, ...]:
    """Return the rules and traffic control filters that use marks of packets leaving by these interfaces.

    Filters at a root see our bits only where the kernel cannot clear them.
    """
    found = [*facts.mark_uses]
    for interface in egress:
        for device in _on_the_way(facts, interface):
            if device.hook_marks:
                where = f"tc filters on the egress hook of {device.name} ({', '.join(device.foreign_egress_filters)})"
                found.append(model.MarkUse(device.hook_marks, where, read=device.hook_marks))
            if device.root.marks and not facts.features.skbedit:
                found.append(model.MarkUse(device.root.marks, _sorted_by_mark(device), read=device.root.marks))
    return tuple(found)


def by_priority(configured: Settings, others: Iterable[model.MarkUse]) -> bool:
    """Return whether packets carry their class as a priority: as configured, else if others use the mark's bits."""
    if configured.classifier is ClassifierSetting.AUTO:
        return any(use.bits & configured.mark_mask for use in others)
    return configured.classifier is ClassifierSetting.PRIORITY


def conflict(
    configured: Settings, facts: model.Facts, others: Collection[model.MarkUse], interface: model.Interface
) -> Conflict | None:
    """Return the first reason why packets of this interface cannot safely go through an ifb; None if there is none.

    With the classifier `mark` as an explicit setting no placement would help, because then HTB needs the mark too.
    """
    if configured.classifier is ClassifierSetting.MARK:
        return None
    priority = by_priority(configured, others)
    bits = configured.redirect_mark if priority else configured.mark_mask
    for device in _on_the_way(facts, interface):
        if device.root.marks & bits and not facts.features.skbedit:
            what = f"{_sorted_by_mark(device)}, which would see ours"
            return Conflict(True, what, "load the module act_skbedit")
    if not priority:
        return None
    for use in others:
        if use.read & bits:
            what = f"the mark bit {bits:#x} that would lead there is compared or saved after ours by {use.where}"
            return Conflict(True, what, f"give that rule a mask without {bits:#x}")
    root = interface.root
    if root.sorts:
        inside = "" if root.sorts == root.kind else f" (in {root.kind})"
        what = f"the root qdisc {root.sorts}{inside} of {interface.name} sorts by the priority that carries the class"
        return Conflict(True, what, _FREE_THE_MASK)
    for use in others:
        if use.rewritten & bits:
            what = f"the mark that would lead there is written after ours by {use.where}"
            return Conflict(False, what, f"give that rule a mask without {bits:#x}")
    if root.ours:
        # Were it to go, the next reading might find a root that sorts by priority, and bring it back.
        what = f"our HTB is at the root of {interface.name} already, and what stood there may sort by priority"
        return Conflict(False, what, _FREE_THE_MASK)
    return None


def warning(others: Iterable[model.MarkUse], bits: int, they_are: str) -> str:
    """Return a warning about other rules that use these bits of the mark; "" if there are none."""
    found = [use for use in others if use.bits & bits and not use.arriving]
    for use in found:
        if use.rewritten & bits:
            return f"mark {they_are} written after ours by {use.where}, so what it matches is not slowed: {_REMEDY}"
    for use in found:
        if use.read & bits:
            spoiled = f"mark {they_are} compared or saved after ours by {use.where}"
            return f"{spoiled}, which then takes packets to limited clients for others: {_REMEDY}"
    return f"mark {they_are} used by {found[0].where}" if found else ""


def priority_warning(others: Iterable[model.MarkUse]) -> str:
    """Return a warning about a rule that writes the priority after ours; "" if there is none."""
    for use in others:
        if use.priority:
            what = f"the priority that carries the class is written after ours by {use.where}"
            return f"{what}, so what it matches is not slowed: {_FREE_THE_MASK}"
    return ""


def _on_the_way(facts: model.Facts, interface: model.Interface) -> Iterator[model.Interface]:
    """Return the interface, and the devices that its packets may pass after it: members of a bridge, lower devices."""
    ahead, seen = [interface], {interface.index}
    while ahead:
        device = ahead.pop()
        yield device
        below = [
            each
            for each in facts.interfaces.values()
            if each.index not in seen and (each.master == device.index or each.index == device.lower)
        ]
        seen.update(each.index for each in below)
        ahead += below


def _sorted_by_mark(device: model.Interface) -> str:
    return f"the root qdisc {device.root.kind} of {device.name} sorts by marks"
