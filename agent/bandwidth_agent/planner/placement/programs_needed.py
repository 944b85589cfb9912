"""Decides whether programs classify a node's packets instead of rules: where it is configured, or permitted and needed.

    --classifier ebpf                                           always
    auto, and programs can be loaded, and                       rules do otherwise
        a sign of an eBPF datapath is there, or
        packets were seen to leave past limits, or
        programs of ours classify already                       (nothing is seen to leave past them any more)

Pure. Never decides where the classes are (`decision`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from bandwidth_agent.kernel import model
from bandwidth_agent.planner.placement import datapath_sign
from bandwidth_agent.settings import ClassifierSetting, Settings


class Need(NamedTuple):
    """Why programs classify."""

    reason: str  # CamelCase
    message: str


def need(
    configured: Settings, facts: model.Facts, uplinks: Collection[str], observed: model.State, *, bypassed: bool
) -> Need | None:
    """Return why programs are to classify; None where rules do.

    `uplinks`: the interfaces to shape. `bypassed`: packets were seen to leave past a limit of this node.
    """
    if configured.classifier is ClassifierSetting.EBPF:
        return Need("Configured", "configured")
    if configured.classifier is not ClassifierSetting.AUTO or facts.features.ebpf:
        return None
    sign = datapath_sign.of_ebpf(facts.interfaces, uplinks)
    if sign:
        return Need("DatapathFound", f"packets may leave past netfilter here: {sign}")
    if bypassed:
        return Need("PacketsBypassRules", "packets were seen to leave past netfilter")
    if observed.programs:
        return Need("NeededBefore", "it was needed before, and nothing shows that it is not any more")
    return None
