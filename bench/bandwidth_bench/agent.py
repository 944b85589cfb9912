"""The agent under test: a node of the lab with many limits, and what /proc and /metrics say of it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from bandwidth_bench import limits
from bandwidth_lab import Namespace
from bandwidth_lab.namespaces import Process
from bandwidth_lab.node import Node

METRICS = "127.0.0.1:9977"
TIMEOUT_SECONDS = 400.0  # 30,000 classes on one HTB take the kernel two minutes
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def node(
    namespace: Namespace, folder: pathlib.Path, placement: str, wanted: Sequence[limits.Limit] = (), *options: str
) -> Node:
    """A node whose files hold these limits; nothing is in force yet."""
    made = Node(namespace, folder, "--placement", placement, "--interface", "eth0", "--log-level", "error", *options)
    limits.fill(made.manifests, wanted)
    return made


def once(of: Node) -> dict[str, Any]:
    """`run --once`, with the patience that 30,000 limits take; its report. Raises unless every limit is in force."""
    done = of.namespace.run(of.command("run", "--once", "-o", "json"), timeout=TIMEOUT_SECONDS)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def cleanup(of: Node) -> None:
    """Everything away again."""
    of.namespace.run(of.command("cleanup"), timeout=TIMEOUT_SECONDS)


@contextlib.contextmanager
def running(of: Node) -> Iterator[Running]:
    """`run` with metrics, from the moment it is started; stopped at the end."""
    started_at = time.monotonic()
    process = of.start("--metrics-address", METRICS)
    try:
        yield Running(of, process, started_at)
    finally:
        of.stop()


class Running:
    """A running daemon."""

    def __init__(self, of: Node, process: Process, started_at: float) -> None:
        self._node, self._process, self._started_at = of, process, started_at

    def until_ready(self) -> float:
        """Wait until /readyz says so: seconds since the process was started."""
        return self._node.namespace.call(self._until_ready)

    def _until_ready(self) -> float:
        while time.monotonic() < self._started_at + TIMEOUT_SECONDS and self._process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{METRICS}/readyz", timeout=5):
                return time.monotonic() - self._started_at
            time.sleep(0.005)
        raise TimeoutError(f"the agent is not ready (exit {self._process.poll()})\n{self._node.log.read_text()}")

    def metrics(self) -> str:
        """One scrape."""

        def scrape() -> str:
            with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=30) as answer:
                return str(answer.read().decode())

        return self._node.namespace.call(scrape)

    def metric(self, name: str) -> float:
        """A metric without labels."""
        values = [float(line.split()[1]) for line in self.metrics().splitlines() if line.startswith(f"{name} ")]
        if len(values) != 1:
            raise LookupError(f"{len(values)} lines of {name}")
        return values[0]

    def resident_mib(self) -> float:
        """Memory that it holds now (VmRSS)."""
        pages = int(pathlib.Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * PAGE_BYTES / 2**20

    def cpu_seconds(self) -> float:
        """CPU that it and the commands it ran have used."""
        fields = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / TICKS_PER_SECOND

    def own_cpu_seconds(self) -> float:
        """CPU that its threads have used, to the nanosecond; without the commands that it ran."""
        tasks = pathlib.Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
