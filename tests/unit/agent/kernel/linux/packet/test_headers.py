"""What the headers of a packet say, of the fields that rules compare."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel.linux.packet import headers
from unit.agent.kernel.linux.packet import packets
from unit.agent.kernel.linux.packet.packets import FRAGMENT, HOP_BY_HOP, ICMP6, OPTIONS, ROUTING, TCP, UDP

V4, V6 = "192.0.2.9", "2001:db8::9"
V4_BYTES, V6_BYTES = ipaddress.ip_address(V4).packed, ipaddress.ip_address(V6).packed
PORTS = packets.ports(443)
SAID = {
    "tcp": (packets.v4(V4, TCP, PORTS), (V4_BYTES, TCP, 443)),
    "udp": (packets.v4(V4, UDP, PORTS), (V4_BYTES, UDP, 443)),
    "icmp": (packets.v4(V4, 1, PORTS), (V4_BYTES, 1, -1)),
    "options": (packets.v4(V4, TCP, PORTS, options=10), (V4_BYTES, TCP, 443)),
    "first fragment": (packets.v4(V4, UDP, PORTS, fragment=0x2000), (V4_BYTES, UDP, 443)),
    "unfragmented, may not be": (packets.v4(V4, UDP, PORTS, fragment=0x4000), (V4_BYTES, UDP, 443)),
    "later fragment": (packets.v4(V4, UDP, PORTS, fragment=0x2001), (V4_BYTES, UDP, -1)),
    "last fragment": (packets.v4(V4, UDP, PORTS, fragment=0x1FFF), (V4_BYTES, UDP, -1)),
    "tunnel": (packets.v4(V4, 4, packets.v4("10.0.0.1", TCP, PORTS)), (V4_BYTES, 4, -1)),
    "tcp6": (packets.v6(V6, TCP, PORTS), (V6_BYTES, TCP, 443)),
    "icmp6": (packets.v6(V6, ICMP6, PORTS), (V6_BYTES, ICMP6, -1)),
    "nothing behind": (packets.v6(V6, 59, b""), (V6_BYTES, 59, -1)),
    "hop-by-hop": (packets.v6(V6, UDP, PORTS, [packets.extension(HOP_BY_HOP)]), (V6_BYTES, UDP, 443)),
    "routing": (packets.v6(V6, TCP, PORTS, [packets.extension(ROUTING, 4)]), (V6_BYTES, TCP, 443)),
    "authentication": (packets.v6(V6, TCP, PORTS, [packets.authentication()]), (V6_BYTES, TCP, 443)),
    "several": (
        packets.v6(V6, TCP, PORTS, [packets.extension(k) for k in (HOP_BY_HOP, OPTIONS, ROUTING, OPTIONS)]),
        (V6_BYTES, TCP, 443),
    ),
    "first fragment6": (packets.v6(V6, UDP, PORTS, [packets.fragment(0)]), (V6_BYTES, UDP, 443)),
    "later fragment6": (packets.v6(V6, UDP, PORTS, [packets.fragment(1)]), (V6_BYTES, UDP, -1)),
    "later fragment of options": (
        packets.v6(V6, UDP, PORTS, [packets.fragment(9), packets.extension(OPTIONS)]),
        (V6_BYTES, -1, -1),
    ),
    "tunnel6": (packets.v6(V6, 41, packets.v6("fd00::1", TCP, PORTS)), (V6_BYTES, 41, -1)),
}


@pytest.mark.parametrize(("packet", "said"), SAID.values(), ids=SAID.keys())
def test_what_is_said(packet: bytes, said: tuple[bytes, int, int]) -> None:
    """Destination of the fixed header, protocol behind the extension headers, the ports where the packet has them."""
    assert headers.read(packet) == (*said, packets.DIALLING_PORT if said[2] >= 0 else -1)


@pytest.mark.parametrize("packet", [packet for packet, _ in SAID.values()], ids=SAID.keys())
def test_the_short_way_says_the_same_or_nothing(packet: bytes) -> None:
    """It is for the plain packets of IPv4, at any place of a memory."""
    memory, said = bytes(7) + packet + bytes(headers.PLAIN_BYTES), headers.read(packet)
    assert said is not None
    is_plain = packet[0] == 0x45 and said.source_port >= 0
    expected = (int.from_bytes(said.destination, "big"), *said[1:]) if is_plain else None
    assert headers.plain(memory, 7) == expected


@pytest.mark.parametrize(("packet", "said"), SAID.values(), ids=SAID.keys())
def test_what_is_cut_off_is_not_made_up(packet: bytes, said: tuple[bytes, int, int]) -> None:
    """Of a packet cut anywhere, each field is as in the whole one, or said to be unknown."""
    for end in range(len(packet)):
        cut = headers.read(packet[:end])
        if cut is None:
            assert end < (20 if packet[0] >> 4 == 4 else 40)
            continue
        assert cut.destination == said[0]
        assert cut.protocol in (said[1], -1)
        assert cut.source_port in (said[2], -1)
        assert (cut.destination_port < 0) == (cut.source_port < 0)


def test_headers_that_are_longer_than_what_was_copied() -> None:
    """Behind 96 bytes of extension headers no port is shown, and behind one more header not even the protocol."""
    long = packets.extension(OPTIONS, 30)
    assert headers.read(packets.v6(V6, TCP, PORTS, [long])[:96]) == (V6_BYTES, TCP, -1, -1)
    assert headers.read(packets.v6(V6, TCP, PORTS, [long, packets.extension(OPTIONS)])[:96]) == (V6_BYTES, -1, -1, -1)


@given(st.binary(max_size=120))
def test_any_bytes_can_be_read(packet: bytes) -> None:
    """No packet, however it was made, is an error."""
    said = headers.read(packet)
    assert said is None or (len(said.destination) in (4, 16) and said.protocol != FRAGMENT)
