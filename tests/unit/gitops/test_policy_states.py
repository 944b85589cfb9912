"""What GitOps tools make of a policy in each state in which the operator puts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import yaml

from bandwidth_api import conditions, names
from bandwidth_api.conditions import Condition
from bandwidth_api.crds import policy as policies
from bandwidth_api.crds.policy import Policy
from bandwidth_api.policy import status
from bandwidth_api.policy.reports import Now
from bandwidth_api.policy.status import Counts
from bandwidth_operator.policies import deciding
from gitops import kstatus, lua

NOON = 1_893_499_200.0  # 2030-01-01T12:00:00Z
NODES = ("worker-1", "worker-2", "worker-3")
TESTDATA = lua.script(names.POLICY_KIND).parent / "testdata"


def policy(mode: str = "Enforce", **uplink: Any) -> dict[str, Any]:
    when: dict[str, Any] = {"rate": {"above": "40Mbit", "forSeconds": 300}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POLICY_KIND,
        "metadata": {
            "name": "fair-use",
            "uid": "1f0c7c55-2c1e-4b0e-8b57-4c7a4be6a0d1",
            "generation": 1,
            "creationTimestamp": "2030-01-01T11:59:58Z",
        },
        "spec": {
            "when": when | ({"uplink": uplink} if uplink else {}),
            "then": {"mode": mode, "steps": [{"rate": "10Mbit", "ttlSeconds": 600}]},
        },
    }


def read(document: dict[str, Any]) -> Policy:
    found = policies.parse(document)
    assert isinstance(found, Policy)
    return found


def told(document: dict[str, Any], stated: Sequence[Condition], seen: Counts | None = None) -> dict[str, Any]:
    return {**document, "status": status.write({}, stated, 1, Now(0.0, NOON), seen=seen)}


def decides(document: dict[str, Any], seen: Counts) -> dict[str, Any]:
    return told(document, status.found(read(document), seen), seen)


def broken() -> dict[str, Any]:
    document = policy()
    document["spec"]["then"]["steps"][0]["rate"] = "10MB"
    problems = policies.parse(document)
    assert isinstance(problems, tuple)
    return told(document, status.refused(problems))


def changed(document: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], **metadata}}


class State(NamedTuple):
    item: dict[str, Any]
    state: str  # of kstatus


QUIET = Counts(watched=0, selected=3)
BUSY = Counts(watched=4, hot=2, limited=10, at_maximum=2, selected=3)
STATES = {
    "without-status": State(policy(), kstatus.CURRENT),  # no API server shows it so: the CRD has a default
    "enforce": State(decides(policy(), QUIET), kstatus.CURRENT),
    "observe": State(decides(policy("Observe"), QUIET), kstatus.CURRENT),
    "disabled": State(decides(policy("Disabled"), QUIET), kstatus.IN_PROGRESS),
    "switched-off": State(told(policy(), deciding.switched_off()), kstatus.IN_PROGRESS),
    "edited": State(changed(decides(policy(), QUIET), generation=2), kstatus.IN_PROGRESS),
    "at-maximum": State(decides(policy(), BUSY), kstatus.CURRENT),
    "some-silent": State(decides(policy(), dataclasses.replace(QUIET, silent=NODES[:1])), kstatus.CURRENT),
    "all-silent": State(decides(policy(), dataclasses.replace(QUIET, silent=NODES)), kstatus.IN_PROGRESS),
    "no-capacity": State(
        decides(policy(abovePercent=80), dataclasses.replace(QUIET, capacity_unknown=NODES)), kstatus.IN_PROGRESS
    ),
    "no-node": State(decides(policy(), Counts()), kstatus.IN_PROGRESS),
    "invalid": State(broken(), kstatus.FAILED),
    "deleting": State(changed(decides(policy(), QUIET), deletionTimestamp="2030-01-01T12:00:00Z"), kstatus.TERMINATING),
}


@pytest.mark.parametrize("name", STATES)
def test_the_cases_of_argo_cd_are_what_the_operator_writes(name: str) -> None:
    """Each file is the object in that state, word for word."""
    assert yaml.safe_load((TESTDATA / f"{name}.yaml").read_text()) == STATES[name].item


def test_every_state_is_a_case() -> None:
    """No state is left out there."""
    assert {path.stem for path in TESTDATA.iterdir()} == STATES.keys()


@pytest.mark.parametrize("name", STATES)
def test_what_kstatus_says(name: str) -> None:
    """Without expressions of Flux: what is Disabled is waited for, as a limit is, and what is broken has failed."""
    assert kstatus.compute(STATES[name].item) == STATES[name].state


@pytest.mark.parametrize("reason", [reason.value for reason in conditions.Reason])
def test_every_reason_has_a_health(reason: str) -> None:
    """A policy that is not Ready is never Healthy."""
    ready = {"type": "Ready", "status": "False", "reason": reason, "message": "why"}
    item = {"metadata": {"generation": 3}, "status": {"observedGeneration": 3, "conditions": [ready]}}
    told = {"Disabled": "Suspended"} | dict.fromkeys(("Pending", "NoNodeSelected"), "Progressing")
    assert lua.HealthCheck(names.POLICY_KIND)(item) == (told.get(reason, "Degraded"), "why")


def test_a_broken_policy_that_is_mended_has_not_failed() -> None:
    """Stalled is gone with the edit that helps."""
    before = broken()["status"]
    after = status.write(before, status.found(read(policy()), QUIET), 2, Now(0.0, NOON), seen=QUIET)
    assert kstatus.compute(changed({**policy(), "status": after}, generation=2)) == kstatus.CURRENT
