"""An eBPF datapath in a kind cluster, a DaemonSet: it leads the NodePorts of chosen pods past netfilter on all nodes.

What it stands for: Cilium with eBPF host routing, GKE Dataplane V2, Calico's eBPF. No part of the product.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from bandwidth_lab import ebpf_cluster
from bandwidth_lab.kind import services, shell
from bandwidth_lab.kind.cluster import Cluster
from bandwidth_lab.kind.node import Node

NAMESPACE = "datapath"
NAME = "datapath"
PROGRAM = "bandwidth_lab/kind/inside/datapath.py"
_LIBRARIES = "/opt/client-bandwidth/lib"  # in the agent's image
_READY = "/tmp/ready"  # noqa: S108
_READY_SECONDS = _GONE_SECONDS = 60.0


@contextlib.contextmanager
def running(cluster: Cluster, uploads: Collection[services.Upload], image: str) -> Iterator[None]:
    """The datapath on all nodes while this lasts. `image`: the agent's, which has Python and is on all nodes."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    account = ("-n", NAMESPACE, "get", "serviceaccount", "default")
    shell.eventually("the namespace has its service account", lambda: cluster.kubectl(*account))
    try:
        cluster.apply(*_objects(described(cluster, uploads), image))
        _wait_ready(cluster)
        yield
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, f"--timeout={_GONE_SECONDS:g}s", timeout=_GONE_SECONDS + 10)


def _wait_ready(cluster: Cluster) -> None:
    rollout = ("rollout", "status", f"daemonset/{NAME}", f"--timeout={_READY_SECONDS:g}s")
    try:
        cluster.kubectl("-n", NAMESPACE, *rollout, timeout=_READY_SECONDS + 10)
    except shell.FailedCommandError as late:
        said = cluster.kubectl("-n", NAMESPACE, "logs", "--prefix", "-l", f"app={NAME}", check=False)
        raise TimeoutError(f"{late}\n{said}") from None


def carried() -> dict[str, str]:
    """The files that a node's program is made of, and what is in each."""
    modules = ("ebpf", "ebpf_translation", "ebpf_cluster")
    folder = importlib.resources.files("bandwidth_lab")
    names = [*(f"bandwidth_lab/{module}.py" for module in modules), PROGRAM]
    return {name: folder.joinpath(name.removeprefix("bandwidth_lab/")).read_text() for name in names}


def described(cluster: Cluster, uploads: Collection[services.Upload]) -> ebpf_cluster.Cluster:
    """The cluster as the datapath has to know it."""
    subnets = shell.run(
        ["docker", "network", "inspect", "kind", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}"]
    )
    made = []
    for upload in uploads:
        status = cluster.get("-n", services.NAMESPACE, "pod", upload.name)["status"]
        pod = _by_family(one["ip"] for one in status["podIPs"])
        made.append(ebpf_cluster.Service(upload.node, upload.node_port, pod, services.PORT))
    nodes = {node.name: {family: node.address(family) for family in (4, 6)} for node in cluster.nodes}
    return ebpf_cluster.Cluster(nodes, _by_family(subnets.split()), tuple(made))


def programs(cluster: Cluster, node: Node) -> str:
    """The programs at TCX on the way out of a node, while the datapath runs."""
    pods = cluster.get("-n", NAMESPACE, "pods", "--field-selector", f"spec.nodeName={node.name}")["items"]
    (pod,) = (pod["metadata"]["name"] for pod in pods)
    code = f"from bandwidth_lab import ebpf; print(*ebpf.at_tcx({ebpf_cluster.UPLINK!r}, 'egress'))"
    return cluster.kubectl("-n", NAMESPACE, "exec", pod, "--", "python3", "-Bc", code)


def _by_family(texts: Iterator[str] | Collection[str]) -> dict[int, str]:
    return {6 if ":" in text else 4: text for text in texts}


def _objects(described: ebpf_cluster.Cluster, image: str) -> list[Mapping[str, Any]]:
    keys = {name.replace("/", "-"): name for name in carried()}
    data = {key: carried()[name] for key, name in keys.items()}
    data["cluster.json"] = json.dumps(described.as_json())
    files = [{"key": key, "path": name} for key, name in keys.items()]
    inside = {"name": NAME, "items": [*files, {"key": "cluster.json", "path": "cluster.json"}]}
    container = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-Bu", f"/inside/{PROGRAM}", "/inside/cluster.json", _READY],
        "env": [
            {"name": "PYTHONPATH", "value": f"/inside:{_LIBRARIES}"},
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "securityContext": {"privileged": True},
        "readinessProbe": {"exec": {"command": ["test", "-e", _READY]}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "inside", "mountPath": "/inside"},
            {"name": "bpf", "mountPath": "/sys/fs/bpf", "mountPropagation": "Bidirectional"},
        ],
    }
    pod = {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 5,
        "tolerations": [{"operator": "Exists"}],
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [
            {"name": "inside", "configMap": inside},
            {"name": "bpf", "hostPath": {"path": "/sys/fs/bpf", "type": "Directory"}},
        ],
    }
    labels = {"app": NAME}
    daemon_set = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    place = {"name": NAME, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": data},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": place, "spec": daemon_set},
    ]
