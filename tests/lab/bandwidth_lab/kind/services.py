"""Pods that send to every client that connects, behind NodePorts or on the node's network, in their own namespace."""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Iterable, Mapping
from typing import Any

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.cluster import Cluster

NAMESPACE = "uploads"
PORT = 5201


@dataclasses.dataclass(frozen=True, slots=True)
class Upload:
    """A service of one pod on a chosen node; `policy` is its externalTrafficPolicy."""

    name: str
    node: str
    node_port: int
    policy: str = "Cluster"
    host_network: bool = False

    @property
    def port(self) -> int:
        """The port that a client dials on a node."""
        return self.node_port

    def objects(self, image: str) -> Iterable[Mapping[str, Any]]:
        labels = {"app": self.name}
        listening = self.node_port if self.host_network else PORT
        container = {
            "name": "server",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-IBu", "/inside/server.py", str(listening)],
            "volumeMounts": [{"name": "inside", "mountPath": "/inside"}],
            "readinessProbe": {"tcpSocket": {"port": listening}, "periodSeconds": 1},
        }
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "nodeName": self.node,
                "hostNetwork": self.host_network,
                "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "enableServiceLinks": False,
                "automountServiceAccountToken": False,
                "containers": [container],
                "volumes": [{"name": "inside", "configMap": {"name": "inside"}}],
            },
        }
        if not self.host_network:
            yield {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": self.name, "namespace": NAMESPACE},
                "spec": {
                    "type": "NodePort",
                    "externalTrafficPolicy": self.policy,
                    "ipFamilyPolicy": "PreferDualStack",
                    "selector": labels,
                    "ports": [{"port": PORT, "nodePort": self.node_port}],
                },
            }


def start(cluster: Cluster, uploads: Iterable[Upload], image: str) -> None:
    """Make the namespace and everything in it, and wait until all of it answers."""
    source = importlib.resources.files("bandwidth_lab.kind.inside").joinpath("server.py").read_text()
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "inside", "namespace": NAMESPACE},
            "data": {"server.py": source},
        },
    )
    # A pod is refused as long as its new namespace has no service account yet.
    account = ("-n", NAMESPACE, "get", "serviceaccount", "default")
    shell.eventually("the namespace has its service account", lambda: cluster.kubectl(*account))
    cluster.apply(*(one for upload in uploads for one in upload.objects(image)))
    cluster.wait_pods(NAMESPACE, "app", seconds=180.0)
