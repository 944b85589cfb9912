"""Many simulated agents in a few processes: as many nodes as two cores carry, each with connections of its own.

    Fleet ── one line of JSON, then one word a line ──▶ process ── 3 threads each ──▶ SimulatedAgent × many
          ◀── one line of JSON an answer ──────────────

One process would decode with one core only. Owns the processes; none outlives this one. What an agent does is
in `simulated_agents`.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from bandwidth_kube import connection
from bandwidth_lab.simulated_agents import SimulatedAgent

SPACING = (1.0, 8.0)  # as the real agents': seconds between two reports of changes


@dataclasses.dataclass(frozen=True)
class Count:
    """What all agents have done together since they were started, or started again."""

    lists: int
    events: int
    reports: int
    refusals: Mapping[int, int]  # by HTTP status
    errors: tuple[str, ...]
    reported: Mapping[str, int]  # nodes by the plan digest that they reported last


class Fleet:
    """Agents in as many processes as there are cores, started with their kubeconfig files by node."""

    def __init__(self, kubeconfigs: Mapping[str, pathlib.Path], *, report_interval_seconds: int = 300) -> None:
        self.nodes = tuple(sorted(kubeconfigs))
        among = min(os.cpu_count() or 1, len(kubeconfigs))
        self._processes = [
            _spawn({node: str(kubeconfigs[node]) for node in self.nodes[first::among]}, report_interval_seconds)
            for first in range(among)
        ]
        self._ask("count")  # answered once all are started

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(process.pid for process in self._processes)

    def count(self) -> Count:
        """Ask all processes."""
        answers = self._ask("count")
        refusals: collections.Counter[int] = collections.Counter()
        reported: collections.Counter[str] = collections.Counter()
        for answer in answers:
            refusals.update({int(status): count for status, count in answer["refusals"].items()})
            reported.update(answer["reported"])
        return Count(
            lists=sum(a["lists"] for a in answers),
            events=sum(a["events"] for a in answers),
            reports=sum(a["reports"] for a in answers),
            refusals=refusals,
            errors=tuple(error for a in answers for error in a["errors"]),
            reported=reported,
        )

    def restart(self) -> None:
        """All agents end at once and others take their places at once, without memory and without jitter."""
        self._ask("restart")

    def close(self) -> None:
        """End all; what they reported stays in the cluster."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def _ask(self, word: str) -> list[dict[str, Any]]:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
        return [_answer(process) for process in self._processes]


def _spawn(kubeconfigs: Mapping[str, str], report_interval_seconds: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).resolve().parents[1])},
    )
    assert process.stdin is not None
    settings = {"kubeconfigs": kubeconfigs, "reportIntervalSeconds": report_interval_seconds}
    process.stdin.write(f"{json.dumps(settings)}\n")
    process.stdin.flush()
    return process


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a process of simulated agents ended with {process.wait(10)}")
    answer: dict[str, Any] = json.loads(line)
    return answer


# ── inside a process ───────────────────────────────────────────────────────────────────────────────────────────


def _started(settings: Mapping[str, Any]) -> list[SimulatedAgent]:
    interval = settings["reportIntervalSeconds"]
    agents = [
        SimulatedAgent(connection.load(pathlib.Path(path)), node, report_interval_seconds=interval, spacing=SPACING)
        for node, path in settings["kubeconfigs"].items()
    ]
    for agent in agents:
        agent.start()
    return agents


def _counted(agents: list[SimulatedAgent]) -> dict[str, Any]:
    refusals: collections.Counter[int] = collections.Counter()
    for agent in agents:
        refusals.update(agent.refusals)
    return {
        "lists": sum(a.lists for a in agents),
        "events": sum(a.events for a in agents),
        "reports": sum(a.reports for a in agents),
        "refusals": refusals,
        "errors": [f"{a.node}: {error}" for a in agents for error in a.errors][:5],
        "reported": collections.Counter(a.reported_digest for a in agents),
    }


def main() -> None:
    """Agents until the standard input ends."""
    settings = json.loads(sys.stdin.readline())
    agents = _started(settings)
    for line in sys.stdin:
        if line.strip() == "restart":
            for agent in agents:
                agent.stop()
            agents = _started(settings)
        print(json.dumps(_counted(agents)), flush=True)


if __name__ == "__main__":
    main()
