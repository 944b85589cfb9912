"""A cluster made by kind: one control plane and two workers, IPv4 and IPv6, or a single node with IPv6 alone.

It is removed even after a failure.

Owns the cluster's containers and a kubeconfig file of its own; never reads or writes the user's.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.node import Node

PREFIX = "cbl-e2e-"
CREATE_SECONDS = 400.0
LOAD_SECONDS = 300.0

IPV6_PREFIX = f"{PREFIX}ipv6-"

_CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {ipFamily: dual}
nodes:
- role: control-plane
- role: worker
- role: worker
"""
# kind would make the API server listen on ::1, which not every machine that runs it has.
_IPV6_CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {ipFamily: ipv6, apiServerAddress: 127.0.0.1}
nodes:
- role: control-plane
"""


class ClusterFailedError(Exception):
    """kind could not make a cluster; the message says why and where its logs are."""


class Cluster:
    """A running kind cluster. `workers` are in the order of their names."""

    def __init__(self, name: str, kubeconfig: pathlib.Path) -> None:
        self.name = name
        self.kubeconfig = kubeconfig

    @property
    def nodes(self) -> list[Node]:
        listed = shell.run(["docker", "ps", "-a", *self._filter(), "--format", "{{.Names}}"])
        return [Node(name) for name in sorted(listed.split())]

    @property
    def control_plane(self) -> Node:
        return next(node for node in self.nodes if node.name.endswith("-control-plane"))

    @property
    def workers(self) -> list[Node]:
        return [node for node in self.nodes if not node.name.endswith("-control-plane")]

    def _filter(self) -> list[str]:
        return ["--filter", f"label=io.x-k8s.kind.cluster={self.name}"]

    def environment(self) -> dict[str, str]:
        """The environment for programs that shall speak to this cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def kubectl(
        self, *arguments: str, stdin: str | None = None, timeout: float = shell.TIMEOUT_SECONDS, check: bool = True
    ) -> str:
        """What kubectl prints."""
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
        return shell.run(command, stdin=stdin, timeout=timeout, check=check)

    def cbl(self, *words: str, timeout: float = shell.TIMEOUT_SECONDS, check: bool = True) -> str:
        """What the plugin of the work tree prints, called as its users call it: `kubectl cbl …`."""
        programs = pathlib.Path(sys.executable).parent
        environment = self.environment()
        environment["PATH"] = f"{programs}:{environment.get('PATH', os.defpath)}"
        return shell.run(["kubectl", "cbl", *words], timeout=timeout, check=check, env=environment)

    def apply(self, *objects: Mapping[str, Any], server_side: bool = False) -> None:
        """`kubectl apply` these objects."""
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", *(["--server-side"] if server_side else []), "-f", "-", stdin=listed)

    def get(self, *arguments: str) -> Any:
        """`kubectl get … -o json`."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def load(self, *images: str, nodes: Sequence[str] = ()) -> None:
        """Bring images of this machine's Docker into the nodes."""
        chosen = ["--nodes", ",".join(nodes)] if nodes else []
        shell.run(["kind", "load", "docker-image", "--name", self.name, *chosen, *images], timeout=LOAD_SECONDS)

    def wait_ready(self, *, seconds: float = 180.0) -> None:
        """Wait until every node is Ready."""
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={seconds:g}s", timeout=seconds + 10)

    def wait_pods(self, namespace: str, selector: str, *, seconds: float = 120.0) -> None:
        """Wait until the pods of a selector are Ready, of which there must be one."""

        def ready() -> bool:
            pods = self.get("-n", namespace, "pods", "-l", selector)["items"]
            return bool(pods) and all(_ready(pod) for pod in pods)

        shell.eventually(f"pods {selector} in {namespace} are ready", ready, seconds=seconds)


def _ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    alive = "deletionTimestamp" not in pod["metadata"]
    return alive and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@contextlib.contextmanager
def made(folder: pathlib.Path, *, prefix: str = PREFIX) -> Iterator[Cluster]:
    """A new cluster with its kubeconfig in `folder`.

    KIND_NODE_IMAGE names the node image, else kind chooses. E2E_KEEP=1 keeps the cluster and prints how to use and
    remove it; E2E_CLUSTER=NAME uses one that was left.
    """
    kubeconfig = _kubeconfig(folder)
    if existing := os.environ.get("E2E_CLUSTER"):
        shell.run(["kind", "export", "kubeconfig", "--name", existing, "--kubeconfig", str(kubeconfig)])
        yield Cluster(existing, kubeconfig)
        return
    keep = os.environ.get("E2E_KEEP", "") not in ("", "0")
    name = f"{prefix}{'kept-' if keep else ''}{os.getpid()}"
    remove_stale(prefix)
    try:
        yield _create(name, kubeconfig, folder, _CONFIG)
    finally:
        if keep:
            print(f"\nthe cluster is kept: export KUBECONFIG={kubeconfig.resolve()}")
            print(f"tests in it again: E2E_CLUSTER={name}; remove it: kind delete cluster --name {name}")
        else:
            remove(name)


@contextlib.contextmanager
def made_ipv6(folder: pathlib.Path) -> Iterator[Cluster]:
    """A new cluster of one node that has IPv6 alone, never kept."""
    kubeconfig = _kubeconfig(folder)
    name = f"{IPV6_PREFIX}{os.getpid()}"
    remove_stale(IPV6_PREFIX)
    try:
        yield _create(name, kubeconfig, folder, _IPV6_CONFIG)
    finally:
        remove(name)


def _kubeconfig(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "kubeconfig"


def _create(name: str, kubeconfig: pathlib.Path, folder: pathlib.Path, config: str) -> Cluster:
    command = [
        "kind",
        "create",
        "cluster",
        "--name",
        name,
        "--kubeconfig",
        str(kubeconfig),
        "--config",
        "-",
        "--retain",
    ]
    if image := os.environ.get("KIND_NODE_IMAGE"):
        command += ["--image", image]
    cluster = Cluster(name, kubeconfig)
    try:
        shell.run(command, stdin=config, timeout=CREATE_SECONDS)
        cluster.wait_ready()
    except (shell.FailedCommandError, subprocess.TimeoutExpired) as failure:
        shell.run(["kind", "export", "logs", "--name", name, str(folder / "kind")], timeout=120.0, check=False)
        raise ClusterFailedError(f"no cluster was made; its logs are in {folder / 'kind'}\n{failure}") from failure
    return cluster


def remove(name: str) -> None:
    """Remove a cluster of ours if it is there, and the containers beside it."""
    beside = shell.run(["docker", "ps", "-aq", "--filter", f"label={PREFIX}of={name}"]).split()
    if beside:
        shell.run(["docker", "rm", "-f", *beside])
    shell.run(
        ["kind", "delete", "cluster", "--name", name, "-q", "--kubeconfig", os.devnull], timeout=180.0, check=False
    )


def remove_stale(prefix: str = PREFIX) -> None:
    """Remove clusters with this prefix whose maker is dead."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        for name in shell.run(["kind", "get", "clusters", "-q"]).split():
            maker = re.fullmatch(re.escape(prefix) + r"(\d+)", name)
            if maker and not pathlib.Path("/proc", maker[1]).exists():
                remove(name)
