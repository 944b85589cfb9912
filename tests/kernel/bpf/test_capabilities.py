"""Everything works with CAP_BPF beside the two capabilities that every agent has; without it, that is said."""

from __future__ import annotations

import sys

import pytest

from kernel.bpf.node import Node

pytestmark = pytest.mark.root

PROGRAM = """
import pathlib
from bandwidth_agent.kernel import objects
from bandwidth_lab import namespaces
from kernel.bpf.node import Node, table
class Here(namespaces.Namespace):
    def call(self, function):
        return function()
node = Node(Here(""), pathlib.Path({directory!r}), tcx={tcx})
print(node.driver.probe().lack)
tables = {{"cbl-v4": table(4, {{"203.0.113.10": 5}}), "cbl-v6": table(6, {{}})}}
errors = []
for step in (
    *(objects.PutTable(*each) for each in tables.items()),
    objects.PutTableEntries("cbl-v4", 4, tables["cbl-v4"].entries),
    objects.PutPair(0),
    objects.PutProgram("eth0", objects.Program(0), None),
    objects.PutProgram("eth0", objects.Program(None), None),
):
    outcome = node.attempt(step)
    failures = [outcome.failure, *outcome.failed_entries.values()]
    errors += [failure.errno for failure in failures if failure is not None]
print(errors, node.tables == tables, node.programs == {{"eth0": objects.Program(None)}}, node.pairs, node.before())
for step in (
    objects.DeleteProgram("eth0"),
    *(objects.DeleteTable(name, each.family) for name, each in tables.items()),
    objects.DeletePair(0),
):
    assert node.attempt(step) == objects.Outcome(step)
print(node.tables, node.programs, node.pairs)
"""


def run(node: Node, capabilities: str) -> list[str]:
    command = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities, "--no-new-privs"]
    path = "import sys; sys.path[:0] = " + repr(sys.path)
    program = PROGRAM.format(directory=str(node.directory), tcx=node.tcx)
    done = node.namespace.run([*command, sys.executable, "-c", f"{path}\n{program}"], timeout=120)
    return done.stdout.splitlines()


def test_three_capabilities_are_enough(node: Node) -> None:
    """Programs, tables, pairs: all are loaded, put, read and removed."""
    assert run(node, "-all,+net_admin,+net_raw,+bpf") == [
        "None",
        "[] True True {0: Pair(healthy=True)} ()",
        "{} {} {}",
    ]


def test_two_are_too_few(node: Node) -> None:
    """It is found out before anything is tried; what is tried fails with its errno; there is nothing to read."""
    said, tried, left = run(node, "-all,+net_admin,+net_raw")
    assert "CAP_BPF" in said
    assert tried.startswith("[1, 1, 2, 1, 2, 2] False False {}")
    assert left == "{} {} {}"
