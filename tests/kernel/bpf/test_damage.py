"""Names and maps that others took away or changed: the next pass puts them right, and a removal leaves nothing."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import time

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.planner.classifier import program_order
from bandwidth_api import names
from bandwidth_api.plan import PortRange
from bandwidth_lab import bpffs
from kernel.bpf import packets
from kernel.bpf.damages import DAMAGES
from kernel.bpf.node import Node, table

pytestmark = pytest.mark.root

CLIENT = "203.0.113.10"
TABLES = (table(4, {CLIENT: 5}), table(6, {"2001:db8::/64": 6}), table(4, {CLIENT: 7}, PortRange("UDP", 80, 80)))
WANTED = dataclasses.replace(
    model.EMPTY,
    tables={names.set_name(each.family, each.ports): each for each in TABLES},
    programs={"eth0": objects.Program(None)},
)


def observed(node: Node) -> model.State:
    return dataclasses.replace(model.EMPTY, tables=node.tables, programs=node.programs)


def put_right(node: Node, wanted: model.State = WANTED) -> None:
    """What a pass does of programs and tables."""
    there = observed(node)
    for step in (*program_order.changes(wanted, there), *program_order.removals(wanted, there)):
        assert node.attempt(step) == objects.Outcome(step)


def test_one_pass_puts_it_right(node: Node) -> None:
    """All is as wanted, and packets have their classes by it; the next pass finds nothing to do."""
    put_right(node)
    before = bpffs.names(node.directory)
    for what, damage in DAMAGES.items():
        damage(node.directory)
        put_right(node)
        assert (observed(node), bpffs.names(node.directory)) == (WANTED, before), what
        with node.program() as program:
            found = [program.number(packets.v4(CLIENT, port=port)) for port in (9, 80)]
            assert [*found, program.number(packets.v6("2001:db8::1"))] == [5, 7, 6], what
        with node.another() as fresh:
            assert observed(fresh) == WANTED, what


def test_all_of_it_can_be_removed(node: Node) -> None:
    """Names, filters and links, in two passes where tables have no names, because programs go first."""
    for what, damage in DAMAGES.items():
        put_right(node)
        damage(node.directory)
        put_right(node, model.EMPTY)
        put_right(node, model.EMPTY)
        assert (observed(node), bpffs.names(node.directory)) == (model.EMPTY, []), what
        deadline = time.monotonic() + 10.0
        while node.before() and time.monotonic() < deadline:  # a link that nobody names is taken away a moment later
            time.sleep(0.01)
        assert node.before() == (), what


def test_a_file_system_that_is_mounted_anew_has_all_again(node: Node) -> None:
    """By the agent that had its names in the one before; meanwhile it says that there is none, and writes nowhere."""
    put_right(node)
    assert node.namespace.call(node.driver.probe).lack is None
    subprocess.run(["umount", "--lazy", str(node.directory)], check=True)
    try:
        lack = node.namespace.call(node.driver.probe).lack
        assert lack is not None
        assert "is in no bpf file system" in lack.why
        outcome = node.attempt(next(program_order.changes(WANTED, observed(node))))
        assert outcome.failure is not None
        assert list(pathlib.Path(node.directory).iterdir()) == []
    finally:
        subprocess.run(["mount", "-t", "bpf", "lab", str(node.directory)], check=True)
    put_right(node)
    assert observed(node) == WANTED
    assert len(node.namespace.run(["tc", "filter", "show", "dev", "eth0", "egress"]).stdout.splitlines()) <= 2
