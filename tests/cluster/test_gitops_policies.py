"""What GitOps tools see of policies: what kstatus, Flux's expressions and Argo CD say, and that nothing drifts."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator

import pytest
import yaml

from bandwidth_api import names
from bandwidth_kube import client
from cluster import flux_expressions
from cluster.world import POLICIES, Object, World
from gitops import documents, kstatus, lua

SHOWN = documents.ROOT / "examples/fair-use.yaml"
NAME = "fair-use"


@pytest.fixture
def flux(world: World) -> Iterator[Callable[[str], str]]:
    with flux_expressions.asked(world, names.POLICY_KIND) as ask:
        yield ask


def shown(mode: str = "Observe") -> Object:
    document: Object = yaml.safe_load(SHOWN.read_text())
    document["spec"]["then"]["mode"] = mode
    return document


def judged(world: World) -> tuple[str, str]:
    """What kstatus and Argo CD say of the policy."""
    item = world.get(f"{POLICIES}/{NAME}")
    return kstatus.compute(item), lua.HealthCheck(names.POLICY_KIND)(item)[0]


def ready(world: World, reason: str, generation: int) -> Callable[[], bool]:
    """Whether the operator says this of a version of the policy."""

    def is_so() -> bool:
        status = world.get(f"{POLICIES}/{NAME}")["status"]
        found = {each["type"]: each["reason"] for each in status["conditions"]}
        return (status["observedGeneration"], found["Ready"]) == (generation, reason)

    return is_so


def edit(world: World, mode: str) -> None:
    body = {"spec": {"then": {"mode": mode}}}
    world.api.request("PATCH", f"{POLICIES}/{NAME}", body=body, content_type=client.MERGE_PATCH)


def test_a_policy_is_done_when_it_decides_or_its_author_switched_it_off(
    world: World, flux: Callable[[str], str]
) -> None:
    """Nobody has seen it; the installation lets none act; Disabled; Observe; Enforce; what only an edit can help."""
    world.agent("node-0")
    world.api.request("POST", POLICIES, body=shown())
    world.wait(lambda: flux(NAME) == "inProgress", "no operator has seen it", 30)
    assert judged(world) == (kstatus.IN_PROGRESS, "Progressing")

    operator = world.operator()
    world.wait(ready(world, "Disabled", 1), "policies are off")
    assert (judged(world), flux(NAME)) == ((kstatus.IN_PROGRESS, "Suspended"), "inProgress")
    edit(world, "Disabled")
    world.wait(ready(world, "Disabled", 2), "it is off by its own")
    assert (judged(world), flux(NAME)) == ((kstatus.IN_PROGRESS, "Suspended"), "current")
    operator.kill()

    operator = world.operator("operator-1", "--policies")
    world.wait(lambda: world.holder().startswith("operator-1"), "another operator leads", 60)
    assert (judged(world), flux(NAME)) == ((kstatus.IN_PROGRESS, "Suspended"), "current")
    edit(world, "Observe")
    world.wait(ready(world, "Observing", 3), "it looks")
    assert (judged(world), flux(NAME)) == ((kstatus.CURRENT, "Healthy"), "current")
    edit(world, "Enforce")
    world.wait(ready(world, "Ready", 4), "it acts")
    assert (judged(world), flux(NAME)) == ((kstatus.CURRENT, "Healthy"), "current")
    operator.kill()

    status = world.get(f"{POLICIES}/{NAME}")["status"]
    (accepted,) = (each for each in status["conditions"] if each["type"] == "Accepted")
    stalled = [accepted | {"type": "Accepted", "status": "False"}, accepted | {"type": "Stalled", "status": "True"}]
    body = {"status": {"conditions": stalled}}
    world.api.request("PATCH", f"{POLICIES}/{NAME}/status", body=body, content_type=client.MERGE_PATCH)
    assert (judged(world)[0], flux(NAME)) == (kstatus.FAILED, "failed")


def test_a_policy_in_git_is_what_is_stored(world: World, tmp_path: pathlib.Path) -> None:
    """The policy that we show, applied either way, is stored as written; applied again nothing changes."""
    world.operator()
    manifest = tmp_path / "policy.yaml"
    manifest.write_text(SHOWN.read_text())
    kubectl = world.plane.kubectl
    for way in (["--server-side"], []):
        options = [*way, "-f", str(manifest)]
        kubectl("apply", *options)
        world.wait(ready(world, "Disabled", 1), "the operator has seen it", 30)
        before = world.get(f"{POLICIES}/{NAME}")
        kubectl("apply", *options)
        stored = world.get(f"{POLICIES}/{NAME}")
        assert stored["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        diff = kubectl("diff", *options, check=False)
        assert (diff.returncode, diff.stdout) == (0, "")
        assert list(documents.differences(json.loads(json.dumps(shown())), stored)) == []
        kubectl("delete", "-f", str(manifest), "--wait=true")
