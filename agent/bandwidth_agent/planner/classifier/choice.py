"""Chooses the classifier of a node. Owns the choice and its messages; each classifier is a module of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bandwidth_agent import settings
from bandwidth_agent.kernel import model
from bandwidth_agent.planner import placement
from bandwidth_agent.planner.classifier.ebpf import Ebpf
from bandwidth_agent.planner.classifier.mark import Mark
from bandwidth_agent.planner.classifier.priority import Priority
from bandwidth_agent.planner.classifier.strategy import Classifier
from bandwidth_agent.planner.placement import mark_safety, programs_needed


def choose(
    configured: settings.Settings,
    facts: model.Facts,
    placements: Mapping[str, placement.Placement],
    need: programs_needed.Need | None = None,
) -> Classifier:
    """Return this node's classifier: the configured one, else `mark`, or `priority` if others use the mark's bits.

    `need`: why programs classify instead of rules, whatever rules there are.
    """
    if need is not None:
        return Ebpf(need.reason, need.message)
    redirect = configured.redirect_mark if any(p.kind == "ifb" for p in placements.values()) else 0
    others = mark_safety.uses(facts, [facts.interfaces[name] for name in placements if name in facts.interfaces])
    return _chosen(configured, others, redirect, clears=facts.features.skbedit)


def _chosen(
    configured: settings.Settings, others: Sequence[model.MarkUse], redirect: int, *, clears: bool
) -> Classifier:
    found = (mark_safety.warning(others, redirect, f"bit {redirect:#x} is"), mark_safety.priority_warning(others))
    priority_warning = "; ".join(filter(None, found))
    match configured.classifier:
        case settings.ClassifierSetting.MARK:
            warning = mark_safety.warning(others, configured.mark_mask, f"bits {configured.mark_mask:#010x} are")
            message = f"configured; {warning}" if warning else "configured"
            return Mark("Configured", message, warning, configured.mark_mask, clears)
        case settings.ClassifierSetting.PRIORITY:
            message = f"configured; {priority_warning}" if priority_warning else "configured"
            return Priority("Configured", message, priority_warning, redirect, clears and redirect != 0)
        case _ if mark_safety.by_priority(configured, others):
            user = next(use.where for use in others if use.bits & configured.mark_mask)
            message = f"mark bits {configured.mark_mask:#010x} are used by {user}"
            if priority_warning:
                message = f"{message}; and {priority_warning}"
            return Priority("MarkBitsInUse", message, priority_warning, redirect, clears and redirect != 0)
        case _:
            message = f"no other rule uses mark bits {configured.mark_mask:#010x}"
            return Mark("MarkBitsFree", message, "", configured.mark_mask, clears)
