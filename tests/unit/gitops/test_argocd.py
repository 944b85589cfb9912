"""What Argo CD is given: the health check with its cases, run by a Lua as bare as Argo CD's, and the manifests."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml

from bandwidth_api import conditions, names
from gitops import kstatus, lua

FILES = lua.ARGO_CD / names.LIMIT_KIND
KINDS = (names.LIMIT_KIND, names.POLICY_KIND)
CASES = [
    (kind, case)
    for kind in KINDS
    for case in yaml.safe_load((lua.ARGO_CD / kind / "health_test.yaml").read_text())["tests"]
]


@pytest.fixture(scope="module")
def check() -> lua.HealthCheck:
    return lua.HealthCheck()


@pytest.mark.parametrize(
    ("kind", "case"), CASES, ids=[f"{kind}-{pathlib.Path(case['inputPath']).stem}" for kind, case in CASES]
)
def test_health(kind: str, case: Any) -> None:
    """An object in this state has this health, and says why."""
    found = lua.HealthCheck(kind)(yaml.safe_load((lua.ARGO_CD / kind / case["inputPath"]).read_text()))
    assert found == (case["healthStatus"]["status"], case["healthStatus"]["message"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_a_case(kind: str) -> None:
    """No test data lies about that no case reads."""
    assert {path.name for path in (lua.ARGO_CD / kind / "testdata").iterdir()} == {
        pathlib.Path(case["inputPath"]).name for of, case in CASES if of == kind
    }


@pytest.mark.parametrize("reason", [r.value for r in conditions.Reason])
def test_every_reason_has_a_health(check: lua.HealthCheck, reason: str) -> None:
    """Not ready is never Healthy, but for a limit whose time is over; who must wait and who must act are told apart."""
    waiting = {"Pending", "NoNodeSelected"}
    told = {"Disabled": "Suspended", "Expired": "Healthy"} | dict.fromkeys(waiting, "Progressing")
    ready = {"type": "Ready", "status": "False", "reason": reason, "message": "why"}
    found = check({"metadata": {"generation": 3}, "status": {"observedGeneration": 3, "conditions": [ready]}})
    assert found == (told.get(reason, "Degraded"), "why")


def test_what_is_unknown_is_in_progress_and_says_why(check: lua.HealthCheck) -> None:
    """A limit that no packet has verified is waited for; one that was edited since, for the operator."""
    ready = {"type": "Ready", "status": "Unknown", "reason": "Unverified", "message": "why"}
    item = {"metadata": {"generation": 3}, "status": {"observedGeneration": 3, "conditions": [ready]}}
    assert check(item) == ("Progressing", "why")
    edited = {**item, "metadata": {"generation": 4}}
    assert check(edited) == ("Progressing", "the operator has not looked at the last edit yet")
    assert kstatus.compute(item) == kstatus.compute(edited) == kstatus.IN_PROGRESS


def test_what_is_bypassed_has_not_failed_for_good(check: lua.HealthCheck) -> None:
    """Degraded for Argo CD, as a node that cannot enforce it; in progress for kstatus: no edit of the limit helps."""
    item = yaml.safe_load((FILES / "testdata" / "bypassed.yaml").read_text())
    assert check(item)[0] == "Degraded"
    assert kstatus.compute(item) == kstatus.IN_PROGRESS


def test_the_config_map_holds_the_files() -> None:
    """What is pasted into argocd-cm is the tested scripts, each under the key for its kind, and nothing else."""
    config_map = yaml.safe_load((lua.ARGO_CD / "argocd-cm.yaml").read_text())
    assert config_map["metadata"] == {"name": "argocd-cm", "namespace": "argocd"}
    assert config_map["data"] == {
        f"resource.customizations.health.{names.GROUP}_{kind}": lua.script(kind).read_text() for kind in KINDS
    }


def test_no_application_ignores_differences() -> None:
    """The example applications compare everything: none is needed to hide what we would have changed."""
    for path in lua.ARGO_CD.glob("application-*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        assert "ignoreDifferences" not in spec
        assert "RespectIgnoreDifferences=true" not in spec["syncPolicy"]["syncOptions"]
