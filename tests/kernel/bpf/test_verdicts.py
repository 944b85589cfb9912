"""A program gives a packet the class that the tables say, whatever its headers are."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.linux.packet import headers
from bandwidth_agent.kernel.objects import longest_prefix_match, lookup_table
from bandwidth_api.plan import PortRange, Prefix
from kernel.bpf import packets
from kernel.bpf.node import NEXT, REDIRECT, Node, Runner, table

pytestmark = pytest.mark.root

TRIALS = 12_000
WEB = PortRange("TCP", 80, 80)
HIGH = PortRange("UDP", 32_768, 65_535)
PROTOCOLS = {packets.TCP: "TCP", packets.UDP: "UDP"}


class Model:
    """What tables say of an address, by the rule that ipset has."""

    def __init__(self, tables: Sequence[objects.LookupTable]) -> None:
        self._tables = [
            (each, longest_prefix_match.Lookup({p: _entry(minor) for p, minor in each.entries.items()}))
            for each in tables
        ]

    def number(self, destination: Prefix, protocol: int, port: int) -> int:
        for each, lookup in sorted(self._tables, key=lambda one: not one[0].ports):
            if each.family != destination.family or not _covers(each.ports, protocol, port):
                continue
            found = lookup.find(destination)
            if found is not None:
                return found.priority
        return 0


def _entry(minor: int) -> objects.SetEntry:
    return objects.SetEntry(0, 0, minor, "", hole=minor == lookup_table.HOLE)


def _covers(ports: Sequence[PortRange], protocol: int, port: int) -> bool:
    asked = PROTOCOLS.get(protocol)
    return not ports or any(each.protocol == asked and each.first <= port <= each.last for each in ports)


def placed(node: Node, shard: int | None) -> None:
    """The program on eth0, behind which there is nothing."""
    node.apply(objects.PutProgram("eth0", objects.Program(shard), None))


def _random_prefix(chance: random.Random, family: int) -> Prefix:
    """One of a few networks, so that many lie in each other."""
    bits = 32 if family == 4 else 128
    network = chance.choice((0x0A, 0xC0)) << bits - 8 | chance.randrange(4) << bits - 16
    network |= chance.getrandbits(16) if chance.random() < 0.9 else 0
    length = chance.choice((*range(8, 17), *range(bits - 12, bits + 1)))
    return Prefix(family, network >> bits - length << bits - length, length)


def _random_table(chance: random.Random, family: int, *ports: PortRange) -> objects.LookupTable:
    entries = {
        _random_prefix(chance, family): chance.choice((lookup_table.HOLE, chance.randrange(1, 0x7C00)))
        for _ in range(1_500)
    }
    return objects.LookupTable(family, ports, entries)


@pytest.mark.parametrize("shard", [None, 0])
def test_verdicts_are_those_of_the_tables(node: Node, shard: int | None) -> None:
    """Of 12,000 random packets to addresses in and around 9,000 prefixes, each has the class that the rule finds."""
    chance = random.Random(12)
    tables = [
        _random_table(chance, family, *ports)
        for family in (4, 6)
        for ports in ((), (WEB,), (WEB._replace(protocol="UDP"), HIGH))
    ]
    node.put(*tables)
    assert list(node.tables.values()) == tables
    placed(node, shard)
    model, numbers = Model(tables), set[int]()
    with node.program() as program:
        for _ in range(TRIALS):
            family = chance.choice((4, 6))
            bits = 32 if family == 4 else 128
            near = _random_prefix(chance, family).network | chance.getrandbits(3)
            protocol = chance.choice((packets.TCP, packets.UDP, packets.ICMP))
            port = chance.choice((80, 81, 32_767, 40_000, 65_535))
            made = (packets.v4 if family == 4 else packets.v6)(near.to_bytes(bits // 8, "big"), protocol, port)
            wanted = model.number(Prefix(family, near, bits), protocol, port)
            assert program.number(made) == wanted, (Prefix(family, near, bits), protocol, port)
            numbers.add(wanted)
    assert 0 in numbers
    assert len(numbers) > 500


@pytest.fixture
def asked(node: Node) -> Iterator[Runner]:
    """A program with one client: class 7 for its web server's packets, class 3 for all others."""
    for family, client in ((4, "203.0.113.10"), (6, "2001:db8:0:2::10")):
        node.put(table(family, {client: 3}), table(family, {client: 7}, WEB))
    placed(node, None)
    with node.program() as program:
        yield program


CLIENT4, CLIENT6 = "203.0.113.10", "2001:db8:0:2::10"


@pytest.mark.parametrize("options", range(0, 44, 4))
def test_ipv4_options_are_passed(asked: Runner, options: int) -> None:
    """Ports are found behind as many options as a header can have."""
    assert asked.number(packets.v4(CLIENT4, packets.TCP, 80, options=options)) == 7
    assert asked.number(packets.v4(CLIENT4, packets.TCP, 81, options=options)) == 3


def test_fragments(asked: Runner) -> None:
    """The first fragment has ports; later ones have the class of all others, whatever their first bytes are."""
    like_ports = (80).to_bytes(2, "big") * 16
    assert asked.number(packets.v4(CLIENT4, packets.TCP, 80, more=True)) == 7
    assert asked.number(packets.v4(CLIENT4, packets.TCP, offset=1, payload=like_ports)) == 3
    assert asked.number(packets.v4(CLIENT4, packets.TCP, offset=8191, payload=like_ports)) == 3
    first = [(packets.HOP_BY_HOP, 0), (packets.FRAGMENT, 0)]
    assert asked.number(packets.v6(CLIENT6, packets.TCP, 80, extensions=first)) == 7
    assert asked.number(packets.v6(CLIENT6, packets.TCP, extensions=first, offset=1, payload=like_ports)) == 3


def test_extension_headers(asked: Runner) -> None:
    """Behind any chain of up to six, what netfilter finds is found, and a packet that is cut short has no ports."""
    chance = random.Random(6)
    kinds = (packets.HOP_BY_HOP, packets.ROUTING, packets.AUTHENTICATION, packets.DESTINATION, packets.FRAGMENT)
    seen = set[int]()
    for _ in range(2_000):
        extensions = [(chance.choice(kinds), chance.choice((0, 0, 1, 2, 30))) for _ in range(chance.randrange(7))]
        protocol, port = chance.choice((packets.TCP, packets.UDP, packets.ICMP)), chance.choice((80, 443))
        packet = packets.v6(CLIENT6, protocol, port, extensions=extensions)
        packet = packet[: chance.randrange(40, len(packet) + 40)]
        found = headers.read(packet)
        assert found is not None
        wanted = 7 if (found.protocol, found.source_port) == (packets.TCP, 80) else 3
        assert asked.number(packet) == wanted, (extensions, len(packet), found)
        seen.add(wanted)
    assert seen == {3, 7}


def test_more_extension_headers_than_it_passes(asked: Runner) -> None:
    """A packet with seven has no ports, and is in the class of all others."""
    assert asked.number(packets.v6(CLIENT6, packets.TCP, 80, extensions=[(packets.DESTINATION, 0)] * 7)) == 3


@pytest.mark.parametrize("tag", [0x8100, 0x88A8])
def test_behind_a_vlan_tag(asked: Runner, tag: int) -> None:
    """What is said of a frame's tag does not hide the IP header: it says itself which version it is."""
    for packet in (packets.v4(CLIENT4, packets.TCP, 80), packets.v6(CLIENT6, packets.TCP, 80)):
        assert asked.run(packet, tag)[1] & 0xFFFF == 7


def test_what_is_no_ip_packet_goes_on(asked: Runner) -> None:
    """What is too short for its header, and what is no IP at all, is left alone."""
    for packet in (b"\x45", bytes(8), bytes(60), b"\x45" + bytes(18), b"\x60" + bytes(38), packets.v4(CLIENT4)[:19]):
        for ether_type in (0x8100, 0x0806, 0x88CC):
            assert asked.run(packet, ether_type) == (NEXT, 0)


def test_port_0_is_no_port(asked: Runner) -> None:
    """What the map says of port 0 is not taken for a table."""
    assert asked.number(packets.v4(CLIENT4, packets.TCP, 0)) == 3


def test_what_has_no_class_is_left_as_it_is(node: Node) -> None:
    """Under both placements it goes on with its own priority; what has one goes to the pair, or on with the class."""
    node.put(table(4, {CLIENT4: 5}), table(6, {}))
    for shard, returned in ((None, NEXT), (0, REDIRECT)):
        placed(node, shard)
        with node.program() as program:
            assert program.run(packets.v4("203.0.113.11")) == (NEXT, 0)
            assert program.run(packets.v6(CLIENT6)) == (NEXT, 0)
            assert program.run(packets.v4(CLIENT4)) == (returned, 0x7CB1_0005)
