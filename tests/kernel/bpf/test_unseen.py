"""What a process sees and removes that was given no directory: filters; and names where it sees them elsewhere."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.bpf import driver, system_call
from bandwidth_lab import bpffs
from bandwidth_lab.namespaces import Namespace
from kernel.bpf.node import Node, table

pytestmark = pytest.mark.root

CLIENT = "203.0.113.10"


@contextlib.contextmanager
def without_directory(node: Node, directory: str = "") -> Iterator[driver.Driver]:
    made = node.namespace.call(lambda: driver.Driver(directory, loads=False))
    try:
        yield made
    finally:
        made.close()


def limited(node: Node) -> None:
    node.put(table(4, {CLIENT: 5}), table(6, {}))
    node.apply(objects.PutPair(0), objects.PutProgram("eth0", objects.Program(0), None))


def test_filters_are_seen_and_removed_without_a_directory(server: Namespace, directory: pathlib.Path) -> None:
    """With the clsact qdisc that they needed; their tables stay, and lead nowhere."""
    with contextlib.closing(Node(server, directory, tcx=False)) as node, without_directory(node) as other:
        limited(node)
        assert server.call(other.observe) == ({}, {"eth0": objects.Program(None, sound=False)})
        step = objects.DeleteProgram("eth0")
        assert server.call(lambda: other.delete_program(step)) == objects.Outcome(step)
        assert server.call(other.observe) == ({}, {})
        assert "clsact" not in server.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout


def test_names_that_may_not_be_asked_about_keep_nobody_from_reading(
    server: Namespace, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where seccomp forbids bpf(2): then filters are seen, and nothing else."""

    def refused(*_: object) -> int:
        return -1

    with contextlib.closing(Node(server, directory, tcx=False)) as node:
        limited(node)
        with monkeypatch.context() as patch:
            patch.setattr(system_call, "attempt", refused)
            assert server.call(node.driver.observe) == ({}, {"eth0": objects.Program(None, sound=False)})


def test_names_elsewhere_are_seen(node: Node) -> None:
    """Not those of the own directory, under whatever path it is found, nor those of another namespace."""
    limited(node)
    (folder,) = node.directory.glob("client-bandwidth/*")
    with bpffs.mounted() as other:
        (other / "client-bandwidth" / "1").mkdir(parents=True)
        with without_directory(node) as one, without_directory(node, str(other)) as two:
            assert one.elsewhere() == two.elsewhere() == (str(folder),)
        with without_directory(node, str(node.directory)) as same:
            assert same.elsewhere() == ()
