"""What holds an address: the same as decides for its packets in the kernel, whatever the limits are."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.fake import tracer
from bandwidth_agent.planner import holders
from bandwidth_agent.planner.classifier import class_ids
from bandwidth_api import addresses, names
from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.plan import PlanEntry, PortRange, Prefix, Sharing
from unit.agent import worlds
from unit.agent.entries import entry
from unit.agent.reporting import shaped

IMAPS, SMTP = PortRange("TCP", 993, 993), PortRange("TCP", 25, 25)
REPAIRED = "; a running agent puts it right"
CLIENT = addresses.parse("203.0.113.7")


def held(state: model.State, text: str, port: PortRange | None = None) -> list[tuple[str, tuple[PortRange, ...]]]:
    """The limits that hold an address, each with its ports."""
    found = holders.holding(state, addresses.parse(text), port)
    return sorted((holder.label.key.limit, holder.ports) for holder in found.holders)


def state(*limits: PlanEntry) -> model.State:
    return shaped.Node(*limits).kernel.observe()


@worlds.unhurried
@given(worlds.setups("ifb", "interface", "none"), worlds.plan_entry_lists(), st.data())
def test_what_holds_an_address_is_what_its_packets_meet(
    setup: worlds.Setup, limits: list[PlanEntry], data: st.DataObject
) -> None:
    """For every address and port the holder, its number and its device are those at which a packet ends."""
    resolution = resolve.resolve(limits)
    numbers = class_ids.assign(worlds.slots(resolution), {}).numbers
    built = setup.build(resolution, numbers, worlds.node())
    tracing = tracer.Tracer(built)
    family = data.draw(st.sampled_from((4, 6)))
    for address in worlds.hosts(family):
        prefix = Prefix(family, address, worlds.BITS[family])
        everything = holders.holding(built, prefix)
        for protocol, port in worlds.PROBES:
            found = holders.holding(built, prefix, PortRange(protocol, port, port))
            assert not found.unasked
            assert len(found.holders) <= 1
            assert {holder.number for holder in found.holders} <= {
                holder.number for holder in everything.holders if _answers(holder, protocol, port)
            }
            for interface in worlds.INTERFACES:
                verdict = tracing.trace(family, address, protocol, port, interface)
                ways = [
                    tracer.ClassAddress(device, holder.number)
                    for holder in found.holders
                    if (device := holders.device(built, interface, holder)[0])
                ]
                assert (ways or ["unshaped"]) == [verdict]


def _answers(holder: holders.Holder, protocol: str, port: int) -> bool:
    return not holder.ports or any(p.protocol == protocol and p.first <= port <= p.last for p in holder.ports)


def test_ports_of_one_limit_come_before_another_without() -> None:
    """The limit with ports decides for these, the other one for all others."""
    found = state(entry("all", "203.0.113.0/24"), entry("imap", "203.0.113.7", ports=(IMAPS,)))
    assert held(found, "203.0.113.7") == [("all", ()), ("imap", (IMAPS,))]
    assert held(found, "203.0.113.8") == [("all", ())]


def test_a_port_is_asked_for() -> None:
    """Only what decides for packets from it is named."""
    found = state(entry("all", "203.0.113.0/24"), entry("imap", "203.0.113.7", ports=(IMAPS,)))
    assert held(found, "203.0.113.7", IMAPS) == [("imap", (IMAPS,))]
    assert held(found, "203.0.113.7", SMTP) == [("all", ())]
    only_imap = state(entry("imap", "203.0.113.7", ports=(IMAPS,)))
    assert held(only_imap, "203.0.113.7", SMTP) == []


def test_ranges_that_touch_are_one() -> None:
    """However many chains a set's rules are spread over, its ports read as they were written."""
    ranges = tuple(PortRange("TCP", first, first + 9) for first in range(100, 1000, 20))
    found = state(entry("many", "203.0.113.7", ports=ranges))
    assert held(found, "203.0.113.7") == [("many", ranges)]


def test_what_is_excepted_is_named_with_the_limit_around_it() -> None:
    """An address in `except` has no limit, and it is known whose network it is cut out of."""
    limit = dataclasses.replace(entry("net", "203.0.113.0/24"), excepted=(CLIENT,))
    found = holders.holding(state(limit), CLIENT)
    assert found.holders == ()
    (hole,) = found.excepted
    assert (hole.label.key.limit, hole.prefix, hole.set_name) == ("net", CLIENT, "cbl-v4")


def test_a_network_is_held_in_parts() -> None:
    """Longer entries in the network that is asked for are listed with their addresses, the wider one as the whole."""
    limits = (
        entry("wide", "203.0.0.0/16"),
        entry("one", "203.0.113.7"),
        entry("each", "203.0.113.8", "203.0.113.9", sharing=Sharing.PER_ENTRY),
        entry("elsewhere", "198.51.100.7"),
    )
    found = holders.holding(state(*limits), addresses.parse("203.0.113.0/24"))
    assert [holder.label.key.limit for holder in found.holders] == ["wide"]
    parts = [(holder.label.key, addresses.write(holder.prefix)) for holder in found.inside]
    assert parts == [
        (("one", ""), "203.0.113.7"),
        (("each", "203.0.113.8"), "203.0.113.8"),
        (("each", "203.0.113.9"), "203.0.113.9"),
    ]


def test_nothing_is_looked_up_without_our_rule_first() -> None:
    """Entries alone hold nobody: what is wrong with the rules is said."""
    whole = state(entry("mail", "203.0.113.7"), entry("imap", "203.0.113.8", ports=(IMAPS,)))
    assert holders.holding(whole, CLIENT).unasked == ""
    below = dataclasses.replace(whole, chains={4: whole.chains[4]._replace(jump_first=False)})
    assert "another rule comes before ours" in holders.holding(below, CLIENT).unasked
    gone = dataclasses.replace(whole, chains={})
    found = holders.holding(gone, CLIENT)
    assert "no rule of ours" in found.unasked
    assert [holder.label.key.limit for holder in found.holders] == ["mail"]
    assert holders.holding(gone, addresses.parse("192.0.2.1")).unasked == ""


def test_a_guard_set_that_lacks_the_address() -> None:
    """What the first look-up does not find no table is asked for."""
    whole = state(entry("mail", "203.0.113.7"), entry("imap", "203.0.113.8", ports=(IMAPS,)))
    guard = whole.sets[names.clients_set(4)]
    others = {prefix: found for prefix, found in guard.entries.items() if prefix != CLIENT}
    lacking = dataclasses.replace(guard, entries=others)
    found = dataclasses.replace(whole, sets={**whole.sets, names.clients_set(4): lacking})
    assert "lacks 203.0.113.7" in holders.holding(found, CLIENT).unasked
    assert "lacks" not in holders.holding(found, addresses.parse("203.0.113.8")).unasked
    without = {name: ipset for name, ipset in whole.sets.items() if name != names.clients_set(4)}
    assert "is gone" in holders.holding(dataclasses.replace(whole, sets=without), CLIENT).unasked


def test_a_guard_set_of_few_lengths_is_no_contradiction() -> None:
    """A network whose guard entries are pieces of it is looked up all the same."""
    nets = [f"10.{i}.0.0/{16 + i}" for i in range(14)]
    whole = state(*(entry(f"net-{i}", net) for i, net in enumerate(nets)))
    assert names.clients_set(4) in whole.sets
    for text in nets:
        assert holders.holding(whole, addresses.parse(text)).unasked == ""
    assert holders.holding(whole, addresses.parse("10.0.0.0/8")).unasked == ""


def test_an_ifb_that_is_down_loses_the_packets() -> None:
    """The device of a class counts only while packets come to it."""
    node = shaped.Node(entry("mail", "203.0.113.7"))
    (holder,) = holders.holding(node.kernel.observe(), CLIENT).holders
    assert holders.device(node.kernel.observe(), "eth0", holder) == ("cbl0", "")
    assert holders.device(node.kernel.observe(), "wg0", holder) == ("", f"nothing of ours is on wg0{REPAIRED}")
    node.kernel.set_ifb_down(0)
    device, why = holders.device(node.kernel.observe(), "eth0", holder)
    assert (device, "are lost" in why) == ("", True)


def test_a_class_that_is_missing_holds_nobody() -> None:
    """An entry alone slows nothing."""
    node = shaped.Node(entry("mail", "203.0.113.7"))
    (holder,) = holders.holding(node.kernel.observe(), CLIENT).holders
    node.kernel.delete_class("cbl0", holder.number)
    assert holders.device(node.kernel.observe(), "eth0", holder) == ("", f"no class for it on cbl0{REPAIRED}")
