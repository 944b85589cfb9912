"""What it takes to have programs find 10,000 limits, beyond the classes that every classifier needs; and one change.

By the agent's own driver, step by step: the sets that an agent finds its classes again by, the tables, the program.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.linux import real
from bandwidth_agent.kernel.objects import lookup_table
from bandwidth_bench import agent, limits, stage
from bandwidth_bench.figures import Figure
from bandwidth_lab import bpffs, pair

COUNT, QUICK_COUNT = 10_000, 1_000
ROUNDS, CHANGE_ROUNDS = 9, 99
IN_FORCE_SECONDS = 0.1
CHANGE_MILLISECONDS = 1.0


def measure(extent: stage.Extent) -> list[Figure]:
    """Seconds for all of them, from no set, table and program; milliseconds for one of them."""
    count = QUICK_COUNT if extent.quick else COUNT
    with pair(prefix=stage.PREFIX) as network, stage.folder() as folder, bpffs.mounted() as names:
        options = ("--classifier", "ebpf", "--bpf-directory", str(names))
        server = network.server.namespace
        stage.say(f"{count:,} limits")
        report = agent.once(agent.node(server, folder, "ifb", limits.many(count), *options))

        def by_hand() -> tuple[list[dict[str, float]], list[float]]:
            kernel = real.RealKernel(bpf_directory=str(names))
            try:
                state = kernel.observe()
                wholes = [_in_force(kernel, state) for _ in range(extent.rounds(ROUNDS))]
                return wholes, _changes(kernel, state, extent.rounds(CHANGE_ROUNDS))
            finally:
                kernel.close()

        wholes, changes = server.call(by_hand)
    case = {"what": "all in force", "limits": f"{count:,}"}
    found = [Figure(case, what, tuple(each[what] for each in wholes), "s") for what in wholes[0]]
    together = tuple(sum(each.values()) for each in wholes)
    return [
        Figure(case, "a pass with the classes", (float(report["durationSeconds"]),), "s"),
        *found,
        Figure(case, "beyond the classes", together, "s", high=IN_FORCE_SECONDS),
        Figure(
            {"what": "one change", "limits": f"{count:,}"}, "tables", tuple(changes), "ms", high=CHANGE_MILLISECONDS
        ),
    ]


def _in_force(kernel: real.RealKernel, state: model.State) -> dict[str, float]:
    """Take all away but the classes, and put it back: seconds by kind."""
    _seconds(kernel, [objects.DeleteProgram(name) for name in state.programs])
    _seconds(kernel, [objects.DeleteTable(name, table.family) for name, table in state.tables.items()])
    _seconds(kernel, [objects.DeleteSet(name) for name in state.sets])
    return {
        "sets": _seconds(kernel, [objects.PutSet(name, each, replace=False) for name, each in state.sets.items()]),
        "tables": _seconds(kernel, [objects.PutTable(name, table) for name, table in state.tables.items()]),
        "program": _seconds(kernel, [objects.PutProgram(name, each, None) for name, each in state.programs.items()]),
    }


def _changes(kernel: real.RealKernel, state: model.State, rounds: int) -> list[float]:
    """Milliseconds to lead one client to another class, and later back."""
    name, table = next((name, table) for name, table in state.tables.items() if table.entries)
    prefix, number = next(iter(table.entries.items()))
    numbers = [lookup_table.HOLE, number]
    return [
        1e3 * _seconds(kernel, [objects.PutTableEntries(name, table.family, {prefix: numbers[turn % 2]})])
        for turn in range(2 * rounds)
    ]


def _seconds(kernel: real.RealKernel, steps: Sequence[objects.Change]) -> float:
    start = time.perf_counter()
    outcomes = [kernel.apply_one(step) for step in steps]
    seconds = time.perf_counter() - start
    assert outcomes == [objects.Outcome(step) for step in steps], outcomes
    return seconds
