"""Makes the node's state in the cluster from the report of a pass, and tells whether two of them say the same.

Pure; the time is added when it is written.
"""

from __future__ import annotations

from typing import Any

from bandwidth_agent import report
from bandwidth_agent.limits import Wanted
from bandwidth_api.crds import node_state

Object = dict[str, Any]

_REMEDY = "; agent.ebpf.enabled=true helps"

UNDONE = "the kernel is not as wanted yet; the agent tries again"


def state(
    node: str, wanted: Wanted, made: report.Report, *, clean: bool, version: str, interval_seconds: int
) -> node_state.NodeState:
    """Return the node's state after a pass. `clean`: the kernel holds everything that it should hold."""
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
        failing=tuple(sorted(made.failing, key=lambda problem: problem.name)[: node_state.FAILING_MAX]),
        interfaces=tuple(
            node_state.InterfaceState(i.name, i.root_qdisc, i.placement, i.reason.value)
            for i in sorted(made.interfaces, key=lambda i: i.name)
        ),
        classifier=made.classifier,
        classifier_reason=made.classifier_reason,
        missing_features=tuple(sorted(made.missing_features)),
        version=version,
        report_interval_seconds=interval_seconds,
        retired=wanted.retire and clean,
        message="; ".join(messages),
        datapath_sign=_sign(made),
        verified=made.verified,
        verified_count=made.checked["verified"],
        bypassed=made.bypassed,
    )


def _sign(made: report.Report) -> str:
    """The sign of a datapath, with the value of the chart that helps against what it is about, if one does."""
    if not made.ebpf_helps:
        return made.datapath_sign
    return made.datapath_sign[: node_state.SIGN_MAX - len(_REMEDY)] + _REMEDY


def same(there: Object, ours: Object) -> bool:
    """Return whether a status in the cluster says what ours says, apart from the time and from verified limits.

    What a server leaves out, because its CRD is older, counts as nothing. `why` is made of the other fields.
    """
    before, after = _gist(there), _gist(ours)
    return all(before.get(key) == value for key, value in after.items() if value or key in before)


def _gist(status: Object) -> Object:
    kept = {key: value for key, value in status.items() if key not in ("lastReportTime", "why", "verified", "limits")}
    limits = status.get("limits")
    for key, value in limits.items() if isinstance(limits, dict) else ():
        if key != "verified":
            kept[f"limits.{key}"] = value
    kept["datapathSign"] = bool(status.get("datapathSign"))  # another device of the same datapath is no news
    return kept
