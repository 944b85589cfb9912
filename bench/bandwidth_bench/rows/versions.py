"""This version beside an earlier one, in turns on one machine: what must never get slower or larger.

Both run with the same interpreter and libraries, each in a network namespace of its own. `BEFORE` in the environment
names the commit of the earlier one; by default it is the version that an upgrade comes from.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import pathlib
import resource
import subprocess
from collections.abc import Callable

from bandwidth_bench import agent, limits, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_bench.rows.packets import Path
from bandwidth_bench.rows.resident import RATES, edit
from bandwidth_lab import pair, previous
from bandwidth_lab.node import PROGRAM, Node

COUNT, LARGE, QUICK_COUNT = 10_000, 30_000, 1_000
HIGH = 1.05
SETTLE_SECONDS = 3.0
AGENT, OPERATOR = "bandwidth-agent", "bandwidth-operator"
# Programs that people start by hand, in a folder with an empty manifest directory, on a host without limits.
STARTS = (
    (AGENT, "--help"),
    (AGENT, "show", "--interval", "0.1", "--state-dir", "state"),
    (AGENT, "plan", "--manifests", "limits", "--state-dir", "state"),
    (OPERATOR, "--help"),
)


def measure(extent: stage.Extent) -> list[Figure]:
    """Each figure of this version over that of the earlier one, round by round."""
    count = QUICK_COUNT if extent.quick else COUNT
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(stage.folder())
        commit = os.environ.get("BEFORE", previous.COMMIT)
        programs = {"before": previous.programs(directory / "before", commit), "now": PROGRAM.parent}
        for package in previous.PACKAGES:  # or the one would be compiled at each start, the other not
            compileall.compile_dir(previous.ROOT / package, quiet=1)
        nodes = {name: _node(stack, directory / name, folder, count) for name, folder in programs.items()}
        found: list[Figure] = []

        def compared(what: str, unit: str, rounds: int, of: Callable[[str], float], count: int = count) -> None:
            stage.say(what)
            values = stage.in_turns({name: (lambda name=name: of(name)) for name in programs}, rounds)  # type: ignore[misc]
            case = {"what": what, "limits": f"{count:,}"}
            found.extend(Figure(case, name, tuple(values[name]), unit) for name in programs)
            found.append(Figure(case, "now ÷ before", ratios(values["now"], values["before"]), "", high=HIGH))

        compared("memory", "MiB", extent.rounds(3), lambda name: _resident(stack, directory, programs[name]), 0)
        compared("programming, CPU", "s", extent.rounds(3), lambda name: _programmed(nodes[name]))
        if not extent.quick:
            large = {
                name: _node(stack, directory / f"{name}-large", folder, LARGE) for name, folder in programs.items()
            }
            compared("programming, CPU", "s", 1, lambda name: _programmed(large[name]), LARGE)
        for node in nodes.values():
            agent.once(node)
        compared(
            "adopting by run --once, CPU", "s", extent.rounds(5), lambda name: _cpu(lambda: agent.once(nodes[name]))
        )
        compared("adopting, until ready", "s", extent.rounds(5), lambda name: _until_ready(nodes[name]))
        compared("memory after 20 edits", "MiB", 1, lambda name: _edited(nodes[name]))
        compared("one change, CPU", "ms", extent.rounds(5), lambda name: _change(nodes[name]))
        paths = {name: _path(stack, directory / f"packets-{name}", folder, count) for name, folder in programs.items()}
        compared("a packet of an unlimited client, CPU", "ns", extent.rounds(9), lambda name: paths[name].work())
        empty = _empty(stack, directory / "empty")
        for program, *words in STARTS:
            command = {name: [*empty, str(folder / program), *words] for name, folder in programs.items()}
            compared(
                f"{program} {words[0]}, CPU",
                "ms",
                extent.rounds(15),
                lambda name, c=command: _ran(c[name], directory / "empty"),  # type: ignore[misc]
                0,
            )
    return found


def _empty(stack: contextlib.ExitStack, folder: pathlib.Path) -> list[str]:
    """Make a network without limits and an empty manifest directory; return what runs a command there."""
    (folder / "limits").mkdir(parents=True)
    network = stack.enter_context(pair(prefix=stage.PREFIX))
    return ["ip", "netns", "exec", network.server.namespace.name]


def _node(stack: contextlib.ExitStack, folder: pathlib.Path, programs: pathlib.Path, count: int) -> Node:
    network = stack.enter_context(pair(prefix=stage.PREFIX))
    made = agent.node(network.server.namespace, folder / "node", "ifb", limits.many(count))
    made.program = programs / AGENT
    return made


def _path(stack: contextlib.ExitStack, folder: pathlib.Path, programs: pathlib.Path, count: int) -> Path:
    made = Path(stack)
    node = agent.node(made.network.server.namespace, folder, "ifb", limits.many(count))
    node.program = programs / AGENT
    agent.once(node)
    return made


def _cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU that the processes use which `work` starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _ran(command: list[str], folder: pathlib.Path) -> float:
    """Milliseconds of CPU of a whole program that starts, does next to nothing, and ends."""
    return _cpu(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)) * 1e3


def _programmed(node: Node) -> float:
    """Seconds of CPU of a first pass, where no other qdiscs slow the machine's kernel down; nothing stays."""
    seconds = _cpu(lambda: agent.once(node))
    agent.cleanup(node)
    return seconds


def _adopted(node: Node) -> float:
    """Seconds of CPU of a pass that finds everything in the kernel already."""
    return _cpu(lambda: agent.once(node))


def _until_ready(node: Node) -> float:
    with agent.running(node) as running:
        return running.until_ready()


def _resident(stack: contextlib.ExitStack, directory: pathlib.Path, programs: pathlib.Path) -> float:
    node = _node(stack, directory / f"idle-{programs.name}-{len(os.listdir(directory))}", programs, 0)
    with agent.running(node) as running:
        running.until_ready()
        running.metrics()
        stage.pause(SETTLE_SECONDS)
        return running.resident_mib()


def _edited(node: Node) -> float:
    with agent.running(node) as running:
        running.until_ready()
        stage.pause(SETTLE_SECONDS)
        for number in range(20):
            edit(node, RATES[number % 2])
        running.metrics()
        return running.resident_mib()


def _change(node: Node, edits: int = 30) -> float:
    """Milliseconds of CPU of the agent for the edit of one limit."""
    with agent.running(node) as running:
        running.until_ready()
        stage.pause(SETTLE_SECONDS)
        before = running.own_cpu_seconds()
        for number in range(edits):
            edit(node, RATES[number % 2])
        return (running.own_cpu_seconds() - before) / edits * 1e3
