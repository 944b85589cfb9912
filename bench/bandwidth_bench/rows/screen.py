"""What the screen of `top` takes while somebody looks: CPU and memory of its process, on a terminal of 100 × 30."""

from __future__ import annotations

import os
import pathlib
import time

from bandwidth_bench import stage
from bandwidth_bench.figures import Figure
from bandwidth_lab import Network, TcpFlow, star
from bandwidth_lab.node import Node
from bandwidth_lab.terminal import Terminal, terminal

ROUNDS, ROUND_SECONDS = 6, 10.0
SETTLE_SECONDS = 12.0  # until the windows that matter are full
BITS_PER_SECOND = 400e6
CPU_MAX_PERCENT, MEMORY_MAX_MIB = 1.0, 40.0
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(extent: stage.Extent) -> list[Figure]:
    """One client with 400 Mbit/s of TCP, one at its limit."""
    with star(clients=2, prefix=stage.PREFIX) as network, stage.folder() as folder:
        node = Node(network.server.namespace, folder)
        node.limit("slow", [network.clients[1].address4], "20Mbit")
        node.once()
        return _looked_at(network, node, folder, extent)


def _looked_at(network: Network, node: Node, folder: pathlib.Path, extent: stage.Extent) -> list[Figure]:
    greedy, limited = network.clients
    with (
        TcpFlow(network.server, greedy, rate_bits_per_second=BITS_PER_SECOND),
        TcpFlow(network.server, limited),
        terminal(lambda words: node.namespace.run(list(words)).stdout, folder, width=100, height=30) as made,
    ):
        process = _start(made, node)
        made.until(greedy.address4)
        stage.pause(SETTLE_SECONDS)
        shares = []
        for _ in range(extent.rounds(ROUNDS)):
            began, cpu = time.monotonic(), _cpu_seconds(process)
            stage.pause(ROUND_SECONDS)
            shares.append((_cpu_seconds(process) - cpu) / (time.monotonic() - began) * 100)
        case = {"traffic": "400 Mbit/s of TCP", "every": "2 s"}
        return [
            Figure(case, "CPU of a core", tuple(shares), "%", high=CPU_MAX_PERCENT),
            Figure(case, "memory", (_memory_mib(process, "VmRSS"),), "MiB", high=MEMORY_MAX_MIB),
            Figure(case, "of its own", (_memory_mib(process, "RssAnon"),), "MiB"),
        ]


def _start(on: Terminal, node: Node) -> pathlib.Path:
    """Start `top`, and return its process in /proc."""
    on.write(f"echo $$ >{node.state.parent}/pid; exec {' '.join(node.command('top'))}")
    on.type("Enter")
    on.until("CLIENT")
    return pathlib.Path("/proc", (node.state.parent / "pid").read_text().strip())


def _cpu_seconds(process: pathlib.Path) -> float:
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory_mib(process: pathlib.Path, field: str) -> float:
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
