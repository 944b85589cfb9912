"""Whatever of ours is changed by others is observed as different, and putting the desired again repairs it."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_api import names
from bandwidth_lab import namespaces
from kernel.tc import shapes
from kernel.tc.node import Driver

pytestmark = pytest.mark.root

WANTED = {1: shapes.enforce(625_000)}
CLASS = "class change dev eth0 parent 7cb1: classid 7cb1:1 htb rate 5mbit burst 2500 cburst 2500 quantum 1514"

DAMAGES = {
    "rate": ["class change dev eth0 parent 7cb1: classid 7cb1:1 htb rate 9mbit"],
    "priority": [f"{CLASS} prio 3"],
    "overhead": [f"{CLASS} overhead 24 linklayer ethernet"],
    "burst of the leaf": ["qdisc change dev eth0 handle 1: tbf rate 400gbit burst 99999 limit 31250"],
    "rate of the leaf": ["qdisc change dev eth0 handle 1: tbf rate 1gbit burst 1586 limit 31250"],
    "peak rate of the leaf": [
        "qdisc change dev eth0 handle 1: tbf rate 1gbit burst 9000 limit 31250 peakrate 2gbit mtu 1600"
    ],
    "limit of the leaf": ["qdisc change dev eth0 handle 1: tbf rate 400gbit burst 1586 limit 5000"],
    "leaf gone": ["qdisc del dev eth0 parent 7cb1:1"],
    "leaf of another kind": ["qdisc del dev eth0 parent 7cb1:1", "qdisc add dev eth0 parent 7cb1:1 handle 1: bfifo"],
    "leaf with another handle": ["qdisc replace dev eth0 parent 7cb1:1 handle 55: pfifo limit 5"],
    "queue in the leaf": ["qdisc add dev eth0 parent 1:1 handle 66: pfifo limit 5"],
    "class gone": ["class del dev eth0 classid 7cb1:1"],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_class_is_seen_and_repaired(driver: Driver, node: namespaces.Namespace, damage: str) -> None:
    """Each alteration makes the observed class unequal to the desired one; putting it with what is seen repairs."""
    driver.apply(*shapes.tree_on("eth0", WANTED))
    node.tc(*DAMAGES[damage])
    observed = driver.classes("eth0")
    assert observed != WANTED
    driver.apply(objects.PutClasses("eth0", WANTED, observed))
    assert driver.classes("eth0") == WANTED


def test_a_foreign_class_in_our_tree_is_observed(driver: Driver, node: namespaces.Namespace) -> None:
    """A class that another program added to our tree is told among ours, and can be deleted like one."""
    driver.apply(*shapes.tree_on("eth0", WANTED))
    node.tc("class add dev eth0 parent 7cb1: classid 7cb1:99 htb rate 9mbit")
    assert set(driver.classes("eth0")) == {1, 0x99}
    driver.apply(objects.DeleteClasses("eth0", frozenset({0x99})))
    assert driver.classes("eth0") == WANTED


HOOK = "filter replace dev eth0 egress"
HOOK_DAMAGES = {
    "first filter gone": [f"filter del dev eth0 egress pref {names.STOP_PREF}"],
    "redirects gone": [f"filter del dev eth0 egress pref {names.REDIRECT_PREF}"],
    "all filters gone": ["filter del dev eth0 egress"],
    "clsact gone": ["qdisc del dev eth0 clsact"],
    "another program first": [f"{HOOK} pref {names.STOP_PREF} handle 2 bpf da bytecode '1,6 0 0 0'"],
    "another program behind": [f"{HOOK} pref {names.REDIRECT_PREF} handle 1 bpf bytecode '1,6 0 0 0'"],
    "a redirect to a stranger": [
        f"filter del dev eth0 egress pref {names.REDIRECT_PREF}",
        f"filter add dev eth0 egress pref {names.REDIRECT_PREF} handle 1 bpf bytecode '1,6 0 0 4294967295'"
        " action mirred egress redirect dev lo",
    ],
}


@pytest.mark.parametrize("damage", HOOK_DAMAGES)
def test_a_damaged_hook_is_seen_and_repaired(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace, damage: str
) -> None:
    """Each alteration of our filters is observed as a hook unequal to the desired one; putting it repairs."""
    wanted = shapes.hook(0, 1)
    driver.apply(objects.PutIfb(0), objects.PutIfb(1), objects.PutHook("eth0", wanted, None))
    for line in HOOK_DAMAGES[damage]:
        words = line.replace("'", "").split()
        joined = line.split("'")
        node.run(["tc", *words] if len(joined) == 1 else ["tc", *joined[0].split(), joined[1], *joined[2].split()])
    observed = kernel.observe().hooks.get("eth0")
    assert observed != wanted
    driver.apply(objects.PutHook("eth0", wanted, observed))
    assert kernel.observe().hooks == {"eth0": wanted}


def test_a_redirect_to_an_ifb_that_is_gone_does_not_count(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace
) -> None:
    """After an ifb is deleted the hook is observed as broken; made again with the ifb, it leads there again."""
    wanted = shapes.hook(0, 1)
    driver.apply(objects.PutIfb(0), objects.PutIfb(1), objects.PutHook("eth0", wanted, None))
    node.ip("link del cbl1")
    observed = kernel.observe()
    assert observed.ifbs == {0: objects.Ifb(healthy=True)}
    assert observed.hooks["eth0"] != wanted
    driver.apply(objects.PutIfb(1), objects.PutHook("eth0", wanted, observed.hooks["eth0"]))
    assert kernel.observe().hooks == {"eth0": wanted}


def test_a_broken_redirect_that_nobody_wants_is_swept_away(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace
) -> None:
    """A redirect whose ifb is gone and whose shard is not wanted any more does not keep the hook broken."""
    driver.apply(objects.PutIfb(0), objects.PutIfb(1), objects.PutHook("eth0", shapes.hook(0, 1), None))
    node.ip("link del cbl1")
    driver.apply(objects.PutHook("eth0", shapes.hook(0), kernel.observe().hooks["eth0"]))
    assert kernel.observe().hooks == {"eth0": shapes.hook(0)}


@pytest.mark.parametrize(
    "words",
    [
        ["filter", "del", "dev", "eth0", "parent", "7cb1:"],
        ["filter", "replace", "dev", "eth0", "parent", "7cb1:", "pref", str(names.CLASSIFY_PREF), "handle", "1",
         "bpf", "bytecode", "1,6 0 0 1"],
        ["filter", "add", "dev", "eth0", "parent", "7cb1:", "pref", str(names.CLASSIFY_PREF), "handle", "9",
         "bpf", "bytecode", "1,6 0 0 1"],
    ],
    ids=["gone", "replaced", "joined"],
)  # fmt: skip
def test_a_damaged_tree_filter_is_seen_and_repaired(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace, words: list[str]
) -> None:
    """The mark filter of a tree that is gone, replaced or joined by another is unequal, and put right by putting."""
    driver.apply(objects.PutRoot("eth0", 0), objects.PutFilter("eth0", shapes.FILTER))
    node.run(["tc", *words])
    assert kernel.observe().trees["eth0"].filter != shapes.FILTER
    driver.apply(objects.PutFilter("eth0", shapes.FILTER))
    assert kernel.observe().trees["eth0"].filter == shapes.FILTER
