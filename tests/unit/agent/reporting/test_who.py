"""What `who` finds out: which limit holds an address, and whether what leaves for it comes out of its class."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable

import pytest

from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.reporting import who, who_json, who_page
from bandwidth_agent.reporting.who import Verdict
from bandwidth_agent.settings import PlacementSetting, Settings
from bandwidth_agent.sight.truth import judge
from bandwidth_api import addresses
from bandwidth_api.plan import Mode, PortRange
from unit import documents
from unit.agent.entries import MBIT, entry
from unit.agent.reporting import shaped
from unit.agent.reporting.asking import asked

CLIENT, IMAPS, SMTP = "203.0.113.7", PortRange("TCP", 993, 993), PortRange("TCP", 25, 25)
PACKET_BITS = 1500 * 8  # from the IP header on


def sends(node: shaped.Node, client: str = CLIENT, port: int = 443, **how: bool) -> Callable[[int], object]:
    """Packets to a client."""
    prefix = addresses.parse(client)

    def send(count: int) -> None:
        node.kernel.transmit(prefix.family, prefix.network, "TCP", port, "eth0", packets=count, **how)

    return send


def checked(found: who.Answer) -> who.Answer:
    """The same answer, whose JSON is as its schema says."""
    documents.check("who", who_json.as_json(found))
    return found


def test_a_client_that_takes_all_it_may_is_held() -> None:
    """Seen leaving, and come out of the class at its rate: the limit works, and slows."""
    node = shaped.Node(entry("mail", CLIENT, rate=12 * MBIT))
    found = checked(asked(node, CLIENT, send=sends(node), per_second=1000))
    assert found.verdict is Verdict.HELD
    (row,) = found.rows
    assert row.at_limit
    assert (row.holder.label.key.limit, row.devices, row.whole) == ("mail", ("cbl0",), True)
    assert row.own_bits_per_second == pytest.approx(1000 * PACKET_BITS, rel=0.05)
    assert row.measured_bits_per_second == pytest.approx(1000 * 1514 * 8, rel=0.05)
    assert found.seen is not None
    assert found.seen.ports.keys() == {(6, 443)}


def test_a_client_that_takes_less_is_held_and_not_slowed() -> None:
    """Below its rate nothing is slowed."""
    node = shaped.Node(entry("mail", CLIENT, rate=100 * MBIT))
    found = checked(asked(node, CLIENT, send=sends(node), per_second=1000))
    assert (found.verdict, found.rows[0].at_limit) == (Verdict.HELD, False)


def test_nothing_seen_is_said() -> None:
    """A limit on a silent client is there, and proves nothing."""
    found = checked(asked(shaped.Node(entry("mail", CLIENT)), CLIENT))
    assert found.verdict is Verdict.NOTHING_SEEN
    assert found.seconds == pytest.approx(3.0)


def test_packets_that_skip_our_rules_leave_past_the_class() -> None:
    """Seen leaving, and nothing came out of the class: the limit holds nobody, whatever the kernel holds."""
    node = shaped.Node(entry("mail", CLIENT, rate=12 * MBIT))
    found = checked(asked(node, CLIENT, send=sends(node, past_rules=True)))
    assert found.verdict is Verdict.BYPASSED
    (row,) = found.rows
    assert row.passed is not None
    assert (row.passed.class_bytes, row.passed.left_bytes > 0) == (0, True)
    assert row.bypassed.startswith("packets leave past the limit: of ")
    assert row.bypassed in found.problems
    assert not row.why_not


def test_few_packets_are_no_proof() -> None:
    """Few packets, or many in a moment, accuse nobody; both are called unclear."""
    node = shaped.Node(entry("mail", CLIENT))
    few = asked(node, CLIENT, send=sends(node, past_rules=True), per_second=10)
    assert few.rows[0].passed is not None
    assert 0 < few.rows[0].passed.packets < judge.PACKETS
    assert checked(few).verdict is Verdict.UNCLEAR
    short = asked(node, CLIENT, send=sends(node, past_rules=True), seconds=1.0)
    assert checked(short).verdict is Verdict.UNCLEAR
    through = asked(node, CLIENT, send=sends(node), per_second=10)
    assert through.verdict is Verdict.HELD


def test_other_clients_of_the_limit_are_counted_with_it() -> None:
    """A class that several share is compared with what left for all of them."""
    node = shaped.Node(entry("mail", CLIENT, "203.0.113.8"))
    greedy, quiet = sends(node, "203.0.113.8"), sends(node, past_rules=True)

    def both(count: int) -> None:
        greedy(count)
        quiet(max(1, count // 20))

    found = asked(node, CLIENT, send=both)
    assert found.verdict is Verdict.HELD, "most of what left for the class went through it"
    assert found.rows[0].own_bits_per_second == pytest.approx(50 * PACKET_BITS, rel=0.2)


def test_an_observed_client_is_not_slowed() -> None:
    """Mode Observe counts, and says so."""
    node = shaped.Node(entry("watch", CLIENT, rate=MBIT, mode=Mode.OBSERVE))
    found = checked(asked(node, CLIENT, send=sends(node)))
    assert found.verdict is Verdict.OBSERVED
    assert (found.rows[0].observes, found.rows[0].at_limit) == (True, False)


def test_an_address_without_a_limit() -> None:
    """What it takes is seen all the same."""
    node = shaped.Node(entry("mail", "203.0.113.8"))
    found = checked(asked(node, CLIENT, send=sends(node)))
    assert (found.verdict, found.rows) == (Verdict.NO_LIMIT, ())
    assert found.seen is not None
    assert found.seen.bits_per_second == pytest.approx(1000 * PACKET_BITS, rel=0.05)


def test_a_host_without_any_limit() -> None:
    """Nothing of ours is in the kernel, and what leaves by the uplink is seen."""
    node = shaped.Node()
    found = checked(asked(node, CLIENT, send=sends(node)))
    assert (found.verdict, found.shaped, found.egress) == (Verdict.NO_LIMIT, frozenset(), {"eth0"})
    assert found.seen is not None
    assert found.seen.packets > 0


def test_ports_are_told_apart() -> None:
    """Each limit has what leaves from its own ports."""
    node = shaped.Node(entry("all", "203.0.113.0/24"), entry("imap", CLIENT, ports=(IMAPS,)))

    def send(count: int) -> None:
        sends(node, port=993)(3 * count)
        sends(node, port=443)(count)

    found = checked(asked(node, CLIENT, send=send))
    rates = {row.holder.label.key.limit: row.own_bits_per_second for row in found.rows}
    assert rates["imap"] == pytest.approx(3000 * PACKET_BITS, rel=0.05)
    assert rates["all"] == pytest.approx(1000 * PACKET_BITS, rel=0.05)
    only = checked(asked(node, CLIENT, port=IMAPS, send=send))
    assert only.seen is not None
    assert only.seen.ports.keys() == {(6, 993)}


def test_a_network_has_rows_for_its_parts() -> None:
    """Asked for a network, each entry in it is judged by itself."""
    node = shaped.Node(entry("one", CLIENT), entry("two", "203.0.113.8"))
    found = checked(asked(node, "203.0.113.0/24", send=sends(node, past_rules=True)))
    verdicts = {row.holder.label.key.limit: (row.whole, row.verdict) for row in found.rows}
    assert verdicts == {"one": (False, Verdict.BYPASSED), "two": (False, Verdict.NOTHING_SEEN)}
    assert found.verdict is Verdict.BYPASSED


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda kernel: kernel.set_ifb_down(0), "cbl0 is down"),
        (lambda kernel: kernel.delete_class("cbl0", 1), "class 7cb1:1 is missing"),
        (lambda kernel: kernel.delete_hook("eth0"), "nothing of ours is on eth0"),
        (lambda kernel: kernel.rule_above_ours(4), "another rule comes before ours"),
    ],
)
def test_what_is_broken_is_named(harm: Callable[[fake_kernel.FakeKernel], None], told: str) -> None:
    """A limit whose packets come to no class is not in force, and it is said why."""
    node = shaped.Node(entry("mail", CLIENT))
    harm(node.kernel)
    found = checked(asked(node, CLIENT, send=sends(node)))
    assert found.verdict is Verdict.NOT_IN_FORCE
    assert told in found.rows[0].why_not
    assert found.rows[0].why_not in found.problems


def test_a_client_behind_another_interface_is_not_held() -> None:
    """Its way is asked of the kernel: what leaves by an interface that is not shaped is not slowed."""
    node = shaped.Node(entry("mail", CLIENT))
    node.kernel.routes[addresses.parse(CLIENT)] = frozenset({"wg0"})
    found = checked(asked(node, CLIENT))
    assert found.verdict is Verdict.NOT_IN_FORCE
    assert "leave by wg0, which is not shaped" in found.rows[0].why_not
    assert found.ways is not None
    assert [way.interfaces for way in found.ways] == [{"wg0"}]


def test_a_way_that_cannot_be_asked_for_is_missing() -> None:
    """All else is told."""
    node = shaped.Node(entry("mail", CLIENT))
    node.kernel.unanswered = True
    found = checked(asked(node, CLIENT, send=sends(node)))
    assert (found.verdict, found.ways) == (Verdict.HELD, None)
    assert "the way to it cannot be asked for" in found.missing[0]


def test_a_limit_at_the_root_of_the_interface() -> None:
    """With placement `interface` the class is on the interface itself."""
    node = shaped.Node(entry("mail", CLIENT), settings=Settings(placement=PlacementSetting.INTERFACE))
    found = checked(asked(node, CLIENT, send=sends(node)))
    assert (found.verdict, found.rows[0].devices) == (Verdict.HELD, ("eth0",))


def test_without_the_right_to_capture_the_class_is_the_witness() -> None:
    """What its class let out shows that something is held; for which ports it is for is not known."""
    node = shaped.Node(entry("mail", CLIENT, ports=(IMAPS,)))
    found = checked(asked(node, CLIENT, send=sends(node, port=993), may_capture=False))
    assert (found.verdict, found.seen, found.rules_known) == (Verdict.HELD, None, False)
    assert found.rows[0].own_bits_per_second is None
    assert found.rows[0].measured_bits_per_second > 0


def test_without_the_right_to_read_sets_only_the_traffic_is_told() -> None:
    """Which limit holds it is not guessed."""
    node = shaped.Node(entry("mail", CLIENT))
    found = checked(asked(node, CLIENT, send=sends(node), may_administer=False))
    assert (found.verdict, found.rows) == (Verdict.UNKNOWN, ())
    assert found.seen is not None
    assert found.seen.packets > 0


def test_a_capture_that_is_refused_is_missing() -> None:
    """A refusal of the kernel costs what would have been seen, and nothing else."""
    node = shaped.Node(entry("mail", CLIENT))
    node.kernel.window_error = errno.EPERM
    found = checked(asked(node, CLIENT, send=sends(node)))
    assert (found.verdict, found.seen) == (Verdict.HELD, None)
    (missing,) = found.missing
    assert "what leaves cannot be looked at" in missing


def test_more_packets_than_there_is_room_for_are_estimated() -> None:
    """Those that found no room count as the others do."""
    node = shaped.Node(entry("mail", CLIENT))
    found = checked(asked(node, CLIENT, send=sends(node), per_second=100_000))
    assert found.seen is not None
    assert found.seen.lost > 0
    assert found.seen.bits_per_second == pytest.approx(100_000 * PACKET_BITS, rel=0.05)
    assert found.verdict is Verdict.HELD


def test_another_node_is_no_client() -> None:
    """A next hop of this host's routes is told as such, alone and in a network, and no limit is suggested for it."""
    node = shaped.Node()
    other = addresses.parse("192.0.2.9")
    node.kernel.relayed[addresses.parse("10.244.1.0/24")] = other
    told = {other: "next hop of 10.244.1.0/24"}
    found = checked(asked(node, "192.0.2.9", send=sends(node, "192.0.2.9")))
    assert (found.peers, who_page.suggestions(found)) == (told, ())
    assert "no client   192.0.2.9 is the next hop of 10.244.1.0/24" in who_page.page(found, 0.0, colors=False)
    assert asked(node, "192.0.2.0/24").peers == told
    assert asked(node, "192.0.2.10").peers == {}


def test_protected_addresses_are_named_with_the_reason() -> None:
    """An address of the node, its gateway, and what may be named by no limit at all."""
    node = shaped.Node()
    own, gateway = addresses.parse("192.0.2.1"), addresses.parse("192.0.2.254")
    node.kernel.node = dataclasses.replace(node.kernel.node, addresses=frozenset({own}), gateways=frozenset({gateway}))
    assert asked(node, "192.0.2.1").protected == {own: "an address of this node"}
    assert asked(node, "192.0.2.254").refused == "192.0.2.254 is a gateway of this node"
    assert asked(node, "192.0.2.0/24").protected.keys() == {own, gateway}
    assert "loopback" in asked(node, "127.0.0.1").refused
    assert "too wide" in asked(node, "10.0.0.0/7").refused
    assert asked(node, CLIENT).refused == ""
    named = who.protection(node.kernel.facts(), ("198.51.100.0/24",))
    assert named[addresses.parse("198.51.100.0/24")] == "an address that --protected names"
