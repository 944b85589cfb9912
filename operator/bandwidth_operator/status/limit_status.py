"""Writes the status of a limit from its outcome, with messages that name what to do. Pure.

Accepted     the limit can be used as it is written
Programmed   every node that should enforce it does, in its present form
Ready        accepted, programmed and in force now; Unknown where packets may leave past it and none was seen yet
Conflicted   another limit wins over it for some address
Stalled      it cannot be used as it is written, so only an edit helps; there while it is so
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from bandwidth_api import conditions
from bandwidth_api.compiler import burst
from bandwidth_api.conditions import Condition, ConditionType, Problem, Reason, Status
from bandwidth_api.crds import limit as limits
from bandwidth_api.plan import PlanEntry
from bandwidth_operator.cache import objects
from bandwidth_operator.status import enforced_form
from bandwidth_operator.status.rollup import VERIFIED_MAX, Held, Outcome

WINNERS_NAMED = 3
MESSAGE_MAX = 512  # of one failing node, as in the CRD


def status(outcome: Outcome, limit: objects.Limit, now: float) -> dict[str, Any]:
    """Return the whole status to write; the same outcome over the same written status gives the same status."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    written = [c for c in limit.status.get("conditions") or () if isinstance(c, Mapping)]
    if not outcome.rejected:
        written = [c for c in written if c.get("type") != ConditionType.STALLED]
    found: dict[str, Any] = {
        "observedGeneration": limit.generation,
        "nodes": {"desired": outcome.desired, "programmed": outcome.programmed, "failed": outcome.failed},
        "conditions": conditions.merge(written, _conditions(outcome), observed_generation=limit.generation, now=moment),
    }
    expires_at = _expires_at(outcome, limit)
    if expires_at is not None:
        found["expiresAt"] = expires_at
    if outcome.entry is not None:
        found["effective"] = _effective(outcome.entry, limit)
    if outcome.verified is not None:
        # Always both: a merge patch takes away whole fields, and none from within.
        found["verified"] = {
            "nodes": outcome.verified.number,
            "names": list(outcome.verified.nodes),
            "form": _form(limit) if outcome.verified.number else "",
        }
    if outcome.failing:
        found["failingNodes"] = [
            {"name": n.name, "reason": n.reason.value[:64], "message": n.message[:MESSAGE_MAX]} for n in outcome.failing
        ]
    return found


def held(limit: objects.Limit) -> Held:
    """Return where a limit was verified in its present form, as its status says; whatever is in it."""
    written = limit.status.get("verified")
    if not isinstance(written, Mapping) or not (_observed(limit) or _form(limit) == written.get("form")):
        return Held()
    count, names = written.get("nodes"), written.get("names")
    if type(count) is not int or not isinstance(names, list):
        return Held()
    return Held(max(0, count), tuple(name for name in names if isinstance(name, str))[:VERIFIED_MAX])


def _observed(limit: objects.Limit) -> bool:
    """Return whether the status is of what is written now."""
    return bool(limit.status.get("observedGeneration") == limit.generation)


def _form(limit: objects.Limit) -> str:
    """Return the form that is verified; of a limit that is not accepted, the one that was."""
    written = limit.status.get("verified")
    known = written.get("form") if isinstance(written, Mapping) else None
    if isinstance(known, str) and known and (_observed(limit) or isinstance(limit.parsed, tuple)):
        return known  # worked out once for each edit: there may be thousands of limits
    return enforced_form.digest(limit)


def retired(written: Mapping[str, Any], missing: int, now: float) -> dict[str, Any] | None:
    """Return what to merge into a written status after all nodes but `missing` have removed everything; None: nothing.

    Untrue is then only what a status reports of nodes: that the limit is in force on them, that some have failed, or
    that they no longer report.
    """
    before = [c for c in written.get("conditions") or () if isinstance(c, Mapping)]
    in_force = (ConditionType.PROGRAMMED, ConditionType.READY)
    claims = any(c.get("type") in in_force and c.get("status") == Status.TRUE for c in before)
    if not claims and not any((written.get("nodes") or {}).values()):
        return None
    but = {0: "", 1: " but for one node that could not be reached"}.get(
        missing, f" but for {missing} nodes that could not be reached"
    )
    message = (
        f"bandwidth-operator retire had every node remove it{but}; an operator that is installed again puts it in force"
    )
    merged = conditions.merge(
        before,
        [Condition(kind, Status.FALSE, Reason.RETIRED, message) for kind in in_force],
        observed_generation=int(written.get("observedGeneration") or 0),
        now=datetime.datetime.fromtimestamp(now, datetime.UTC),
    )
    return {
        "nodes": {"desired": 0, "programmed": 0, "failed": 0},
        "conditions": merged,
        "failingNodes": None,
    } | ({"verified": None} if "verified" in written else {})


def _conditions(outcome: Outcome) -> Iterator[Condition]:
    accepted = _accepted(outcome)
    programmed = _programmed(outcome)
    yield accepted
    yield programmed
    yield _ready(outcome, accepted, programmed)
    yield _conflicted(outcome)
    if outcome.rejected:
        yield accepted._replace(type=ConditionType.STALLED, status=Status.TRUE)


def _accepted(outcome: Outcome) -> Condition:
    if not outcome.rejected:
        return Condition(ConditionType.ACCEPTED, Status.TRUE, Reason.ACCEPTED, "the limit can be used as it is written")
    first = outcome.rejected[0]
    more = f" (and {len(outcome.rejected) - 1} more)" if len(outcome.rejected) > 1 else ""
    return Condition(ConditionType.ACCEPTED, Status.FALSE, first.reason, f"{first}{more}")


def _programmed(outcome: Outcome) -> Condition:
    def no(reason: Reason, message: str) -> Condition:
        return Condition(ConditionType.PROGRAMMED, Status.FALSE, reason, message)

    if outcome.left_out is not None:
        return no(outcome.left_out.reason, str(outcome.left_out))
    if outcome.rejected and outcome.entry is None:
        return no(outcome.rejected[0].reason, "the limit is on no node, because it cannot be used as it is written")
    if outcome.desired == 0:
        return no(Reason.NO_NODE_SELECTED, _nobody(outcome))
    if outcome.failed > outcome.bypassed:
        first = next(problem for problem in outcome.failing if problem.reason is not Reason.BYPASSED)
        return no(
            first.reason if first.reason.known else Reason.KERNEL_REFUSED,
            f"not in force on {outcome.failed} of {outcome.desired} nodes; {first.name}: {first.message}",
        )
    if not outcome.published:
        return no(Reason.PENDING, "the limit is on its way to the nodes")
    if outcome.programmed + outcome.bypassed < outcome.desired:
        behind = outcome.desired - outcome.programmed - outcome.bypassed
        return no(
            Reason.PENDING,
            f"{behind} of {outcome.desired} nodes have not taken it up yet; if that lasts longer than a few seconds,"
            " look at kubectl get nodebandwidthstates",
        )
    how = "in force" if not outcome.bypassed and outcome.doubt is None else "programmed"
    kept = f"an earlier version of the limit is {how}" if outcome.rejected else how
    return Condition(ConditionType.PROGRAMMED, Status.TRUE, Reason.PROGRAMMED, f"{kept} on {_all(outcome.desired)}")


def _ready(outcome: Outcome, accepted: Condition, programmed: Condition) -> Condition:
    if outcome.rejected and outcome.entry is not None:
        message = f"what is written now cannot be used, what was accepted before stays in force; {accepted.message}"
        return Condition(ConditionType.READY, Status.FALSE, Reason.KEPT_PREVIOUS, message)
    for part in (accepted, programmed):
        if part.status is not Status.TRUE:
            return part._replace(type=ConditionType.READY)
    if outcome.bypassed:
        first = next(problem for problem in outcome.failing if problem.reason is Reason.BYPASSED)
        message = f"bypassed on {outcome.bypassed} of {outcome.desired} nodes; {first.name}: {first.message}"
        return Condition(ConditionType.READY, Status.FALSE, Reason.BYPASSED, message)
    if outcome.doubt is not None:
        return Condition(ConditionType.READY, Status.UNKNOWN, Reason.UNVERIFIED, _unverified(outcome, outcome.doubt))
    mode = "" if outcome.entry is None or outcome.entry.mode.value == "Enforce" else ", only counting (mode Observe)"
    message = f"in force on {_all(outcome.desired)}{mode}{_seen(outcome)}"
    return Condition(ConditionType.READY, Status.TRUE, Reason.READY, message)


def _unverified(outcome: Outcome, doubt: Problem) -> str:
    nowhere = outcome.verified is None or not outcome.verified.number
    seen = "no packet of its clients was seen to pass its class yet, and" if nowhere else "but"
    return (
        f"programmed on {_all(outcome.desired)}, {seen} {doubt.message}; this becomes True or False by itself once its"
        " clients are sent something"
    )


def _seen(outcome: Outcome) -> str:
    """Where packets may leave past a limit, say on how many nodes they were seen not to."""
    if outcome.verified is None:
        return ""
    count = outcome.verified.number
    named = ", ".join(outcome.verified.nodes) + (" and others" if count > len(outcome.verified.nodes) else "")
    return f"; its packets were seen to pass its class on {count} of them: {named}"


def _conflicted(outcome: Outcome) -> Condition:
    if not outcome.winners:
        return Condition(ConditionType.CONFLICTED, Status.FALSE, Reason.NO_CONFLICT, "no other limit wins over it")
    named = ", ".join(outcome.winners[:WINNERS_NAMED])
    more = " and others" if len(outcome.winners) > WINNERS_NAMED else ""
    message = (
        f"for some of its addresses {named}{more} wins; a higher spec.priority, then a longer prefix,"
        " then the older limit wins: change one of them if that is not meant"
    )
    return Condition(ConditionType.CONFLICTED, Status.TRUE, Reason.OVERRIDDEN, message)


def _nobody(outcome: Outcome) -> str:
    if outcome.agents == 0:
        return "no node runs an agent that has reported; look at the DaemonSet client-bandwidth-agent"
    return (
        f"none of the {outcome.agents} nodes that run an agent has the labels of spec.nodeSelector;"
        " change the selector or label a node"
    )


def _all(nodes: int) -> str:
    return "the one node" if nodes == 1 else f"all {nodes} nodes"


def _effective(entry: PlanEntry, limit: objects.Limit) -> dict[str, int]:
    parsed = limit.parsed
    written = parsed.spec.egress.rate if isinstance(parsed, limits.Limit) else None
    per_node = entry.rate_bits_per_second
    return {
        "rateBitsPerSecond": per_node if written is None else written,
        "perNodeRateBitsPerSecond": per_node,
        "burstBytes": burst.computed(per_node) if entry.burst_bytes is None else entry.burst_bytes,
    }


def _expires_at(outcome: Outcome, limit: objects.Limit) -> str | None:
    if isinstance(limit.parsed, limits.Limit) and limit.created_at is not None:
        ends = limit.parsed.expires_at(limit.created_at)
    else:
        ends = None if outcome.entry is None else outcome.entry.expires_at
    if ends is None:
        return None
    return datetime.datetime.fromtimestamp(ends, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pending(outcome: Outcome) -> bool:
    """Return whether some nodes have not reported yet, so that the outcome will probably change by itself."""
    if outcome.left_out is not None or (outcome.rejected and outcome.entry is None):
        return False
    return not outcome.published or outcome.programmed + outcome.failed < outcome.desired


def differs_in_verified_nodes_only(outcome: Outcome, limit: objects.Limit) -> bool:
    """Return whether the written status is right but for the nodes where the limit was verified, one or more."""
    before = held(limit)
    if outcome.verified is None or not before.number or not outcome.verified.number or outcome.verified == before:
        return False
    known = outcome._replace(verified=before)
    return status(known, limit, 0.0) == limit.status


def ready_reason(outcome: Outcome) -> str:
    """Return the reason of the condition Ready."""
    return _ready(outcome, _accepted(outcome), _programmed(outcome)).reason.value
