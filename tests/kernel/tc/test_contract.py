"""Each change on the real kernel: what was put is what is observed, and what was removed left nothing behind."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel import change, model, tc
from bandwidth_api import names
from bandwidth_lab import namespaces
from kernel.tc import shapes
from kernel.tc.node import Driver, Tools

pytestmark = pytest.mark.root

EMPTY = tc.Observed(ifbs={}, trees={}, hooks={})


def test_placement_ifb_is_observed_as_put_and_leaves_nothing(
    kernel: tc.TrafficControl, driver: Driver, tools: Tools
) -> None:
    """Two ifbs with every shape of class, their filters and the hook: put, read back equal, removed without a trace."""
    before = tools.see()
    for shard in (0, 1):
        driver.apply(
            change.PutIfb(shard),
            *shapes.tree_on(names.ifb(shard), shapes.EVERY),
            change.PutFilter(names.ifb(shard), shapes.FILTER),
        )
    driver.apply(change.PutHook("eth0", shapes.hook(0, 1), None))
    tree = model.Tree(0, shapes.EVERY, shapes.FILTER)
    healthy = model.Ifb(healthy=True)
    assert kernel.observe() == tc.Observed(
        ifbs={0: healthy, 1: healthy}, trees={"cbl0": tree, "cbl1": tree}, hooks={"eth0": shapes.hook(0, 1)}
    )
    driver.apply(change.TrimHook("eth0", frozenset({1})))
    assert kernel.observe().hooks == {"eth0": shapes.hook(0)}
    driver.apply(change.DeleteHook("eth0"))
    driver.apply(change.DeleteFilter("cbl0"), change.DeleteClasses("cbl0", frozenset(shapes.EVERY)))
    assert kernel.observe().trees["cbl0"] == model.Tree(0, {}, None)
    driver.apply(change.DeleteRoot("cbl0"), change.DeleteIfb(0), change.DeleteIfb(1))
    assert kernel.observe() == EMPTY
    assert tools.see() == before


def test_placement_interface_gives_the_default_root_back(
    kernel: tc.TrafficControl, driver: Driver, tools: Tools
) -> None:
    """HTB over the interface's default root, with every shape of class, is undone by deleting the root."""
    before = tools.see()
    driver.apply(*shapes.tree_on("eth0", shapes.EVERY), change.PutFilter("eth0", shapes.FILTER))
    assert kernel.observe().trees == {"eth0": model.Tree(0, shapes.EVERY, shapes.FILTER)}
    assert kernel.surroundings().interfaces["eth0"].root == model.RootQdisc("htb", names.HTB_MAJOR, ours=True)
    driver.apply(change.DeleteRoot("eth0"))
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
    driver.apply(*shapes.tree_on("wide", shapes.EVERY), change.DeleteRoot("wide"))
    assert tools.see() == before


def test_a_root_with_another_default_class_is_made_anew(kernel: tc.TrafficControl, driver: Driver) -> None:
    """HTB cannot change its default class in place; the root is replaced by one with the right one."""
    driver.apply(change.PutRoot("eth0", 0), change.PutRoot("eth0", names.DEFAULT_CLASS))
    assert kernel.observe().trees == {"eth0": model.Tree(names.DEFAULT_CLASS, {}, None)}


def test_a_hook_without_shift_redirects_every_mark(kernel: tc.TrafficControl, driver: Driver) -> None:
    """The classifier `priority` has one mark bit and one shard; its hook is read back without a shift."""
    wanted = model.Hook(0x0001_0000, None, frozenset({0}))
    driver.apply(change.PutIfb(0), change.PutHook("eth0", wanted, None))
    assert kernel.observe().hooks == {"eth0": wanted}


def test_a_hook_moves_to_another_mask_in_place(kernel: tc.TrafficControl, driver: Driver) -> None:
    """Putting a hook with another mask over one of ours leaves only the other."""
    driver.apply(change.PutIfb(0), change.PutHook("eth0", shapes.hook(0), None))
    other = model.Hook(0x00FF_FF00, 17, frozenset({0}))
    driver.apply(change.PutHook("eth0", other, shapes.hook(0)))
    assert kernel.observe().hooks == {"eth0": other}


def test_classes_change_in_place(driver: Driver) -> None:
    """Rates, buffers and leaves of existing classes change; a class that is not named stays as it is."""
    observed = {1: shapes.enforce(625_000), 2: shapes.enforce(125_000_000, shapes.WHOLE), 3: shapes.enforce(1_000_000)}
    wanted = {1: shapes.enforce(625_000_000, shapes.WHOLE), 2: shapes.enforce(32_000)}
    driver.apply(*shapes.tree_on("eth0", observed))
    driver.apply(change.PutClasses("eth0", wanted, {minor: observed[minor] for minor in wanted}))
    assert driver.classes("eth0") == {**observed, **wanted}


def test_a_class_moves_under_another_parent_and_to_another_leaf(driver: Driver) -> None:
    """What the kernel cannot change in place (parent, kind of the leaf) is made anew."""
    observed = {1: shapes.enforce(625_000), names.OBSERVE_PARENT: shapes.PARENT}
    driver.apply(*shapes.tree_on("eth0", observed))
    wanted = {1: shapes.observe(625_000)}
    driver.apply(change.PutClasses("eth0", wanted, observed))
    assert driver.classes("eth0") == {**observed, **wanted}


def test_a_device_that_is_gone_needs_no_deleting(driver: Driver) -> None:
    """Deleting from a device that is not there is no failure; putting on it is one, with its errno."""
    driver.apply(
        change.TrimHook("gone0", frozenset({0})),
        change.DeleteHook("gone0"),
        change.DeleteFilter("gone0"),
        change.DeleteClasses("gone0", frozenset({1})),
        change.DeleteRoot("gone0"),
        change.DeleteIfb(7),
    )
    for step in (
        change.PutRoot("gone0", 0),
        change.PutClasses("gone0", {1: shapes.enforce(1)}, {}),
        change.PutFilter("gone0", shapes.FILTER),
        change.PutHook("gone0", shapes.hook(0), None),
    ):
        assert driver.refusal(step).errno == 19, step  # ENODEV


def test_deleting_from_an_untouched_device_is_no_failure(driver: Driver, tools: Tools) -> None:
    """Every deletion on a device without anything of ours succeeds and changes nothing."""
    before = tools.see()
    driver.apply(
        change.TrimHook("eth0", frozenset({0})),
        change.DeleteHook("eth0"),
        change.DeleteFilter("eth0"),
        change.DeleteClasses("eth0", frozenset({1, names.OBSERVE_PARENT})),
        change.DeleteRoot("eth0"),
    )
    assert tools.see() == before


def test_an_ifb_that_is_down_or_slow_is_unhealthy_until_put_again(
    kernel: tc.TrafficControl, driver: Driver, node: namespaces.Namespace
) -> None:
    """Somebody sets an ifb of ours down, or its queue to 32: observed unhealthy, repaired by putting it."""
    driver.apply(change.PutIfb(3))
    for damage in ("link set cbl3 down", "link set cbl3 txqueuelen 32"):
        node.ip(damage)
        assert kernel.observe().ifbs == {3: model.Ifb(healthy=False)}
        driver.apply(change.PutIfb(3))
        assert kernel.observe().ifbs == {3: model.Ifb(healthy=True)}


def test_counters_start_at_zero_for_every_class(kernel: tc.TrafficControl, driver: Driver) -> None:
    """Counters name every class of every tree, also those with 64-bit rates, and the direct packets of the tree."""
    driver.apply(change.PutIfb(0), *shapes.tree_on("cbl0", shapes.EVERY))
    by_device, direct = kernel.counters()
    assert by_device == {"cbl0": dict.fromkeys(shapes.EVERY, model.ClassCounters(0, 0, 0, 0, 0, 0, 0))}
    assert direct == {"cbl0": 0}
