"""From a verdict to the status of a limit, in words that say what to do. Pure.

Accepted     the limit can be used as it is written
Programmed   every node that should enforce it does, in its present form
Ready        accepted, programmed and in force now
Conflicted   another limit wins over it for some address
Stalled      it cannot be used as it is written, so only an edit helps; there while it is so
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from bandwidth_api import burst, conditions, units
from bandwidth_api import limit as limits
from bandwidth_api.conditions import Condition, ConditionType, Reason, Status
from bandwidth_api.plan import PlanEntry
from bandwidth_operator import known
from bandwidth_operator.rollup import FailingNode, Verdict

WINNERS_NAMED = 3
MESSAGE_MAX = 512  # of one failing node, as in the CRD


def status(verdict: Verdict, limit: known.Limit, now: float) -> dict[str, Any]:
    """The whole status to write. The same verdict over the same written status gives the same status."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    written = [c for c in limit.status.get("conditions") or () if isinstance(c, Mapping)]
    if not verdict.rejected:
        written = [c for c in written if c.get("type") != ConditionType.STALLED]
    found: dict[str, Any] = {
        "observedGeneration": limit.generation,
        "nodes": {"desired": verdict.desired, "programmed": verdict.programmed, "failed": verdict.failed},
        "conditions": conditions.merge(written, _conditions(verdict), observed_generation=limit.generation, now=moment),
    }
    expires_at = _expires_at(verdict, limit)
    if expires_at is not None:
        found["expiresAt"] = expires_at
    if verdict.entry is not None:
        found["effective"] = _effective(verdict.entry, limit)
    if verdict.failing:
        found["failingNodes"] = [
            {"name": n.name, "reason": n.reason[:64], "message": n.message[:MESSAGE_MAX]} for n in verdict.failing
        ]
    return found


def retired(written: Mapping[str, Any], missing: int, now: float) -> dict[str, Any] | None:
    """What to merge into a written status when the nodes, but for `missing`, have removed everything; None: nothing.

    Only a status that speaks of nodes becomes untrue by that: also one that says that some have failed, or, written by
    the operator while the nodes retired, that they have stopped to report.
    """
    said = [c for c in written.get("conditions") or () if isinstance(c, Mapping)]
    in_force = (ConditionType.PROGRAMMED, ConditionType.READY)
    claims = any(c.get("type") in in_force and c.get("status") == Status.TRUE for c in said)
    if not claims and not any((written.get("nodes") or {}).values()):
        return None
    but = {0: "", 1: " but for one node that could not be reached"}.get(
        missing, f" but for {missing} nodes that could not be reached"
    )
    message = (
        f"bandwidth-operator retire had every node remove it{but}; an operator that is installed again puts it in force"
    )
    now_said = conditions.merge(
        said,
        [Condition(kind, Status.FALSE, Reason.RETIRED, message) for kind in in_force],
        observed_generation=int(written.get("observedGeneration") or 0),
        now=datetime.datetime.fromtimestamp(now, datetime.UTC),
    )
    return {
        "nodes": {"desired": 0, "programmed": 0, "failed": 0},
        "conditions": now_said,
        "failingNodes": None,
    }


def _conditions(verdict: Verdict) -> Iterator[Condition]:
    accepted = _accepted(verdict)
    programmed = _programmed(verdict)
    yield accepted
    yield programmed
    yield _ready(verdict, accepted, programmed)
    yield _conflicted(verdict)
    if verdict.rejected:
        yield accepted._replace(type=ConditionType.STALLED, status=Status.TRUE)


def _accepted(verdict: Verdict) -> Condition:
    if not verdict.rejected:
        return Condition(ConditionType.ACCEPTED, Status.TRUE, Reason.ACCEPTED, "the limit can be used as it is written")
    first = verdict.rejected[0]
    more = f" (and {len(verdict.rejected) - 1} more)" if len(verdict.rejected) > 1 else ""
    return Condition(ConditionType.ACCEPTED, Status.FALSE, first.reason, f"{first}{more}")


def _programmed(verdict: Verdict) -> Condition:
    def no(reason: Reason, message: str) -> Condition:
        return Condition(ConditionType.PROGRAMMED, Status.FALSE, reason, message)

    if verdict.left_out is not None:
        return no(verdict.left_out.reason, str(verdict.left_out))
    if verdict.rejected and verdict.entry is None:
        return no(verdict.rejected[0].reason, "the limit is on no node, because it cannot be used as it is written")
    if verdict.desired == 0:
        return no(Reason.NO_NODE_SELECTED, _nobody(verdict))
    if verdict.failing:
        first = verdict.failing[0]
        return no(
            _reason(first),
            f"not in force on {verdict.failed} of {verdict.desired} nodes; {first.name}: {first.message}",
        )
    if not verdict.published:
        return no(Reason.PENDING, "the limit is on its way to the nodes")
    if verdict.programmed < verdict.desired:
        behind = verdict.desired - verdict.programmed
        return no(
            Reason.PENDING,
            f"{behind} of {verdict.desired} nodes have not taken it up yet; if that lasts longer than a few seconds,"
            " look at kubectl get nodebandwidthstates",
        )
    kept = "an earlier version of the limit is in force" if verdict.rejected else "in force"
    return Condition(ConditionType.PROGRAMMED, Status.TRUE, Reason.PROGRAMMED, f"{kept} on {_all(verdict.desired)}")


def _ready(verdict: Verdict, accepted: Condition, programmed: Condition) -> Condition:
    if verdict.rejected and verdict.entry is not None:
        message = f"what is written now cannot be used, what was accepted before stays in force; {accepted.message}"
        return Condition(ConditionType.READY, Status.FALSE, Reason.KEPT_PREVIOUS, message)
    for part in (accepted, programmed):
        if part.status is not Status.TRUE:
            return part._replace(type=ConditionType.READY)
    mode = "" if verdict.entry is None or verdict.entry.mode.value == "Enforce" else ", only counting (mode Observe)"
    return Condition(ConditionType.READY, Status.TRUE, Reason.READY, f"in force on {_all(verdict.desired)}{mode}")


def _conflicted(verdict: Verdict) -> Condition:
    if not verdict.winners:
        return Condition(ConditionType.CONFLICTED, Status.FALSE, Reason.NO_CONFLICT, "no other limit wins over it")
    named = ", ".join(verdict.winners[:WINNERS_NAMED])
    more = " and others" if len(verdict.winners) > WINNERS_NAMED else ""
    message = (
        f"for some of its addresses {named}{more} wins; a higher spec.priority, then a longer prefix,"
        " then the older limit wins: change one of them if that is not meant"
    )
    return Condition(ConditionType.CONFLICTED, Status.TRUE, Reason.OVERRIDDEN, message)


def _nobody(verdict: Verdict) -> str:
    if verdict.agents == 0:
        return "no node runs an agent that has reported; look at the DaemonSet client-bandwidth-agent"
    return (
        f"none of the {verdict.agents} nodes that run an agent has the labels of spec.nodeSelector;"
        " change the selector or label a node"
    )


def _all(nodes: int) -> str:
    return "the one node" if nodes == 1 else f"all {nodes} nodes"


def _reason(node: FailingNode) -> Reason:
    try:
        return Reason(node.reason)
    except ValueError:  # of a newer agent
        return Reason.KERNEL_REFUSED


def _effective(entry: PlanEntry, limit: known.Limit) -> dict[str, int]:
    parsed = limit.parsed
    written = units.parse_rate(parsed.spec.egress.rate) if isinstance(parsed, limits.Limit) else None
    per_node = entry.rate_bits_per_second
    return {
        "rateBitsPerSecond": per_node if written is None else written,
        "perNodeRateBitsPerSecond": per_node,
        "burstBytes": burst.computed(per_node) if entry.burst_bytes is None else entry.burst_bytes,
    }


def _expires_at(verdict: Verdict, limit: known.Limit) -> str | None:
    if isinstance(limit.parsed, limits.Limit):
        ends = limit.parsed.expires_at(limit.created_at)
    else:
        ends = None if verdict.entry is None else verdict.entry.expires_at
    if ends is None:
        return None
    return datetime.datetime.fromtimestamp(ends, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pending(verdict: Verdict) -> bool:
    """Whether nodes have yet to answer, so that the verdict will probably change by itself."""
    if verdict.left_out is not None or (verdict.rejected and verdict.entry is None):
        return False
    return not verdict.published or verdict.programmed + verdict.failed < verdict.desired


def ready_reason(verdict: Verdict) -> str:
    """The reason of the condition Ready."""
    return _ready(verdict, _accepted(verdict), _programmed(verdict)).reason.value
