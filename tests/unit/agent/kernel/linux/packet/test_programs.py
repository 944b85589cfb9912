"""Which packets the programs of the sockets take, and how much of each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel.linux.packet import headers, period, programs
from unit.agent.kernel.linux.packet import interpreter, packets

IPV4, IPV6, ARP, VLAN, SERVICE_VLAN = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
PERIODS = [1 << n for n in range(12, 21)]
V4 = packets.v4("192.0.2.9", packets.TCP, packets.ports(443))
V6 = packets.v6("2001:db8::9", packets.UDP, packets.ports(53))


@given(
    st.sampled_from(PERIODS),
    st.integers(0, programs.GENERATIONS - 1),
    st.integers(len(V4), 1 << 17),
    st.integers(0, 2**32 - 1),
)
def test_a_packet_is_taken_with_its_length_over_the_period(of: int, generation: int, length: int, random: int) -> None:
    """Of all numbers that the kernel may draw, as many take a packet as it has bytes; a long one is always taken."""
    taken = interpreter.run(programs.sample(of, generation), V4, length, protocol=IPV4, random=random)
    assert bool(taken) == (random % of < length)


@pytest.mark.parametrize("generation", range(programs.GENERATIONS))
@pytest.mark.parametrize("options", [0, 1, 10])
def test_what_is_copied_is_headers_and_the_generation(options: int, generation: int) -> None:
    """A header with its options and the ports behind it, and three bytes at most that tell the generation."""
    packet = packets.v4("192.0.2.9", packets.TCP, packets.ports(443), options=options)
    copied = interpreter.run(programs.sample(4096, generation), packet, 9000, protocol=IPV4)
    assert copied == 20 + 4 * options + 4 + generation
    assert copied % programs.GENERATIONS == generation
    assert headers.read(packet[:copied]) == headers.read(packet)


@pytest.mark.parametrize("generation", range(programs.GENERATIONS))
def test_of_ipv6_more_is_copied_where_there_are_extension_headers(generation: int) -> None:
    """44 bytes where ports or ICMPv6 follow the header, 96 where something else does."""
    program = programs.sample(4096, generation)
    behind = packets.ports(443, payload=200)
    plain = packets.v6("2001:db8::9", packets.TCP, behind)
    routed = packets.v6("2001:db8::9", packets.TCP, behind, [packets.extension(packets.ROUTING, 4)])
    assert interpreter.run(program, plain, 9000, protocol=IPV6) == 44 + generation
    copied = interpreter.run(program, routed, 9000, protocol=IPV6)
    assert copied == 96 + generation
    assert headers.read(routed[:copied]) == headers.read(routed)


@pytest.mark.parametrize("generation", range(programs.GENERATIONS))
@pytest.mark.parametrize(("packet", "protocol"), [(V4, IPV4), (V6, IPV6)])
def test_the_shortest_packet_tells_its_generation(packet: bytes, protocol: int, generation: int) -> None:
    """A UDP packet without payload is longer than what is copied of it: the two bits are never cut off."""
    shortest = len(packet) - 100
    copied = interpreter.run(programs.sample(4096, generation), packet[:shortest], shortest, protocol=protocol)
    assert copied < shortest


EVERY = {"every": programs.every(), "sample": programs.sample(4096, 0)}


@pytest.mark.parametrize("program", EVERY.values(), ids=EVERY.keys())
def test_only_what_leaves_and_is_ip_is_taken(program: bytes) -> None:
    """Not what arrives, whoever it is for, and not ARP or other protocols, in a VLAN or not."""
    for kind in range(8):
        assert bool(interpreter.run(program, V4, len(V4), protocol=IPV4, kind=kind)) == (kind == 4)
    arp = bytes([0, 1, 8, 0]) + bytes(24)
    for protocol in (ARP, VLAN, SERVICE_VLAN, 0x88CC, 0):
        assert interpreter.run(program, arp, len(arp), protocol=protocol) == 0
    for protocol in (VLAN, SERVICE_VLAN):
        for packet, untagged in ((V4, IPV4), (V6, IPV6)):
            copied = interpreter.run(program, packet, len(packet), protocol=protocol)
            assert copied == interpreter.run(program, packet, len(packet), protocol=untagged) > 0


def test_nothing_is_taken_by_none() -> None:
    """The program of a socket that follows no device."""
    assert interpreter.run(programs.none(), V4, len(V4), protocol=IPV4) == 0


@given(st.binary(max_size=120), st.sampled_from([IPV4, IPV6, VLAN]))
def test_no_packet_is_too_short(packet: bytes, protocol: int) -> None:
    """Whatever was put on the wire, a program ends, and never copies more than the headers."""
    for program in (programs.every(), programs.sample(period.LEAST, 3)):
        assert interpreter.run(program, packet, len(packet), protocol=protocol) <= programs.HEADERS_BYTES + 3
