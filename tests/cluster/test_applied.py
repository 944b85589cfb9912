"""The chart applied by those who know nothing of hooks, and run by helm, which does: only one of them ends it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bandwidth_lab import control_plane
from cluster import helm
from cluster.world import NAMESPACE, SLICES, World, limit

JOB_SECONDS = 120.0


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def jobs(text: str) -> list[dict[str, Any]]:
    return [each for each in documents(text) if each["kind"] == "Job"]


def run_as_its_pod(job: dict[str, Any], kubeconfig: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """What the job's container would do, with the rights of its service account."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    command = (sys.executable, "-m", "bandwidth_operator.cli", *container["args"], "--kubeconfig", str(kubeconfig))
    environment = {"PATH": os.environ["PATH"], "POD_NAMESPACE": NAMESPACE}
    return subprocess.run(command, capture_output=True, text=True, timeout=JOB_SECONDS, env=environment)


def rendered_with_a_cluster(world: World, home: pathlib.Path) -> str:
    """What `helm install --dry-run=server` prints: the hooks too."""
    words = ("install", "x", str(helm.CHART), "--namespace", NAMESPACE, "--dry-run=server", "-o", "json")
    words = (*words, "--take-ownership")
    release = json.loads(helm.run(*words, home=home, kubeconfig=world.plane.kubeconfig()).stdout)
    return "\n---\n".join([release["manifest"], *(hook["manifest"] for hook in release["hooks"])])


@pytest.mark.parametrize("how", ["template", "template for Argo CD", "install --dry-run=server"])
def test_what_is_applied_as_it_is_ends_nothing(how: str, world: World, tmp_path: pathlib.Path) -> None:
    """With every job of the render run at once, as kubectl apply would have it, limits come into force and stay."""
    if how == "install --dry-run=server":
        text = rendered_with_a_cluster(world, tmp_path)
    else:
        text = helm.template(*(("--set", "retire.argoCD=true") if "Argo" in how else ()), home=tmp_path)
    found = jobs(text)
    assert len(found) == (0 if how == "template" else 1)
    world.agent("node-0")
    world.operator()
    world.create(limit("before"))
    world.wait_ready("before")
    world.plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    for job in found:
        done = run_as_its_pod(job, world.plane.kubeconfig("operator", token=world.operator_token()))
        assert done.returncode == 1
        assert "nothing was retired" in done.stderr
        assert "helm template --no-hooks" in done.stderr
        world.plane.kubectl("-n", NAMESPACE, "delete", "job", job["metadata"]["name"])
    world.plane.kubectl("-n", NAMESPACE, "delete", "pod", "client-bandwidth-check", "--ignore-not-found", "--now")
    world.create(limit("after", ["203.0.113.8"]))
    world.wait_ready("before", "after")
    assert world.agents["node-0"].limits == {"before": 5_000_000, "after": 5_000_000}
    assert world.state("node-0")["state"] == "InForce"
    assert not world.get(f"{SLICES}/plan")["spec"].get("retire")


def test_the_hooks_are_accepted_and_may_no_more_than_the_operator(world: World, tmp_path: pathlib.Path) -> None:
    """The API server takes what helm runs at its time without a warning; it runs as the operator does."""
    found = documents(rendered_with_a_cluster(world, tmp_path))
    hooks = [each for each in found if "helm.sh/hook" in (each["metadata"].get("annotations") or {})]
    assert {each["metadata"]["annotations"]["helm.sh/hook"] for each in hooks} == {"pre-delete", "test"}
    text = "\n---\n".join(yaml.safe_dump(each) for each in hooks)
    done = world.plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert done.stderr == ""
    (deployment,) = [each for each in found if each["kind"] == "Deployment"]
    operator = deployment["spec"]["template"]["spec"]
    for hook in hooks:
        pod = hook["spec"]["template"]["spec"] if hook["kind"] == "Job" else hook["spec"]
        assert pod["securityContext"] == operator["securityContext"]
        assert pod["containers"][0]["securityContext"] == operator["containers"][0]["securityContext"]


@pytest.fixture(scope="module")
def own_plane() -> Iterator[control_plane.ControlPlane]:
    """An API server that has nothing of ours."""
    with control_plane.running() as plane:
        yield plane


def test_the_hook_of_a_release_retires(own_plane: control_plane.ControlPlane, tmp_path: pathlib.Path) -> None:
    """helm marks what it installs, and the pre-delete job that it stores with the release does its work."""
    admin = own_plane.kubeconfig()
    release = ("--namespace", NAMESPACE)
    helm.run("install", "cbo", str(helm.CHART), "--create-namespace", *release, home=tmp_path, kubeconfig=admin)
    (job,) = jobs(helm.run("get", "hooks", "cbo", *release, home=tmp_path, kubeconfig=admin).stdout)
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    own_plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    token = own_plane.kubectl("-n", NAMESPACE, "create", "token", "client-bandwidth-operator").stdout.strip()
    done = run_as_its_pod(job, own_plane.kubeconfig("operator", token=token))
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing of ours is left on any node" in done.stdout


def test_who_may_not_look_retires_nothing(world: World) -> None:
    """A hook that cannot see who manages the installation says so and leaves everything as it is."""
    world.nodes("node-0")
    job = {"spec": {"template": {"spec": {"containers": [{"args": ["retire", "--hook-of=helm", "--timeout=5"]}]}}}}
    done = run_as_its_pod(job, world.agent_kubeconfig("node-0"))
    assert done.returncode == 1
    assert "nothing was retired: it cannot be seen whether helm manages this" in done.stderr
