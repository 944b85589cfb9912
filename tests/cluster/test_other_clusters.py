"""The chart on clusters that kubeadm does not make: quotas on critical pods, Nodes by name only, a wrong image."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from bandwidth_lab import control_plane
from cluster import helm

NAMESPACE = "client-bandwidth"
CRITICAL = ["system-cluster-critical", "system-node-critical"]
# As GKE has it: critical pods only where a quota speaks of them.
ADMISSION = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            "name": "ResourceQuota",
            "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "ResourceQuotaConfiguration",
                "limitedResources": [
                    {
                        "resource": "pods",
                        "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": CRITICAL}],
                    }
                ],
            },
        }
    ],
}


def documents(*words: str, home: pathlib.Path) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all(helm.template(*words, home=home)) if d]


def pods_of(rendered: list[dict[str, Any]]) -> dict[str, Any]:
    """A pod of each workload, as its controller would make it, by kind."""
    return {
        each["kind"]: {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": each["kind"].lower(), "namespace": NAMESPACE},
            "spec": each["spec"]["template"]["spec"],
        }
        for each in rendered
        if each["kind"] in ("Deployment", "DaemonSet")
    }


def test_critical_pods_where_only_a_quota_admits_them(tmp_path: pathlib.Path) -> None:
    """The chart brings the quota; without it and without a class, as values allow, the pods are admitted too."""
    (tmp_path / "admission.yaml").write_text(json.dumps(ADMISSION))
    with control_plane.running(flags=(f"--admission-control-config-file={tmp_path / 'admission.yaml'}",)) as plane:
        plane.kubectl("create", "namespace", NAMESPACE)
        rendered = documents(home=tmp_path)
        pods = pods_of(rendered)
        for pod in pods.values():
            refused = plane.kubectl("create", "-f", "-", stdin=json.dumps(pod), check=False)
            assert "insufficient quota to match these scopes" in refused.stderr
        (quota,) = [each for each in rendered if each["kind"] == "ResourceQuota"]
        plane.kubectl("create", "-f", "-", stdin=json.dumps(quota))
        # What the quota controller does, which does not run here.
        status = {"status": {"hard": quota["spec"]["hard"], "used": {"pods": "0"}}}
        words = ("patch", "resourcequota", quota["metadata"]["name"], "--subresource=status", "--type=merge")
        plane.kubectl("-n", NAMESPACE, *words, "-p", json.dumps(status))
        for pod in pods.values():
            plane.kubectl("create", "-f", "-", stdin=json.dumps(pod))
        plane.kubectl("-n", NAMESPACE, "delete", "resourcequota,pod", "--all", "--now", "--wait=false")
        classless = ("operator.priorityClassName=", "agent.priorityClassName=")
        rendered = documents(*(word for value in classless for word in ("--set", value)), home=tmp_path)
        assert [each for each in rendered if each["kind"] == "ResourceQuota"] == []
        for pod in pods_of(rendered).values():
            pod["metadata"]["name"] += "-classless"
            plane.kubectl("create", "-f", "-", stdin=json.dumps(pod))


def test_the_quota_names_the_classes_that_are_used(tmp_path: pathlib.Path) -> None:
    """Those of operator and agents, if they are critical, and there is none where the value says so."""
    for settings, classes in (
        ((), CRITICAL),
        (("operator.priorityClassName=mine",), ["system-node-critical"]),
        (("operator.priorityClassName=system-node-critical",), ["system-node-critical"]),
        (("criticalPods.resourceQuota=false",), None),
        (("operator.priorityClassName=mine", "agent.priorityClassName=ours"), None),
    ):
        words = [word for setting in settings for word in ("--set", setting)]
        quotas = [d for d in documents(*words, home=tmp_path) if d["kind"] == "ResourceQuota"]
        found = [q["spec"]["scopeSelector"]["matchExpressions"][0]["values"] for q in quotas]
        assert found == ([] if classes is None else [classes]), settings


def admits(affinity: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels may have the pod: any of the terms, all of a term's expressions."""
    required = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    meets = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, _: key in labels,
        "DoesNotExist": lambda key, _: key not in labels,
    }
    return any(
        all(meets[e["operator"]](e["key"], e.get("values")) for e in term["matchExpressions"])
        for term in required["nodeSelectorTerms"]
    )


@pytest.mark.parametrize(
    ("labels", "runs"),
    [
        ({}, True),
        ({"eks.amazonaws.com/compute-type": "ec2"}, True),
        ({"eks.amazonaws.com/compute-type": "auto"}, True),
        ({"node.kubernetes.io/instance-type": "m5.large", "type": "worker"}, True),
        ({"eks.amazonaws.com/compute-type": "fargate"}, False),
        ({"type": "virtual-kubelet", "kubernetes.io/role": "agent"}, False),
        ({"virtual-kubelet.io/provider": "azure"}, False),
        ({"liqo.io/type": "virtual-node"}, False),
        ({"type": "kwok"}, False),
    ],
    ids=str,
)
def test_no_agent_is_made_for_a_node_by_name_only(labels: dict[str, str], runs: bool, tmp_path: pathlib.Path) -> None:
    """Agents are made for every real node, and for none where there is no kernel of the node's own."""
    (agents,) = [d for d in documents(home=tmp_path) if d["kind"] == "DaemonSet"]
    assert admits(agents["spec"]["template"]["spec"]["affinity"], labels) == runs


def test_the_affinity_of_agents_is_a_value(tmp_path: pathlib.Path) -> None:
    """Terms of one's own replace those of the chart, other affinities stand beside them, and null takes them away."""
    node = "agent.affinity.nodeAffinity"
    own = f"{node}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]"
    (agents,) = [
        d
        for d in documents("--set", f"{own}.key=edge,{own}.operator=Exists", home=tmp_path)
        if d["kind"] == "DaemonSet"
    ]
    affinity = agents["spec"]["template"]["spec"]["affinity"]
    assert admits(affinity, {"edge": "", "type": "virtual-kubelet"})
    assert not admits(affinity, {})
    (agents,) = [d for d in documents("--set", f"{node}=null", home=tmp_path) if d["kind"] == "DaemonSet"]
    assert "affinity" not in agents["spec"]["template"]["spec"]


def test_a_release_with_an_image_that_cannot_be_pulled(tmp_path: pathlib.Path) -> None:
    """The job of the uninstallation waits for its image in vain; each way that the docs name leads out."""
    with control_plane.running() as plane:
        kubeconfig = plane.kubeconfig()

        def run(*words: str, check: bool = True) -> str:
            done = helm.run(*words, "--namespace", NAMESPACE, home=tmp_path, kubeconfig=kubeconfig, check=check)
            return "" if done.returncode == 0 else done.stderr

        def stuck() -> None:
            run("install", "cbo", str(helm.CHART), "--create-namespace", "--set", "operator.image.repository=typo")
            assert run("uninstall", "cbo", "--timeout", "3s", check=False)

        def release() -> str:
            return helm.run("list", "-a", "-q", "-n", NAMESPACE, home=tmp_path, kubeconfig=kubeconfig).stdout.strip()

        stuck()
        assert "no deployed releases" in run("upgrade", "cbo", str(helm.CHART), check=False)
        run("rollback", "cbo", "1")
        run("upgrade", "cbo", str(helm.CHART), "--set", "operator.image.repository=client-bandwidth-operator")
        assert (
            "image: client-bandwidth-operator:dev"
            in helm.run("get", "hooks", "cbo", "-n", NAMESPACE, home=tmp_path, kubeconfig=kubeconfig).stdout
        )
        run("upgrade", "cbo", str(helm.CHART), "--set", "retire.enabled=false")
        run("uninstall", "cbo")
        assert release() == ""
        stuck()
        run("uninstall", "cbo", "--no-hooks")
        assert release() == ""
        plane.kubectl("-n", NAMESPACE, "delete", "job", "client-bandwidth-retire", "--wait=false")
