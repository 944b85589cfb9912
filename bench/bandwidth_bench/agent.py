"""The agent under test, as a process in a namespace of the lab: what a user runs, and what the kernel says about it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from bandwidth_lab import Namespace

PROGRAM = pathlib.Path(sys.executable).with_name("bandwidth-agent")
METRICS = "127.0.0.1:9977"
ONCE_TIMEOUT_SECONDS = 400.0  # 30,000 classes on one HTB take the kernel two minutes
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Agent:
    """One node's agent: its namespace, its directory of limits and its options."""

    def __init__(self, namespace: Namespace, folder: pathlib.Path, *options: str) -> None:
        self.namespace = namespace
        self.manifests = folder / "manifests"
        self.manifests.mkdir(parents=True, exist_ok=True)
        self._state = folder / "state"
        self._log = folder / "agent.log"
        self._options = options

    def command(self, program: str, *more: str) -> list[str]:
        manifests = ["--manifests", str(self.manifests)] if program in ("run", "plan") else []
        state = ["--state-dir", str(self._state)]
        return [str(PROGRAM), program, *manifests, *state, "--log-level", "error", *self._options, *more]

    def once(self) -> dict[str, Any]:
        """`run --once`; its report. Raises unless every limit is in force."""
        done = self.namespace.run(self.command("run", "--once", "-o", "json"), timeout=ONCE_TIMEOUT_SECONDS)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def cleanup(self) -> None:
        self.namespace.run(self.command("cleanup"), timeout=ONCE_TIMEOUT_SECONDS)

    @contextlib.contextmanager
    def running(self, *, within_seconds: float = ONCE_TIMEOUT_SECONDS) -> Iterator[Running]:
        """`run` as a daemon with metrics, from the moment it is started; stopped at the end."""
        started_at = time.monotonic()
        with self._log.open("w") as log:
            process = self.namespace.start(
                self.command("run", "--metrics-address", METRICS), stdout=log.fileno(), stderr=log.fileno()
            )
        try:
            yield Running(self, process, started_at, within_seconds)
        finally:
            process.terminate()
            process.wait(timeout=10)

    def printed(self) -> str:
        return self._log.read_text()


class Running:
    """A running daemon."""

    def __init__(self, agent: Agent, process: subprocess.Popen[str], started_at: float, within_seconds: float) -> None:
        self._agent, self._process, self._within_seconds = agent, process, within_seconds
        self.started_at = started_at

    def until_ready(self) -> float:
        """Wait until /readyz says so: seconds since the process was started."""
        return self._agent.namespace.call(self._until_ready)

    def _until_ready(self) -> float:
        deadline = self.started_at + self._within_seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{METRICS}/readyz", timeout=5):
                return time.monotonic() - self.started_at
            if self._process.poll() is not None:
                break
            time.sleep(0.005)
        raise TimeoutError(f"the agent is not ready (exit {self._process.poll()})\n{self._agent.printed()}")

    def metrics(self) -> str:
        """One scrape."""

        def scrape() -> str:
            with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=30) as answer:
                return str(answer.read().decode())

        return self._agent.namespace.call(scrape)

    def metric(self, name: str) -> float:
        """The sum of one metric over its labels."""
        lines = [line for line in self.metrics().splitlines() if line.split("{")[0].split(" ")[0] == name]
        if not lines:
            raise LookupError(name)
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def resident_mib(self) -> float:
        """Memory that it holds now (VmRSS)."""
        pages = int(pathlib.Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * PAGE_BYTES / 2**20

    def cpu_seconds(self) -> float:
        """CPU that it and the commands it ran have used."""
        fields = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / TICKS_PER_SECOND
