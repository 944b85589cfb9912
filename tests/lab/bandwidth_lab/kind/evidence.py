"""Collects the evidence of a failure in a cluster into a folder: logs, objects, kernel states, measurements.

Never raises: an error is written into the file that would have held the evidence.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Callable, Iterable

from bandwidth_lab.kind import shell
from bandwidth_lab.kind.client import Stream
from bandwidth_lab.kind.cluster import Cluster
from bandwidth_lab.kind.node import Node
from bandwidth_lab.kind.release import NAMESPACE

_OBJECTS = ",".join(
    (
        "nodes",
        "clientbandwidthlimits",
        "bandwidthplanslices",
        "nodebandwidthstates",
        "pods",
        "daemonsets",
        "deployments",
        "jobs",
        "leases",
        "services",
    )
)


def collect(cluster: Cluster, folder: pathlib.Path, streams: Iterable[Stream] = ()) -> None:
    """Fill the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "objects.yaml", lambda: cluster.kubectl("get", _OBJECTS, "-A", "-o", "yaml", check=False))
    _write(folder / "pods.txt", lambda: cluster.kubectl("get", "pods", "-A", "-o", "wide", check=False))
    _write(folder / "limits.txt", lambda: cluster.kubectl("describe", "clientbandwidthlimits", check=False))
    _write(
        folder / "events.txt", lambda: cluster.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)
    )
    _write(folder / "release-pods.txt", lambda: cluster.kubectl("-n", NAMESPACE, "describe", "pods", check=False))
    try:
        nodes = cluster.nodes
    except (shell.FailedCommandError, subprocess.TimeoutExpired):
        nodes = []
    for node in nodes:
        _collect_node(node, folder / node.name)
    for stream in streams:
        samples = [
            (one.at, one.until, one.wire[4], one.wire[6], one.payload, one.dials) for one in list(stream.samples)
        ]
        (folder / f"{stream.container}.json").write_text(json.dumps(samples))


def _collect_node(node: Node, folder: pathlib.Path) -> None:
    folder.mkdir(exist_ok=True)
    _write(folder / "kernel.txt", node.kernel_counters)
    # From the node's own files: they are there when the API server is not, and of containers that are gone.
    logs = f"cd /var/log/pods && tail -n 2000 {NAMESPACE}_*/*/*.log"
    _write(folder / "logs.txt", lambda: node.run("sh", "-c", logs, check=False))
    _write(folder / "kubelet.txt", lambda: node.run("journalctl", "-u", "kubelet", "-n", "500", check=False))


def _write(path: pathlib.Path, read: Callable[[], str]) -> None:
    try:
        text = read()
    except (shell.FailedCommandError, subprocess.TimeoutExpired, OSError) as failure:
        text = f"could not be had: {failure}\n"
    path.write_text(text)
