"""Three real agents on three nodes with 10,000 limits: `kubectl apply` until it is in their kernels, memory, reports.

kubectl ─▶ API server ─▶ operator ─▶ slice ─▶ agent ─▶ kernel: RTM_NEWTCLASS, read in the node's own namespace
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence

from bandwidth_bench import cluster, stage
from bandwidth_bench.cluster import Cluster
from bandwidth_bench.figures import Figure
from bandwidth_bench.rows import resident
from bandwidth_bench.rows.cluster_operator import COUNT, figure
from bandwidth_lab.cluster_node import ClusterNode
from bandwidth_lab.fleet import fleet

NODES = 3
QUICK_COUNT = 1_000
APPLY_ROUNDS = 100
SETTLE_SECONDS, BETWEEN_SECONDS = 20.0, 0.5
APPLY_SECONDS = 30.0
RECEIVE_BYTES = 1 << 16
BUFFER_BYTES = 1 << 24


def measure(extent: stage.Extent) -> list[Figure]:
    """All of it in one cluster, filled once."""
    count = QUICK_COUNT if extent.quick else COUNT
    with cluster.running() as of, fleet(NODES, 0, prefix=stage.PREFIX) as network:
        operator = of.operator("operator")
        kubeconfigs = of.agent_kubeconfigs([f"node-{n}" for n in range(NODES)])
        nodes = [
            ClusterNode(name, host, of.folder / name, kubeconfigs[name])
            for name, host in zip(sorted(kubeconfigs), network.nodes, strict=True)
        ]
        try:
            for node in nodes:
                node.start()
            cluster.until(lambda: len(of.items(cluster.STATES)) == NODES, "all nodes report")
            few = _reports(of)
            stage.say(f"{count:,} limits in {of.fill(range(count)):.0f} s")
            cluster.until(lambda: of.statuses_ready() == count, "all limits are Ready", pause=2.0)
            cluster.until(lambda: not operator.get_metric("bandwidth_operator_statuses_waiting"), "nothing waits")
            stage.pause(SETTLE_SECONDS)
            found = _applies(of, nodes, count, extent.rounds(APPLY_ROUNDS))
            found += _memory(nodes, count)
            found += _sizes(few, _reports(of), count)
        except BaseException:
            for node in nodes:
                stage.say(f"{node.name}:\n{node.log[-2000:]}")
            raise
        finally:
            for node in nodes:
                node.close()
    return found


# ── kubectl apply until it is in the kernel ────────────────────────────────────────────────────────────────────


def _applies(of: Cluster, nodes: Sequence[ClusterNode], count: int, rounds: int) -> list[Figure]:
    """From the start of kubectl until the last of the nodes' kernels has changed the limit's class."""
    whole, alone, behind = [], [], []
    for number in range(rounds):
        limit = cluster.limit(number * 97 % count, f"{6 + number % 7}Mbit")
        with _listening(nodes) as sockets:
            start = time.monotonic()
            # In the background: the kernels may be faster than kubectl is to end.
            process = subprocess.Popen(
                of.plane.kubectl_command("apply", "-f", "-"),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"HOME": str(of.folder)},
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(limit).encode())
            process.stdin.close()
            changed = _until_changed(sockets) - start
            process.wait(APPLY_SECONDS)
            assert process.returncode == 0
        whole.append(changed)
        alone.append(_kubectl_alone(of))
        behind.append(changed - alone[-1])
        stage.pause(BETWEEN_SECONDS)
    what = f"kubectl apply, {count:,} limits, {NODES} real agents"
    return [
        figure(f"{what}: until in all kernels, p50", tuple(whole), "s", high=0.5),
        figure(f"{what}: until in all kernels, p99", (_percentile(whole, 99),), "s", high=2.0),
        figure(f"{what}: kubectl alone, p50", tuple(alone), "s"),
        figure(f"{what}: behind kubectl, p50", (statistics.median(behind),), "s"),
    ]


def _kubectl_alone(of: Cluster) -> float:
    """The same command with an object that is not watched."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bench", "namespace": "default"}}
    start = time.monotonic()
    of.plane.kubectl("apply", "-f", "-", stdin=json.dumps(body | {"data": {"at": str(start)}}))
    return time.monotonic() - start


@contextlib.contextmanager
def _listening(nodes: Sequence[ClusterNode]) -> Iterator[list[socket.socket]]:
    """What the kernels of the nodes tell about classes from now on."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for node in nodes:
            each = stack.enter_context(
                node.host.namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            )
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            each.bind((0, resident.RTMGRP_TC))
            sockets.append(each)
        yield sockets


def _until_changed(sockets: Sequence[socket.socket]) -> float:
    """The time at which the last of them told of a class that changed."""
    waiting = set(sockets)
    deadline = time.monotonic() + APPLY_SECONDS
    while waiting:
        readable = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))[0]
        if not readable:
            raise TimeoutError(f"{len(waiting)} kernels have not changed within {APPLY_SECONDS:g} s")
        for each in readable:
            if resident.RTM_NEWTCLASS in resident.types(each.recv(RECEIVE_BYTES)):
                waiting.discard(each)
    return time.monotonic()


def _percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(len(ordered) * percent / 100))]


# ── memory and reports ─────────────────────────────────────────────────────────────────────────────────────────


def _memory(nodes: Sequence[ClusterNode], count: int) -> list[Figure]:
    """Resident memory of agents that have taken up all limits from slices, some edits, and were scraped."""
    for node in nodes:
        assert node.page("/metrics")[0] == 200
    stage.pause(3.0)
    resident_mib = tuple(cluster.resident_mib(node.process.pid) for node in nodes)
    peak_mib = tuple(cluster.peak_mib(node.process.pid) for node in nodes)
    return [
        figure(f"agent in a cluster, {count:,} limits: memory", resident_mib, "MiB", high=150.0),
        figure(f"agent in a cluster, {count:,} limits: memory, largest", peak_mib, "MiB"),
    ]


def _reports(of: Cluster) -> tuple[float, ...]:
    return tuple(float(cluster.object_bytes(item.get("status") or {})) for item in of.items(cluster.STATES))


def _sizes(few: tuple[float, ...], many: tuple[float, ...], count: int) -> list[Figure]:
    return [
        figure("node state without a limit", few, "bytes", high=2048.0),
        figure(f"node state with {count:,} limits", many, "bytes", high=2048.0),
    ]
