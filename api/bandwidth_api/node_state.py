"""NodeBandwidthState, what one node says about itself: values ↔ JSON of at most 2 KB, however many limits there are.

Pure. Written by the agent of that node alone, whole, when something changed or `report_interval_seconds` have passed.
Failing limits are in the order of their names; of those behind the last one that fits, a reader knows only how many.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

KIND = "NodeBandwidthState"
PLURAL = "nodebandwidthstates"
SCHEMA = 1
STATUS_MAX_BYTES = 2000  # of the JSON of the status
FAILING_MAX = 8
INTERFACES_MAX = 6
FEATURES_MAX = 10
MESSAGE_MAX = 160  # characters
REPORTS_PER_SECOND = 400.0  # of all nodes together, when something changed for all of them
SPREAD_MAX_SECONDS = 30.0
YEARS = (1970, 8999)  # of a report; at the ends of the calendar another time zone has no date any more

Json = dict[str, Any]


class FailingLimit(NamedTuple):
    name: str
    reason: str  # CamelCase
    message: str


class InterfaceState(NamedTuple):
    name: str
    root_qdisc: str
    placement: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class NodeState:
    """What a node enforces of the plan, and how. `desired` = `programmed` + `failed`."""

    node: str
    plan_digest: str  # of the plan that the kernel was last brought to; "" before the first
    plan_complete: bool
    reported_at: float  # seconds since the epoch
    desired: int = 0
    programmed: int = 0
    failed: int = 0
    failing: tuple[FailingLimit, ...] = ()  # the first ones by name
    interfaces: tuple[InterfaceState, ...] = ()
    classifier: str = ""
    classifier_reason: str = ""
    missing_features: tuple[str, ...] = ()
    version: str = ""
    report_interval_seconds: int = 300
    retired: bool = False  # nothing of ours is left in this node's kernel
    message: str = ""  # what is wrong with the node as a whole; "" if nothing is

    @property
    def listed_up_to(self) -> str | None:
        """Of limits with a name behind this one it is not known which fail; None: all that fail are listed."""
        if self.failed <= len(self.failing):
            return None
        return self.failing[-1].name if self.failing else ""


class UnreadableState(NamedTuple):
    node: str
    message: str


def spread_seconds(nodes: int) -> float:
    """Within how long so many nodes report a change that concerns them all; `nodes` as the head of the plan says it."""
    return min(nodes, REPORTS_PER_SECOND * SPREAD_MAX_SECONDS) / REPORTS_PER_SECOND


def summary(state: NodeState) -> tuple[str, str]:
    """The node in one word and, if all is not well, in one sentence."""
    if state.retired:
        return "Retired", "everything of ours is removed from this node"
    if state.failed:
        first = f": {state.failing[0].name}: {state.failing[0].message}" if state.failing else ""
        return "Failing", f"{state.failed} of {state.desired} limits are not in force{first}"
    if not state.plan_complete:
        return "Incomplete", state.message or "not all of the plan has been read yet"
    return "InForce", state.message


def write(state: NodeState) -> Json:
    """The `status` of the object, cut to STATUS_MAX_BYTES: messages first, then lists from their ends."""
    word, why = summary(state)
    status: Json = {
        "schema": SCHEMA,
        "planDigest": state.plan_digest,
        "planComplete": state.plan_complete,
        "lastReportTime": _time(state.reported_at),
        "reportIntervalSeconds": state.report_interval_seconds,
        "limits": {"desired": state.desired, "programmed": state.programmed, "failed": state.failed},
        "state": word,
        "why": why[:MESSAGE_MAX],
        "message": state.message[:MESSAGE_MAX],
        "failing": [
            {"name": f.name, "reason": f.reason, "message": f.message[:MESSAGE_MAX]}
            for f in state.failing[:FAILING_MAX]
        ],
        "interfaces": [
            {"name": i.name, "rootQdisc": i.root_qdisc[:32], "placement": i.placement, "reason": i.reason}
            for i in state.interfaces[:INTERFACES_MAX]
        ],
        "interfaceCount": len(state.interfaces),
        "classifier": state.classifier,
        "classifierReason": state.classifier_reason[:MESSAGE_MAX],
        "missingFeatures": [feature[:32] for feature in state.missing_features[:FEATURES_MAX]],
        "version": state.version[:32],
        "retired": state.retired,
    }
    _cut(status)
    return status


def _cut(status: Json) -> None:
    for shorter in (80, 40):
        if _size(status) <= STATUS_MAX_BYTES:
            return
        status["classifierReason"] = status["classifierReason"][:shorter]
        for failing in status["failing"]:
            failing["message"] = failing["message"][:shorter]
    for key in ("failing", "interfaces", "missingFeatures", "failing"):
        while len(status[key]) > (1 if key != "missingFeatures" else 0) and _size(status) > STATUS_MAX_BYTES:
            status[key].pop()


def _size(status: Json) -> int:
    return len(json.dumps(status, separators=(",", ":"), ensure_ascii=False).encode())


def read(item: Mapping[str, Any]) -> NodeState | UnreadableState:
    """What a NodeBandwidthState object says; fields of unknown meaning are passed over."""
    node = str(item.get("metadata", {}).get("name", ""))
    status = item.get("status")
    if not isinstance(status, dict) or not status:
        return UnreadableState(node, "the agent of this node has not reported yet")
    if status.get("schema") != SCHEMA:
        return UnreadableState(
            node, f"its report has schema {status.get('schema')!r}; run the same version of agent and operator"
        )
    try:
        limits = status.get("limits") or {}
        return NodeState(
            node=node,
            plan_digest=str(status.get("planDigest", "")),
            plan_complete=status.get("planComplete") is True,
            reported_at=_seconds(status["lastReportTime"]),
            desired=int(limits.get("desired", 0)),
            programmed=int(limits.get("programmed", 0)),
            failed=int(limits.get("failed", 0)),
            failing=tuple(
                FailingLimit(str(f["name"]), str(f.get("reason", "")), str(f.get("message", "")))
                for f in status.get("failing") or ()
            ),
            interfaces=tuple(
                InterfaceState(
                    str(i["name"]), str(i.get("rootQdisc", "")), str(i.get("placement", "")), str(i.get("reason", ""))
                )
                for i in status.get("interfaces") or ()
            ),
            classifier=str(status.get("classifier", "")),
            classifier_reason=str(status.get("classifierReason", "")),
            missing_features=tuple(str(f) for f in status.get("missingFeatures") or ()),
            version=str(status.get("version", "")),
            report_interval_seconds=max(1, int(status.get("reportIntervalSeconds", 300))),
            retired=status.get("retired") is True,
            message=str(status.get("message", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return UnreadableState(node, f"its report cannot be read ({error!r}); look who wrote it")


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    moment = datetime.datetime.fromisoformat(text)
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise ValueError(f"{text} is no time at which anything was reported")
    return moment.timestamp()
