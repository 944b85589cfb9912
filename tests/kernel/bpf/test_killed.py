"""An agent that is killed anywhere in a change leaves what the next one sees, and puts right or removes."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Sequence

import pytest

from bandwidth_agent.kernel import netlink, objects
from bandwidth_agent.kernel.linux.bpf import pins, system_call
from bandwidth_api import names
from bandwidth_api.plan import PortRange
from kernel.bpf import packets
from kernel.bpf.node import Node, table

pytestmark = pytest.mark.root

CLIENT = "203.0.113.10"
WEB = PortRange("TCP", 80, 80)
TABLES = (table(4, {CLIENT: 5}), table(4, {CLIENT: 6}, WEB), table(6, {}))
PROGRAM = objects.PutProgram("eth0", objects.Program(0), None)
PUTS: tuple[objects.Change, ...] = (
    *(objects.PutTable(names.set_name(each.family, each.ports), each) for each in TABLES),
    objects.PutPair(0),
    PROGRAM,
)
DELETES: tuple[objects.Change, ...] = (
    objects.DeleteProgram("eth0"),
    *(objects.DeleteTable(names.set_name(each.family, each.ports), each.family) for each in TABLES),
    objects.DeletePair(0),
)


class Killed(BaseException):
    """Stands for the end of the process; nothing catches it."""


class Kills:
    """Ends the process before its n-th step that changes anything: a system call of eBPF, a name, a netlink request."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for owner, name in (
            (system_call, "attempt"),
            (netlink.Socket, "execute"),
            (pins.os, "rename"),
            (pins.os, "unlink"),
            (pins.pathlib.Path, "mkdir"),
            (pins.pathlib.Path, "rmdir"),
        ):
            patch.setattr(owner, name, self._killing(getattr(owner, name)))

    def _killing(self, real: Callable[..., object]) -> Callable[..., object]:
        def step(*given: object, **named: object) -> object:
            if self.left == 0:
                raise Killed
            self.left -= 1
            return real(*given, **named)

        return step


def killed(node: Node, kills: Kills, step: objects.Change, after: int) -> bool:
    """Whether the process was killed in a change before so many steps were made."""
    with node.another() as agent:
        kills.left = after
        try:
            agent.attempt(step)
        except Killed:
            return True
        finally:
            kills.left = -1
    return False


def finish(node: Node, steps: Sequence[objects.Change]) -> None:
    with node.another() as fresh:
        fresh.apply(*steps)


def kept(node: Node) -> list[pathlib.Path]:
    """The names that something in the kernel has; of a folder that is empty nothing does."""
    return [path for path in node.directory.glob("client-bandwidth/*/*") if not path.is_dir()]


def everything(node: Node) -> tuple[object, ...]:
    with node.another() as fresh:
        return fresh.tables, fresh.programs, fresh.pairs


def test_killed_while_it_puts(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every single step: what is there is seen by the next agent, which finishes it, or removes it all."""
    kills = Kills(monkeypatch)
    finish(node, PUTS)
    whole = everything(node)
    finish(node, DELETES)
    nothing = everything(node)
    assert kept(node) == []
    times = 0
    for number, step in enumerate(PUTS):
        for after in itertools.count():
            finish(node, PUTS[:number])
            if not killed(node, kills, step, after):
                break
            times += 1
            if after % 2:
                finish(node, PUTS)
                assert everything(node) == whole
            left = everything(node)
            finish(node, _deletions(left))
            assert everything(node) == nothing
            assert kept(node) == []
    assert times > 30


def test_killed_while_it_deletes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every single step: the next agent sees what is left, and removes it."""
    kills = Kills(monkeypatch)
    nothing = everything(node)
    times = 0
    for number, step in enumerate(DELETES):
        for after in itertools.count():
            finish(node, PUTS)
            finish(node, DELETES[:number])
            if not killed(node, kills, step, after):
                break
            times += 1
            finish(node, _deletions(everything(node)))
            assert everything(node) == nothing
            assert kept(node) == []
        finish(node, DELETES)
    assert times > 10


def test_killed_while_it_replaces_a_program(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no moment is there none that gives the client its class."""
    kills = Kills(monkeypatch)
    finish(node, PUTS)
    for before in ((), (PROGRAM,)):
        for after in itertools.count():
            finish(node, before)
            if not killed(node, kills, objects.PutProgram("eth0", objects.Program(None), None), after):
                break
            assert node.programs
            with node.program() as program:
                assert program.number(packets.v4(CLIENT)) == 5
    assert node.programs == {"eth0": objects.Program(None)}


def _deletions(left: tuple[object, ...]) -> list[objects.Change]:
    """What a pass removes that wants nothing: what it sees."""
    tables, programs, pairs = left
    assert isinstance(tables, dict)
    assert isinstance(programs, dict)
    assert isinstance(pairs, dict)
    return [
        *(objects.DeleteProgram(name) for name in programs),
        *(objects.DeleteTable(name, each.family) for name, each in tables.items()),
        *(objects.DeletePair(shard) for shard in pairs),
    ]
