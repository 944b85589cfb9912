"""What kstatus says of an object of a kind that it does not know: the question that Flux, Helm's --wait and kpt ask.

After the rules of sigs.k8s.io/cli-utils/pkg/kstatus: deletion, then the observed generation, then the conditions
Reconciling and Stalled, then Ready; an object that reports nothing counts as Current.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CURRENT = "Current"
IN_PROGRESS = "InProgress"
FAILED = "Failed"
TERMINATING = "Terminating"


def compute(item: Mapping[str, Any]) -> str:
    """One word for the state of an object as read from the API server."""
    metadata, status = item["metadata"], item.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return TERMINATING
    generation = metadata.get("generation")
    if generation is not None and status.get("observedGeneration", generation) != generation:
        return IN_PROGRESS
    conditions = status.get("conditions") or ()
    for condition in conditions:
        if (condition["type"], condition["status"]) == ("Reconciling", "True"):
            return IN_PROGRESS
        if (condition["type"], condition["status"]) == ("Stalled", "True"):
            return FAILED
    for condition in conditions:
        if condition["type"] == "Ready":
            return CURRENT if condition["status"] == "True" else IN_PROGRESS
    return CURRENT
