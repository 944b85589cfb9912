"""From a pass to what the node says about itself in the cluster. Pure; the time is put in when it is written."""

from __future__ import annotations

from bandwidth_agent import report
from bandwidth_agent.source import Wanted
from bandwidth_api import node_state

UNDONE = "the kernel is not as wanted yet; the agent tries again"


def state(
    node: str, wanted: Wanted, made: report.Report, *, clean: bool, version: str, interval_seconds: int
) -> node_state.NodeState:
    """The node's state after a pass. `clean`: the kernel is as wanted, nothing is left to be done."""
    messages = list(dict.fromkeys(made.warnings))
    if not clean and wanted.complete and not made.failed:
        messages.append(UNDONE)
    if made.conflicts:
        messages.append(f"another program keeps changing {', '.join(made.conflicts)}; left alone for now")
    return node_state.NodeState(
        node=node,
        plan_digest=wanted.digest or "",
        plan_complete=wanted.complete and not wanted.partial,
        reported_at=0.0,
        desired=made.desired,
        programmed=made.programmed,
        failed=made.failed,
        failing=tuple(
            node_state.FailingLimit(f.name, f.reason, f.message)
            for f in sorted(made.failing, key=lambda f: f.name)[: node_state.FAILING_MAX]
        ),
        interfaces=tuple(
            node_state.InterfaceState(i.name, i.root_qdisc, i.placement, i.reason)
            for i in sorted(made.interfaces, key=lambda i: i.name)
        ),
        classifier=made.classifier,
        classifier_reason=made.classifier_reason,
        missing_features=tuple(sorted(made.missing_features)),
        version=version,
        report_interval_seconds=interval_seconds,
        retired=wanted.retire and clean,
        message="; ".join(messages),
    )
