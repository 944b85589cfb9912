"""Ten thousand classes: right, and how long it takes (printed, not asserted: machines differ)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_api import names
from bandwidth_lab import namespaces
from kernel.tc import shapes
from kernel.tc.node import Driver

pytestmark = pytest.mark.root

COUNT = 10_000
T = TypeVar("T")


def timed(what: str, function: Callable[[], T]) -> T:
    started = time.perf_counter()
    result = function()
    print(f"{what}: {(time.perf_counter() - started) * 1000:.1f} ms")
    return result


def batch(shards: dict[int, dict[int, objects.HtbClass]]) -> str:
    """The same classes as input for `tc -batch`."""
    lines = []
    for shard, classes in shards.items():
        device = names.ifb(shard)
        lines.append(f"qdisc add dev {device} root handle 7cb1: htb default 0")
        for minor, shape in classes.items():
            bits = shape.rate * 8
            lines.append(
                f"class add dev {device} parent 7cb1: classid 7cb1:{minor:x} htb rate {bits}bit burst 4100 quantum 1514"
            )
            leaf = f"parent 7cb1:{minor:x} handle {minor:x}: tbf rate 400gbit burst 1586 limit 31250"
            lines.append(f"qdisc add dev {device} {leaf}")
    return "".join(f"{line}\n" for line in lines)


def test_ten_thousand_classes_on_twenty_ifbs(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace
) -> None:
    """Programmed, read back equal, counted, changed in place and removed; beside it the time of `tc -batch`."""
    shards: dict[int, dict[int, objects.HtbClass]] = {}
    for minor in range(1, COUNT + 1):
        shards.setdefault(minor // names.SHARD_SIZE, {})[minor] = shapes.enforce(100_000 + minor)
    for shard in shards:
        driver.apply(objects.PutIfb(shard))
    text = batch(shards)
    timed("tc -batch", lambda: node.run(["tc", "-batch", "-"], stdin=text, timeout=120))
    for shard in shards:
        driver.apply(objects.DeleteRoot(names.ifb(shard)))

    def program() -> None:
        for shard, classes in shards.items():
            for step in shapes.tree_on(names.ifb(shard), classes):
                assert kernel.apply_one(step) == objects.Outcome(step)

    timed("program", program)
    observed = timed("observe", kernel.observe)
    assert {name: tree.classes for name, tree in observed.trees.items()} == {
        names.ifb(shard): classes for shard, classes in shards.items()
    }
    counters, _ = timed("counters", kernel.counters)
    assert sum(len(classes) for classes in counters.values()) == COUNT
    timed("surroundings", kernel.surroundings)
    one = {5: shapes.enforce(77_777)}
    step = objects.PutClasses("cbl0", one, {5: shards[0][5]})
    assert timed("change one", lambda: kernel.apply_one(step)) == objects.Outcome(step)

    def remove() -> None:
        for shard in shards:
            assert kernel.apply_one(objects.DeleteIfb(shard)).failure is None

    timed("remove", remove)
    assert kernel.observe() == model.EMPTY
