"""Each change on the real kernel: what was put is what is observed, and what was removed left nothing behind."""

from __future__ import annotations

import dataclasses

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.linux.rtnl import tc
from bandwidth_api import names
from bandwidth_lab import namespaces
from kernel.tc import shapes
from kernel.tc.node import Driver, Tools

pytestmark = pytest.mark.root


def test_placement_ifb_is_observed_as_put_and_leaves_nothing(
    kernel: tc.TrafficControl, driver: Driver, tools: Tools
) -> None:
    """Two ifbs with every shape of class, their filters and the hook: put, read back equal, removed without a trace."""
    before = tools.see()
    for shard in (0, 1):
        driver.apply(
            objects.PutIfb(shard),
            *shapes.tree_on(names.ifb(shard), shapes.EVERY),
            objects.PutFilter(names.ifb(shard), shapes.FILTER),
        )
    driver.apply(objects.PutHook("eth0", shapes.hook(0, 1), None))
    tree = objects.Tree(0, shapes.EVERY, shapes.FILTER)
    healthy = objects.Ifb(healthy=True)
    assert kernel.observe() == dataclasses.replace(
        model.EMPTY,
        ifbs={0: healthy, 1: healthy},
        trees={"cbl0": tree, "cbl1": tree},
        hooks={"eth0": shapes.hook(0, 1)},
    )
    driver.apply(objects.TrimHook("eth0", frozenset({1})))
    assert kernel.observe().hooks == {"eth0": shapes.hook(0)}
    driver.apply(objects.DeleteHook("eth0"))
    driver.apply(objects.DeleteFilter("cbl0"), objects.DeleteClasses("cbl0", frozenset(shapes.EVERY)))
    assert kernel.observe().trees["cbl0"] == objects.Tree(0, {}, None)
    driver.apply(objects.DeleteRoot("cbl0"), objects.DeleteIfb(0), objects.DeleteIfb(1))
    assert kernel.observe() == model.EMPTY
    assert tools.see() == before


def test_placement_interface_gives_the_default_root_back(
    kernel: tc.TrafficControl, driver: Driver, tools: Tools
) -> None:
    """HTB over the interface's default root, with every shape of class, is undone by deleting the root."""
    before = tools.see()
    driver.apply(*shapes.tree_on("eth0", shapes.EVERY), objects.PutFilter("eth0", shapes.FILTER))
    assert kernel.observe().trees == {"eth0": objects.Tree(0, shapes.EVERY, shapes.FILTER)}
    assert kernel.surroundings().interfaces["eth0"].root == model.RootQdisc("htb", names.HTB_MAJOR, ours=True)
    driver.apply(objects.DeleteRoot("eth0"))
    assert tools.see() == before


@pytest.mark.parametrize(("queues", "kind"), [(1, "pfifo_fast"), (4, "mq")])
def test_the_default_root_of_any_device_comes_back(
    kernel: tc.TrafficControl, driver: Driver, tools: Tools, node: namespaces.Namespace, queues: int, kind: str
) -> None:
    """A device with one or several queues gets the root back that the kernel gives it, with all its children."""
    node.ip(f"link add wide numtxqueues {queues} type ifb", "link set wide up")
    before = tools.see()
    root = kernel.surroundings().interfaces["wide"].root
    assert (root.handle, root.ours) == (0, False)
    assert root.kind in (kind, "fq_codel")
    assert root.queues == {line.split()[1] for line in before.splitlines() if " dev wide parent :" in line}
    driver.apply(*shapes.tree_on("wide", shapes.EVERY), objects.DeleteRoot("wide"))
    assert tools.see() == before


def test_a_root_with_another_default_class_is_made_anew(kernel: tc.TrafficControl, driver: Driver) -> None:
    """HTB cannot change its default class in place; the root is replaced by one with the right one."""
    driver.apply(objects.PutRoot("eth0", 0), objects.PutRoot("eth0", names.DEFAULT_CLASS))
    assert kernel.observe().trees == {"eth0": objects.Tree(names.DEFAULT_CLASS, {}, None)}


def test_a_hook_without_shift_redirects_every_mark(kernel: tc.TrafficControl, driver: Driver) -> None:
    """The classifier `priority` has one mark bit and one shard; its hook is read back without a shift."""
    wanted = objects.Hook(0x0001_0000, None, frozenset({0}))
    driver.apply(objects.PutIfb(0), objects.PutHook("eth0", wanted, None))
    assert kernel.observe().hooks == {"eth0": wanted}


def test_a_hook_moves_to_another_mask_in_place(kernel: tc.TrafficControl, driver: Driver) -> None:
    """Putting a hook with another mask over one of ours leaves only the other."""
    driver.apply(objects.PutIfb(0), objects.PutHook("eth0", shapes.hook(0), None))
    other = objects.Hook(0x00FF_FF00, 17, frozenset({0}))
    driver.apply(objects.PutHook("eth0", other, shapes.hook(0)))
    assert kernel.observe().hooks == {"eth0": other}


def test_classes_change_in_place(driver: Driver) -> None:
    """Rates, buffers and leaves of existing classes change; a class that is not named stays as it is."""
    observed = {1: shapes.enforce(625_000), 2: shapes.enforce(125_000_000, shapes.WHOLE), 3: shapes.enforce(1_000_000)}
    wanted = {1: shapes.enforce(625_000_000, shapes.WHOLE), 2: shapes.enforce(32_000)}
    driver.apply(*shapes.tree_on("eth0", observed))
    driver.apply(objects.PutClasses("eth0", wanted, {minor: observed[minor] for minor in wanted}))
    assert driver.classes("eth0") == {**observed, **wanted}


def test_a_class_moves_under_another_parent_and_to_another_leaf(driver: Driver) -> None:
    """What the kernel cannot change in place (parent, kind of the leaf) is made again."""
    observed = {1: shapes.enforce(625_000), names.OBSERVE_PARENT: shapes.PARENT}
    driver.apply(*shapes.tree_on("eth0", observed))
    wanted = {1: shapes.observe(625_000)}
    driver.apply(objects.PutClasses("eth0", wanted, observed))
    assert driver.classes("eth0") == {**observed, **wanted}


def test_a_device_that_is_gone_needs_no_deleting(driver: Driver) -> None:
    """Deleting from a device that is not there is no failure; putting on it is one, with its errno."""
    driver.apply(
        objects.TrimHook("gone0", frozenset({0})),
        objects.DeleteHook("gone0"),
        objects.DeleteFilter("gone0"),
        objects.DeleteClasses("gone0", frozenset({1})),
        objects.DeleteRoot("gone0"),
        objects.DeleteIfb(7),
    )
    for step in (
        objects.PutRoot("gone0", 0),
        objects.PutClasses("gone0", {1: shapes.enforce(1)}, {}),
        objects.PutFilter("gone0", shapes.FILTER),
        objects.PutHook("gone0", shapes.hook(0), None),
    ):
        assert driver.refusal(step).errno == 19, step  # ENODEV


def test_deleting_from_an_untouched_device_is_no_failure(driver: Driver, tools: Tools) -> None:
    """Every deletion on a device without anything of ours succeeds and changes nothing."""
    before = tools.see()
    driver.apply(
        objects.TrimHook("eth0", frozenset({0})),
        objects.DeleteHook("eth0"),
        objects.DeleteFilter("eth0"),
        objects.DeleteClasses("eth0", frozenset({1, names.OBSERVE_PARENT})),
        objects.DeleteRoot("eth0"),
    )
    assert tools.see() == before


def test_an_ifb_that_is_down_or_slow_is_unhealthy_until_put_again(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace
) -> None:
    """Another program sets an ifb of ours down, or its queue to 32: observed unhealthy, repaired by putting it."""
    driver.apply(objects.PutIfb(3))
    for damage in ("link set cbl3 down", "link set cbl3 txqueuelen 32"):
        node.ip(damage)
        assert kernel.observe().ifbs == {3: objects.Ifb(healthy=False)}
        driver.apply(objects.PutIfb(3))
        assert kernel.observe().ifbs == {3: objects.Ifb(healthy=True)}


def test_counters_start_at_zero_for_every_class(kernel: tc.TrafficControl, driver: Driver) -> None:
    """Counters name every class of every tree, also those with 64-bit rates, and the direct packets of the tree."""
    driver.apply(objects.PutIfb(0), *shapes.tree_on("cbl0", shapes.EVERY))
    by_device, direct = kernel.counters()
    assert by_device == {"cbl0": dict.fromkeys(shapes.EVERY, model.ClassCounters(0, 0, 0, 0, 0, 0, 0))}
    assert direct == {"cbl0": 0}
