"""Classes, filters and hooks for the tests, in the shapes that the agent writes."""

from __future__ import annotations

from bandwidth_agent.kernel import objects
from bandwidth_api import names

MASK = 0xFFFF_0000
SHIFT = 25
LINE_SPEED = 50_000_000_000

CUTTING = objects.Leaf("tbf", 1586, 31_250, "bfifo")
WHOLE = objects.Leaf("tbf", 1 << 20, 625_000, "bfifo")
LARGE = objects.Leaf("bfifo", 0, 16 << 20, "")

FILTER = objects.MarkFilter(MASK)


def enforce(bytes_per_second: int, leaf: objects.Leaf = CUTTING) -> objects.HtbClass:
    ticks = 62_501
    return objects.HtbClass(0, bytes_per_second, bytes_per_second, ticks, ticks, 1514, leaf)


PARENT = objects.HtbClass(0, LINE_SPEED, LINE_SPEED, 62_500, 62_500, 60_000, None)


def observe(bytes_per_second: int) -> objects.HtbClass:
    return objects.HtbClass(names.OBSERVE_PARENT, bytes_per_second, LINE_SPEED, 62_501, 62_500, 60_000, LARGE)


# Every shape there is: cut and whole, more than 32 bits of rate, a parent with a child, the numbers at both ends.
EVERY = {
    1: enforce(32_000),
    2: enforce(125_000_000, WHOLE),
    3: enforce(5_000_000_000, WHOLE),
    4: observe(625_000),
    names.OBSERVE_PARENT: PARENT,
    names.CLASS_MAX: enforce(625_001),
}


def hook(*shards: int) -> objects.Hook:
    return objects.Hook(MASK, SHIFT, frozenset(shards))


def tree_on(device: str, classes: dict[int, objects.HtbClass]) -> tuple[objects.PutRoot, objects.PutClasses]:
    return objects.PutRoot(device, 0), objects.PutClasses(device, classes, {})
