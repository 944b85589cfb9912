"""One more worker for a cluster that kind has made: a container like the others, joined by kubeadm, then removed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.cluster import Cluster
from bandwidth_lab.kind.node import Node

JOIN_SECONDS = 180.0
CONFIG = "/kind/kubeadm.conf"


@contextlib.contextmanager
def added(cluster: Cluster, like: Node, images: Sequence[str]) -> Iterator[Node]:
    """A Ready worker made in the likeness of another one, with these images in it."""
    node = Node(f"{cluster.name}-worker{len(cluster.nodes)}")
    try:
        _start(cluster, node, like)
        cluster.load(*images, nodes=[node.name])
        _join(cluster, node)
        cluster.wait_ready()
        yield node
    finally:
        cluster.kubectl("delete", "node", node.name, "--ignore-not-found", check=False)
        shell.run(["docker", "rm", "-f", "-v", node.name], check=False)


def _start(cluster: Cluster, node: Node, like: Node) -> None:
    """A container with the options that kind gives to its nodes."""
    (model,) = json.loads(shell.run(["docker", "inspect", like.name]))
    labels = {key: value for key, value in model["Config"]["Labels"].items() if key.startswith("io.x-k8s.kind.")}
    command = ["docker", "run", "-d", "--tty", "--name", node.name, "--hostname", node.name, "--network", "kind"]
    command += ["--privileged", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
    command += ["--tmpfs", "/tmp", "--tmpfs", "/run", "--volume", "/var", "--volume", "/lib/modules:/lib/modules:ro"]  # noqa: S108
    command += [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    if model["HostConfig"]["CgroupnsMode"]:
        command += [f"--cgroupns={model['HostConfig']['CgroupnsMode']}"]
    command += [
        word for key, value in (model["HostConfig"]["Sysctls"] or {}).items() for word in ("--sysctl", f"{key}={value}")
    ]
    command += [word for variable in model["Config"]["Env"] for word in ("--env", variable)]
    shell.run([*command, model["Config"]["Image"]])
    shell.eventually("containerd runs on the new node", lambda: node.run("ctr", "version"))


def _join(cluster: Cluster, node: Node) -> None:
    """Join by the configuration that `like` joined with, but with the new node's own name and addresses."""
    like = next(one for one in cluster.workers if one.name != node.name)
    text = like.run("cat", CONFIG).replace(like.name, node.name)
    for family in (4, 6):
        text = text.replace(like.address(family), node.address(family))
    shell.run(["docker", "exec", "-i", node.name, "sh", "-c", f"cat >{CONFIG}"], stdin=text)
    node.run("kubeadm", "join", "--config", CONFIG, "--skip-phases=preflight", timeout=JOIN_SECONDS)
