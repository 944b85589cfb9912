"""A running agent with 10,000 limits: one change, a restart, its memory, its CPU at rest."""

from __future__ import annotations

import contextlib
import dataclasses
import select
import socket
import struct
import time
from collections.abc import Iterator

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux import real
from bandwidth_bench import agent, limits, stage
from bandwidth_bench.figures import Figure
from bandwidth_lab import pair
from bandwidth_lab.node import Node

COUNT = 10_000
QUICK_COUNT = 1_000
CHANGE_ROUNDS, RESTART_ROUNDS = 21, 5
SETTLE_SECONDS = 3.0
REST_AFTER_SECONDS = 10.0  # what a start leaves to be done, such as remembering the limits on disk, is done
SCRAPE_SECONDS, REST_SECONDS = 15.0, 120.0  # two of the agent's own read-backs
RATES = ("6Mbit", "5Mbit")
EVENT_SECONDS = 10.0

NLMSG_HEADER = struct.Struct("=IHHII")
RTM_NEWTCLASS = 40
RTMGRP_TC = 8


@contextlib.contextmanager
def _node(count: int) -> Iterator[Node]:
    with pair(prefix=stage.PREFIX) as network, stage.folder() as folder:
        yield agent.node(network.server.namespace, folder, "ifb", limits.many(count))


def _count(extent: stage.Extent) -> int:
    return QUICK_COUNT if extent.quick else COUNT


def change_one(extent: stage.Extent) -> list[Figure]:
    """From the renaming of a file to the kernel's own event that the class has changed; and the kernel part alone."""
    count = _count(extent)
    with _node(count) as node, agent.running(node) as running:
        running.until_ready()
        stage.pause(SETTLE_SECONDS)
        edits = [edit(node, RATES[number % 2]) for number in range(extent.rounds(CHANGE_ROUNDS))]
        alone = node.namespace.call(lambda: _kernel_alone(extent.rounds(CHANGE_ROUNDS)))
    case = {"what": "the rate of one limit", "limits": f"{count:,}"}
    return [
        Figure(case, "file to kernel", tuple(edits), "ms", high=50.0),
        Figure(case, "kernel part alone", tuple(alone), "ms", high=1.0),
    ]


def edit(node: Node, rate: str) -> float:
    """Milliseconds until the kernel says that a class has changed."""
    with node.namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
        events.bind((0, RTMGRP_TC))
        start = time.monotonic()
        limits.write(node.manifests / "first.yaml", limits.many(1, rate))
        while select.select([events], [], [], EVENT_SECONDS)[0]:
            if RTM_NEWTCLASS in types(events.recv(1 << 16)):
                milliseconds = (time.monotonic() - start) * 1e3
                stage.pause(0.3)  # the next edit finds an agent at rest
                return milliseconds
    raise TimeoutError(f"no class changed within {EVENT_SECONDS:g} s\n{node.log.read_text()}")


def types(data: bytes) -> Iterator[int]:
    """The types of the netlink messages in a datagram."""
    while data:
        length, kind, *_ = NLMSG_HEADER.unpack_from(data)
        yield kind
        data = data[(length + 3) & ~3 :]


def _kernel_alone(rounds: int) -> list[float]:
    """Milliseconds to alter one class among all of them, by the agent's own driver."""
    kernel = real.RealKernel()
    try:
        device, tree = next((name, tree) for name, tree in kernel.observe().trees.items() if tree.classes)
        minor, htb = next(iter(tree.classes.items()))
        return [_alter(kernel, device, minor, htb) for _ in range(rounds)]
    finally:
        kernel.close()


def _alter(kernel: real.RealKernel, device: str, minor: int, htb: objects.HtbClass) -> float:
    faster = htb._replace(rate=htb.rate * 2, ceil=htb.ceil * 2)
    there = objects.PutClasses(device, {minor: faster}, {minor: htb})
    back = dataclasses.replace(there, classes={minor: htb}, observed={minor: faster})
    start = time.perf_counter()
    outcome = kernel.apply_one(there)
    milliseconds = (time.perf_counter() - start) * 1e3
    assert outcome.failure is None
    assert not outcome.failed_classes
    kernel.apply_one(back)
    return milliseconds


def restart(extent: stage.Extent) -> list[Figure]:
    """From the start of the process until /readyz, with all limits in the kernel already; and what it changed."""
    count = _count(extent)
    seconds, changes = [], []
    with _node(count) as node:
        agent.once(node)
        for _ in range(extent.rounds(RESTART_ROUNDS)):
            with agent.running(node) as running:
                seconds.append(running.until_ready())
                changes.append(running.metric("client_bandwidth_kernel_changes_total"))
    case = {"limits": f"{count:,}"}
    return [
        Figure(case, "until adopted", tuple(seconds), "s", high=1.0),
        Figure(case, "changes", tuple(changes), "", high=0.0),
    ]


def memory(extent: stage.Extent) -> list[Figure]:
    """Resident memory with no limit, and of an agent that has programmed them all itself and was scraped."""
    found = []
    for count, reach in ((0, 90.0), (_count(extent), 150.0)):
        with _node(count) as node, agent.running(node) as running:
            running.until_ready()
            running.metrics()
            stage.pause(SETTLE_SECONDS)
            running.metrics()
            case = {"limits": f"{count:,}"}
            found.append(Figure(case, "resident", (running.resident_mib(),), "MiB", high=reach))
    return found


def rest(extent: stage.Extent) -> list[Figure]:
    """CPU of an agent to which nothing happens but scrapes, read-backs on its timer included."""
    count = _count(extent)
    with _node(count) as node, agent.running(node) as running:
        running.until_ready()
        stage.pause(REST_AFTER_SECONDS)
        shares, scrapes = [], []
        for _ in range(max(2, round(extent.seconds(REST_SECONDS) / SCRAPE_SECONDS))):
            start, cpu = time.monotonic(), running.cpu_seconds()
            running.metrics()
            scrapes.append((time.monotonic() - start) * 1e3)
            stage.pause(start + SCRAPE_SECONDS - time.monotonic())
            shares.append((running.cpu_seconds() - cpu) / (time.monotonic() - start) * 100)
    case = {"limits": f"{count:,}"}
    return [
        Figure(case, "CPU, mean", (sum(shares) / len(shares),), "%", high=1.0),
        Figure(case, "CPU per 15 s", tuple(shares), "%"),
        Figure(case, "one scrape", tuple(scrapes), "ms"),
    ]
