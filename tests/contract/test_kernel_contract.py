"""The contract of a kernel: what we put is what we see, what we take away is gone, and what others do is repaired.

The same scenes on the kernel in memory and on the real one.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import time
from collections.abc import Callable

import pytest

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import tracer
from bandwidth_agent.planner import diff
from bandwidth_agent.planner.classifier import class_ids
from bandwidth_agent.settings import ClassifierSetting, PlacementSetting
from bandwidth_api import addresses, names
from bandwidth_api.plan import Prefix
from contract import hosts, scenes
from contract.scenes import EVERYTHING, FEW, WAYS, Way

every_way = pytest.mark.parametrize("way", WAYS, ids=str)


def test_facts_name_the_uplink(host: hosts.Host) -> None:
    """The interface with the default routes is seen with its own root, and nothing of ours is there."""
    uplink = host.facts().interfaces[hosts.UPLINK]
    assert (uplink.name, uplink.default_route, uplink.mtu) == (hosts.UPLINK, True, 1500)
    assert uplink.root == model.RootQdisc("noqueue", 0, False)
    assert host.observe() == model.EMPTY


@every_way
def test_what_is_put_is_observed(host: hosts.Host, way: Way) -> None:
    """Limits of every kind are read back exactly as they were wanted, and a second pass has nothing to do."""
    goal = way.state(host, EVERYTHING)
    scenes.apply(host, goal)
    assert hosts.described(host.observe()) == hosts.described(goal)
    assert diff.compute(goal, host.observe()) == []
    assert host.entry_counts() == {name: len(ipset.entries) for name, ipset in goal.sets.items()}


@every_way
def test_a_rate_is_changed_in_place(host: hosts.Host, way: Way) -> None:
    """Another rate is one class changed and nothing else, across the rate from which packets are no longer cut too."""
    scenes.apply(host, way.state(host, EVERYTHING))
    for rate in (6_000_000, 300_000_000, 64_000):
        goal = way.state(host, scenes.with_rate(EVERYTHING, "mail-loop", rate))
        assert [type(step) for step in scenes.apply(host, goal)] == [objects.PutClasses]
        assert hosts.described(host.observe()) == hosts.described(goal)


@every_way
def test_without_rules_all_else_is_read(host: hosts.Host, way: Way) -> None:
    """A process that may not read chains reads sets, devices and their counters."""
    goal = way.state(host, EVERYTHING)
    scenes.apply(host, goal)
    assert hosts.described(host.observe(rules=False)) == hosts.described(dataclasses.replace(goal, chains={}))
    assert host.counters(rules=False).rules == {}
    assert host.counters(rules=False).classes == host.counters().classes


def test_next_hops_are_told_but_gateways(host: hosts.Host) -> None:
    """Hosts that packets of others are handed to, with what for; the gateway of the default route is none."""
    assert host.peers() == {}
    networks = [addresses.parse(text) for text in ("10.244.1.0/24", "10.244.2.0/24", "2001:db8:7::/64")]
    nodes = [addresses.parse(text) for text in ("192.0.2.9", "192.0.2.77", "2001:db8::9")]
    for network, node in zip(networks, nodes, strict=True):
        host.relay(network, node)
    told = {node: f"next hop of {addresses.write(network)}" for network, node in zip(networks, nodes, strict=True)}
    assert host.peers() == told


@every_way
def test_fewer_limits_and_none(host: hosts.Host, way: Way) -> None:
    """Devices, classes, sets and rules go with the limits that needed them, and the host is as it was found."""
    found = host.surroundings()
    scenes.apply(host, way.state(host, EVERYTHING))
    goal = way.state(host, FEW)
    scenes.apply(host, goal)
    assert hosts.described(host.observe()) == hosts.described(goal)
    scenes.apply(host, way.state(host, EVERYTHING))
    scenes.apply(host, model.EMPTY)
    assert host.observe() == model.EMPTY
    assert host.surroundings() == found


@pytest.mark.parametrize("classifier", [*ClassifierSetting][1:])
def test_strangers_are_left_alone(host: hosts.Host, classifier: ClassifierSetting) -> None:
    """Beside a foreign root, foreign filters, rules and sets, limits come, change and go; all of theirs stays."""
    host.invite_strangers()
    found = host.surroundings()
    uplink = host.facts().interfaces[hosts.UPLINK]
    assert (uplink.root, uplink.clsact) == (hosts.STRANGE_ROOT, True)
    assert len(uplink.foreign_egress_filters) == 1
    way = Way(PlacementSetting.IFB, classifier)
    for limits in (EVERYTHING, FEW):
        goal = way.state(host, limits)
        scenes.apply(host, goal)
        assert hosts.described(host.observe()) == hosts.described(goal)
        assert host.facts().interfaces[hosts.UPLINK] == uplink
    scenes.apply(host, model.EMPTY)
    assert host.surroundings() == found


def test_a_strangers_root_is_not_replaced(host: hosts.Host) -> None:
    """Where our HTB is put over a root that another program made, the kernel object itself refuses."""
    host.invite_strangers()
    found = host.surroundings()
    assert host.apply_one(objects.PutRoot(hosts.UPLINK, 0)).failure is not None
    assert host.apply_one(objects.DeleteRoot(hosts.UPLINK)).failure is None
    assert host.surroundings() == found


@pytest.mark.parametrize("after", WAYS, ids=str)
@pytest.mark.parametrize("before", WAYS, ids=str)
def test_one_way_becomes_another(host: hosts.Host, before: Way, after: Way) -> None:
    """Placement and classifier change under limits in force, and the classes keep their numbers."""
    scenes.apply(host, before.state(host, EVERYTHING))
    adopted = class_ids.adopt(host.observe(), after.choose(host).capacity)
    assert adopted == scenes.HELD
    goal = after.state(host, EVERYTHING)
    scenes.apply(host, goal)
    assert hosts.described(host.observe()) == hosts.described(goal)


@every_way
def test_a_pass_that_ends_anywhere_is_finished_by_the_next(host: hosts.Host, way: Way) -> None:
    """Whatever was done when the agent died, its successor sees it, adopts the numbers and does the rest."""
    goal = way.state(host, EVERYTHING)
    steps = diff.compute(goal, model.EMPTY)
    for done in range(len(steps)):
        for step in steps[:done]:
            assert host.apply_one(step) == objects.Outcome(step)
        assert set(class_ids.adopt(host.observe(), way.choose(host).capacity).items()) <= set(scenes.HELD.items())
        scenes.apply(host, goal)
        assert hosts.described(host.observe()) == hosts.described(goal)
        removal = diff.compute(model.EMPTY, goal)
        for step in removal[: done % len(removal)]:
            assert host.apply_one(step) == objects.Outcome(step)
        scenes.apply(host, model.EMPTY)
        assert host.observe() == model.EMPTY


@every_way
def test_every_change_may_be_made_twice(host: hosts.Host, way: Way) -> None:
    """Putting what is there and deleting what is not are no failures."""
    goal = way.state(host, EVERYTHING)
    for target in (goal, model.EMPTY):
        for step in diff.compute(target, host.observe()):
            for _ in range(2):
                assert host.apply_one(step) == objects.Outcome(step)
        assert hosts.described(host.observe()) == hosts.described(target)


CLIENTS = {
    "198.51.100.7": 1,
    "192.0.2.77": 2,
    "203.0.113.9": 600,
    "8.8.8.8": 1100,
    "198.51.100.8": 3,
    "2001:db8:1::5": 1,
    "2001:db8:1::9": 1100,
    "192.0.2.9": None,
    "2001:db8:77::1": None,
}


@every_way
def test_packets_are_counted_in_the_class_of_their_client(host: hosts.Host, way: Way) -> None:
    """Real packets take the way that the tracer says, and those of no class are in none."""
    scenes.apply(host, way.state(host, EVERYTHING))
    path = tracer.Tracer(host.observe())
    expected: collections.Counter[int] = collections.Counter()
    for text, minor in CLIENTS.items():
        client = addresses.parse(text)
        verdict = path.trace(client.family, client.network, "UDP", 9, hosts.UPLINK)
        assert verdict == "unshaped" if minor is None else verdict[1] == minor
        expected.update([minor] if minor is not None else [])
        host.send(client)
    deadline = time.monotonic() + 20
    while (counted := _packets(host)) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counted == expected


@every_way
def test_what_comes_to_the_hook_is_counted_there(host: hosts.Host, way: Way) -> None:
    """Packets to limited clients are matched, and redirected where there is a hook; others only leave through it."""
    scenes.apply(host, way.state(host, EVERYTHING))
    names_of_hooks = [*host.observe().hooks]
    ruled = bool(host.observe().chains)
    before = host.hook_counters([hosts.UPLINK])
    assert [*before.hooks] == names_of_hooks
    for text in CLIENTS:
        host.send(addresses.parse(text))
    limited = sum(minor is not None for minor in CLIENTS.values()) if ruled else 0
    deadline = time.monotonic() + 20
    while not _arrived(host, before, limited) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _arrived(host, before, limited)
    assert host.hook_counters(["gone0"]).hooks == {}


@every_way
def test_what_came_out_of_the_classes_is_read_by_device(host: hosts.Host, way: Way) -> None:
    """The classes of the devices that are asked for, as `counters` has them; what is not there is left out."""
    scenes.apply(host, way.state(host, EVERYTHING))
    devices = [*host.observe().trees]
    for text in CLIENTS:
        host.send(addresses.parse(text))
    deadline = time.monotonic() + 20
    while sum(_packets(host).values()) < sum(minor is not None for minor in CLIENTS.values()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    reading = host.queues([*devices, "gone0"], [hosts.UPLINK, "gone1"])
    counted = host.counters()
    assert {(d, n): c.packets for d, classes in reading.classes.items() for n, c in classes.items()} == {
        (d, n): c.packets for d, classes in counted.classes.items() for n, c in classes.items()
    }
    assert {(d, n): c.bytes for d, classes in reading.classes.items() for n, c in classes.items()} == {
        (d, n): c.bytes for d, classes in counted.classes.items() for n, c in classes.items()
    }
    assert [*reading.uplinks] == [hosts.UPLINK]
    assert reading.uplinks[hosts.UPLINK].backlog_bytes == 0
    assert host.queues([], []).classes == {}


def test_what_an_uplink_sends_is_read_and_no_speed_made_up(host: hosts.Host) -> None:
    """Bytes of what is there alone; of a device without a wire no speed, whatever it says of itself."""
    reading = host.uplink_counters([hosts.UPLINK, "gone0"])
    assert [*reading] == [hosts.UPLINK]
    assert reading[hosts.UPLINK].sent_bytes >= 0
    assert reading[hosts.UPLINK].speed_bits_per_second is None


def _arrived(host: hosts.Host, before: model.HookReading, limited: int) -> bool:
    """Whether what was sent since then is counted in every place, and nothing that left is missing at a hook."""
    now = host.hook_counters([hosts.UPLINK])
    return now.matched_packets - before.matched_packets >= limited and all(
        hook.redirected_packets - before.hooks[name].redirected_packets == limited
        and hook.left_bytes - before.hooks[name].left_bytes > hook.redirected_bytes > 0
        and hook.left_bytes - before.hooks[name].left_bytes + hook.redirected_bytes
        <= hook.reached_bytes - before.hooks[name].reached_bytes + before.hooks[name].redirected_bytes
        for name, hook in now.hooks.items()
    )


def _packets(host: hosts.Host) -> collections.Counter[int]:
    """Packets by class number; a parent counts its children's."""
    classes = host.counters().classes.values()
    return +collections.Counter(
        {
            minor: sum(found[minor].packets for found in classes if minor in found)
            for minor in {m for found in classes for m in found} - {names.OBSERVE_PARENT}
        }
    )


PLAIN = names.set_name(4, ())
INTERFERENCE: dict[str, Callable[[hosts.Host], None]] = {
    "set-flushed": lambda host: host.flush_set(PLAIN),
    "set-changed": lambda host: host.change_set(PLAIN),
    "set-replaced": lambda host: host.replace_set(PLAIN),
    "rule-above-ours": lambda host: host.rule_above_ours(4),
    "chain-removed": lambda host: host.delete_chain(4),
    "chain-removed-v6": lambda host: host.delete_chain(6),
    "class-deleted": lambda host: host.delete_class("cbl0", 1),
    "ifb-down": lambda host: host.set_ifb_down(1),
    "ifb-deleted": lambda host: host.delete_ifb(1),
    "ifb-root-deleted": lambda host: host.delete_root("cbl0"),
    "hook-deleted": lambda host: host.delete_hook(hosts.UPLINK),
}


@pytest.mark.parametrize("stranger", INTERFERENCE.values(), ids=INTERFERENCE.keys())
def test_what_a_stranger_breaks_is_repaired(host: hosts.Host, stranger: Callable[[hosts.Host], None]) -> None:
    """The damage is seen, and one pass makes it good without touching what is whole."""
    way = Way()
    goal = way.state(host, EVERYTHING)
    scenes.apply(host, goal)
    stranger(host)
    assert diff.compute(goal, host.observe()) != []
    scenes.apply(host, goal)
    assert hosts.described(host.observe()) == hosts.described(goal)


PROGRAMS_DAMAGED: dict[str, Callable[[hosts.Host], None]] = {
    "pair-down": lambda host: host.set_pair_down(0),
    "pair-deleted": lambda host: host.delete_pair(0),
    "pair-root-deleted": lambda host: host.delete_root("cblv0"),
    "class-deleted": lambda host: host.delete_class("cblv0", 1),
    "program-before-ours": lambda host: host.program_before_ours(hosts.UPLINK),
    "program-deleted": lambda host: host.delete_program(hosts.UPLINK),
}


@pytest.mark.parametrize("stranger", PROGRAMS_DAMAGED.values(), ids=PROGRAMS_DAMAGED.keys())
def test_what_a_stranger_breaks_of_programs_is_repaired(
    host: hosts.Host, stranger: Callable[[hosts.Host], None]
) -> None:
    """The same where programs classify."""
    goal = Way(classifier=ClassifierSetting.EBPF).state(host, EVERYTHING)
    scenes.apply(host, goal)
    stranger(host)
    assert diff.compute(goal, host.observe()) != []
    scenes.apply(host, goal)
    assert hosts.described(host.observe()) == hosts.described(goal)


@pytest.mark.parametrize("placement", [PlacementSetting.IFB, PlacementSetting.INTERFACE])
def test_tables_follow_limits_whose_ports_change(host: hosts.Host, placement: PlacementSetting) -> None:
    """Tables with other ports take the place of those that had some of them."""
    way = Way(placement, ClassifierSetting.EBPF)
    for limits in (EVERYTHING, scenes.OTHER_PORTS, FEW, scenes.OTHER_PORTS, EVERYTHING):
        goal = way.state(host, limits)
        scenes.apply(host, goal)
        assert hosts.described(host.observe()) == hosts.described(goal)


def test_an_interface_whose_root_was_deleted_is_repaired(host: hosts.Host) -> None:
    """Under placement `interface` a stranger's `tc qdisc del root` is undone."""
    way = Way(PlacementSetting.INTERFACE, ClassifierSetting.PRIORITY)
    goal = way.state(host, EVERYTHING)
    scenes.apply(host, goal)
    host.delete_root(hosts.UPLINK)
    scenes.apply(host, goal)
    assert hosts.described(host.observe()) == hosts.described(goal)


ENTRY = objects.SetEntry(1 << 16, 0xFFFF0000, 0, "someone")
CLASS = objects.HtbClass(0, 8000, 8000, 3188, 3188, 1514, objects.Leaf("tbf", 1586, 15860, "bfifo"))
REFUSED: dict[str, objects.Change] = {
    "root-without-device": objects.PutRoot("cbl9", 0),
    "classes-without-root": objects.PutClasses("cbl9", {1: CLASS}, {}),
    "filter-without-root": objects.PutFilter("cbl9", objects.MarkFilter(0xFFFF0000)),
    "hook-without-interface": objects.PutHook("gone0", objects.Hook(0xFFFF0000, 25, frozenset()), None),
    "hook-without-ifb": objects.PutHook(hosts.UPLINK, objects.Hook(0xFFFF0000, 25, frozenset({9})), None),
    "entries-without-set": objects.PutEntries(PLAIN, 4, {Prefix(4, 0x0A000000, 8): ENTRY}),
    "table-entries-without-table": objects.PutTableEntries(PLAIN, 4, {Prefix(4, 0x0A000000, 8): 1}),
    "program-without-interface": objects.PutProgram("gone0", objects.Program(0), None),
    "chain-without-set": objects.PutChain(4, objects.Chain((objects.Rule(PLAIN, None, True, False),), True)),
}


@pytest.mark.parametrize("step", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_is_refused_with_a_value(host: hosts.Host, step: objects.Change) -> None:
    """A refusal is an outcome that says why, never an exception, and leaves nothing behind."""
    outcome = host.apply_one(step)
    parts = outcome.failed_classes or outcome.failed_entries
    assert outcome.failure is not None or (parts and len(parts) == step.size)
    assert host.observe() == model.EMPTY


def test_a_set_in_use_is_not_deleted(host: hosts.Host) -> None:
    """A set that a rule names stays, and the outcome says that it is busy."""
    scenes.apply(host, Way().state(host, FEW))
    outcome = host.apply_one(objects.DeleteSet(PLAIN))
    assert outcome.failure is not None
    assert PLAIN in host.observe().sets


def test_a_class_that_cannot_be_spares_the_others(host: hosts.Host) -> None:
    """One class that the kernel refuses is named in the outcome; the others of the same change are made."""
    scenes.apply(host, Way().state(host, FEW))
    standstill = CLASS._replace(rate=0)
    outcome = host.apply_one(objects.PutClasses("cbl0", {7: CLASS, 8: standstill, 9: CLASS}, {}))
    assert outcome.failure is None
    assert outcome.failed_classes.keys() == {8}
    assert outcome.failed_classes[8].errno == errno.EINVAL
    assert {7, 9} <= host.observe().trees["cbl0"].classes.keys()


def test_a_class_stays_under_its_parent_unless_it_is_known_to_have_another(host: hosts.Host) -> None:
    """HTB passes over another parent for a class that is there, and it is read back as it is; a class that was observed
    under another parent is made again; one without its parent is refused, and not put under the root."""
    scenes.apply(host, Way().state(host, EVERYTHING))
    orphan = CLASS._replace(parent=0x123)
    moved = CLASS._replace(parent=names.OBSERVE_PARENT)
    outcome = host.apply_one(objects.PutClasses("cbl2", {8: orphan, 9: CLASS}, {}))
    assert {minor: failure.errno for minor, failure in outcome.failed_classes.items()} == {8: errno.ENOENT}
    host.apply_one(objects.PutClasses("cbl2", {9: moved}, {}))
    assert host.observe().trees["cbl2"].classes[9].parent == 0
    assert host.apply_one(objects.PutClasses("cbl2", {9: moved}, {9: CLASS})) == objects.Outcome(
        objects.PutClasses("cbl2", {9: moved}, {9: CLASS})
    )
    assert host.observe().trees["cbl2"].classes[9] == moved
