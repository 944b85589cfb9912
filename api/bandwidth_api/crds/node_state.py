"""NodeBandwidthState, the report of one node: values ↔ JSON of at most 2 KB, however many limits there are.

Pure. Written only by the agent of that node, always as a whole, after a change or `report_interval_seconds`.
Failing limits are in the order of their names; of those that do not fit, only the number is in the report. Of verified
limits the agent chooses which are named.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bandwidth_api.conditions import Problem, Reason

KIND = "NodeBandwidthState"
PLURAL = "nodebandwidthstates"
SCHEMA = 1
STATUS_MAX_BYTES = 2000  # of the JSON of the status
FAILING_MAX = 8
INTERFACES_MAX = 6
FEATURES_MAX = 10
VERIFIED_MAX = 100
VERIFIED_BYTES = 600  # for the names of verified limits, if there are so many; failing ones give way
MESSAGE_MAX = 160  # characters
SIGN_MAX = 96
REPORTS_PER_SECOND = 400.0  # of all nodes together, when something changed for all of them
SPREAD_MAX_SECONDS = 30.0
YEARS = (1970, 8999)  # of a report; at the ends of the calendar another time zone has no date any more

Json = dict[str, Any]

# What an agent that is asked to stop leaves in its status. For people: the operator counts the node as before until it
# is silent, since an agent that is replaced is back within seconds.
STOPPED: Json = {
    "state": "Stopped",
    "why": "its agent was stopped; what it set up stays as it is, and does not expire, until one runs here again",
}


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
    failing: tuple[Problem, ...] = ()  # the first ones by name
    interfaces: tuple[InterfaceState, ...] = ()
    classifier: str = ""
    classifier_reason: str = ""
    missing_features: tuple[str, ...] = ()
    version: str = ""
    report_interval_seconds: int = 300
    retired: bool = False  # nothing of ours is left in this node's kernel
    message: str = ""  # what is wrong with the node as a whole; "" if nothing is
    datapath_sign: str = ""  # what shows that packets may skip netfilter here; "": nothing, or nobody looks
    verified: frozenset[str] = frozenset()  # limits whose class was seen to hold their packets; as read: those named
    verified_count: int = 0  # all of them
    bypassed: int = 0  # of `failed`: limits whose packets were seen to leave past their class

    @property
    def listed_up_to(self) -> str | None:
        """The last name up to which all failing limits are listed; None if all of them are."""
        if self.failed <= len(self.failing):
            return None
        return self.failing[-1].name if self.failing else ""


class UnreadableState(NamedTuple):
    node: str
    message: str


def spread_seconds(nodes: int) -> float:
    """Return the time over which so many nodes spread their reports of a common change; `nodes` as in the head."""
    return min(nodes, REPORTS_PER_SECOND * SPREAD_MAX_SECONDS) / REPORTS_PER_SECOND


def summary(state: NodeState) -> tuple[str, str]:
    """Return the state of the node in one word and, if something is wrong, in one sentence."""
    if state.retired:
        return "Retired", "everything of ours is removed from this node"
    if state.failed:
        first = f": {state.failing[0].name}: {state.failing[0].message}" if state.failing else ""
        return "Failing", f"{state.failed} of {state.desired} limits are not in force{first}"
    if not state.plan_complete:
        return "Incomplete", state.message or "not all of the plan has been read yet"
    return "InForce", state.message


def write(state: NodeState, verified_first: Sequence[str] | None = None) -> Json:
    """Return the `status` of the object, shortened to STATUS_MAX_BYTES: first the messages, then the ends of lists.

    `verified_first`: the verified limits, what must be named first; by name if it is not given.
    """
    word, why = summary(state)
    status: Json = {
        "schema": SCHEMA,
        "planDigest": state.plan_digest,
        "planComplete": state.plan_complete,
        "lastReportTime": _time(state.reported_at),
        "reportIntervalSeconds": state.report_interval_seconds,
        "limits": {
            "desired": state.desired,
            "programmed": state.programmed,
            "failed": state.failed,
            "bypassed": state.bypassed,
            "verified": state.verified_count,
        },
        "state": word,
        "why": why[:MESSAGE_MAX],
        "message": state.message[:MESSAGE_MAX],
        "failing": [
            {"name": f.name, "reason": f.reason.value, "message": f.message[:MESSAGE_MAX]}
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
        "datapathSign": state.datapath_sign[:SIGN_MAX],
        "verified": [],
    }
    names = sorted(state.verified) if verified_first is None else verified_first
    _cut(status, STATUS_MAX_BYTES - min(VERIFIED_BYTES, sum(map(_name_size, names[:VERIFIED_MAX]))))
    status["verified"] = _fitting(names, STATUS_MAX_BYTES - _size(status))
    return status


def _fitting(names: Sequence[str], room: int) -> list[str]:
    """Return the first of these names that fit into so many bytes, in order of the alphabet."""
    fitting = []
    for name in names[:VERIFIED_MAX]:
        room -= _name_size(name)
        if room < 0:
            break
        fitting.append(name)
    return sorted(fitting)


def _name_size(name: str) -> int:
    return len(json.dumps(name, ensure_ascii=False).encode()) + len(",")


def _cut(status: Json, most: int) -> None:
    for shorter in (80, 40):
        if _size(status) <= most:
            return
        status["classifierReason"] = status["classifierReason"][:shorter]
        for failing in status["failing"]:
            failing["message"] = failing["message"][:shorter]
    for key in ("failing", "interfaces", "missingFeatures", "failing"):
        while len(status[key]) > (1 if key != "missingFeatures" else 0) and _size(status) > most:
            status[key].pop()


def _size(status: Json) -> int:
    return len(json.dumps(status, separators=(",", ":"), ensure_ascii=False).encode())


def read(item: Mapping[str, Any]) -> NodeState | UnreadableState:
    """Read a NodeBandwidthState object; unknown fields are ignored."""
    metadata = item.get("metadata")
    node = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
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
                Problem(Reason(str(f.get("reason", ""))), str(f.get("message", "")), name=str(f["name"]))
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
            datapath_sign=str(status.get("datapathSign") or ""),
            verified=frozenset(str(name) for name in status.get("verified") or ()),
            verified_count=int(limits.get("verified", 0)),
            bypassed=int(limits.get("bypassed", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        return UnreadableState(node, f"its report cannot be read ({error!r}); look who wrote it")


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    moment = datetime.datetime.fromisoformat(text)
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise ValueError(f"{text} is no time at which anything was reported")
    return moment.timestamp()
