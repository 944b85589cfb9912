"""What a capture shows of packets of every kind, on devices of every kind."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence

import pytest

from bandwidth_agent.kernel import traffic
from bandwidth_agent.kernel.linux.packet import capture, headers
from bandwidth_lab import Network
from bandwidth_lab.namespaces import Namespace
from kernel.packet import frames
from unit.agent.kernel.linux.packet import packets
from unit.agent.kernel.linux.packet.packets import HOP_BY_HOP, ICMP6, OPTIONS, ROUTING, TCP, UDP

pytestmark = pytest.mark.root

V4, V6 = "203.0.113.10", "2001:db8:0:2::10"
PORTS = packets.ports(443)

KINDS = {
    "tcp": packets.v4(V4, TCP, PORTS),
    "udp": packets.v4(V4, UDP, PORTS),
    "shortest udp": packets.v4(V4, UDP, packets.ports(443, payload=0)),
    "icmp": packets.v4(V4, 1, bytes(8)),
    "no payload": packets.v4(V4, 47, b""),
    "one byte": packets.v4(V4, 47, b"x"),
    "options": packets.v4(V4, TCP, PORTS, options=10),
    "first fragment": packets.v4(V4, UDP, PORTS, fragment=0x2000),
    "later fragment": packets.v4(V4, UDP, PORTS, fragment=0x2001),
    "tunnel": packets.v4(V4, 4, packets.v4("10.0.0.1", TCP, PORTS)),
    "tcp6": packets.v6(V6, TCP, PORTS),
    "shortest udp6": packets.v6(V6, UDP, packets.ports(443, payload=0)),
    "icmp6": packets.v6(V6, ICMP6, bytes(8)),
    "nothing6": packets.v6(V6, 59, b""),
    "several headers": packets.v6(V6, TCP, PORTS, [packets.extension(k) for k in (HOP_BY_HOP, OPTIONS, ROUTING)]),
    "routed": packets.v6(V6, TCP, PORTS, [packets.extension(ROUTING, 4)]),
    "authenticated": packets.v6(V6, TCP, PORTS, [packets.authentication()]),
    "first fragment6": packets.v6(V6, UDP, PORTS, [packets.fragment(0)]),
    "later fragment6": packets.v6(V6, UDP, PORTS, [packets.fragment(7)]),
    "headers beyond the copy": packets.v6(V6, TCP, PORTS, [packets.extension(OPTIONS, 20)]),
}


def said(packet: bytes, interface: str = "eth0") -> traffic.Packet:
    """What a capture must say of a packet: what its own bytes say, of the first 96."""
    read = headers.read(packet[:96])
    assert read is not None
    target = int.from_bytes(read.destination, "big")
    family, ports = packet[0] >> 4, read[2:]
    return traffic.Packet(interface, family, target, read.protocol, ports[0], len(packet), ports[1])


def take(of: capture.Capture) -> list[traffic.Packet]:
    return frames.unicast(list(of.take()))


def test_packets_of_every_kind(server: Namespace) -> None:
    """Each is shown with its own length, as its first bytes say, in the order they left."""
    with frames.opened(server, lambda: capture.Capture(["eth0"], 100)) as shown:
        frames.put(server, "eth0", *KINDS.values())
        assert take(shown) == [said(packet) for packet in KINDS.values()]
        assert shown.lost == 0


@pytest.mark.parametrize("tags", [(0x8100,), (0x88A8,), (0x88A8, 0x8100)], ids=lambda tags: f"{len(tags)} {tags[0]:x}")
def test_packets_with_a_vlan_tag_in_the_frame(server: Namespace, tags: Sequence[int]) -> None:
    """The tags count for nothing: destination, port and length are those of the packet."""
    with frames.opened(server, lambda: capture.Capture(["eth0"], 100)) as shown:
        for packet in (KINDS["tcp"], KINDS["tcp6"]):
            ethertype = frames.IPV4 if packet[0] >> 4 == 4 else frames.IPV6
            tagged = b"".join(struct.pack("!HH", tag, 0x2005) for tag in tags) + struct.pack("!H", ethertype)
            frames.put_raw(server, "eth0", frames.SOMEBODY + bytes.fromhex("020000000002") + tagged + packet)
        assert take(shown) == [said(KINDS["tcp"]), said(KINDS["tcp6"])]


def test_what_is_not_ip_or_arrives_is_not_shown(network: Network, server: Namespace) -> None:
    """Neither other protocols, nor what comes in, though the socket gets it, nor what is forwarded elsewhere."""
    client = network.clients[0]
    with frames.opened(server, lambda: capture.Capture(["eth0"], 100)) as shown:
        frames.put_raw(server, "eth0", frames.SOMEBODY * 2 + bytes.fromhex("0806") + bytes(28))
        frames.put_raw(server, "eth0", frames.SOMEBODY * 2 + bytes.fromhex("88cc") + b"\x45" * 40)
        frames.put(
            client.namespace, "eth0", packets.v4("192.0.2.10", 253, PORTS), packets.v6("2001:db8:0:1::10", 253, b"")
        )
        frames.put(server, "eth0", KINDS["udp"])
        assert [p for p in take(shown) if p.protocol not in (1, ICMP6)] == [said(KINDS["udp"])]


def test_a_packet_of_many_segments_is_one(network: Network, server: Namespace) -> None:
    """At its whole length, with one header."""
    client = network.clients[0]
    with (
        frames.opened(server, lambda: capture.Capture(["eth0"], 100)) as shown,
        server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.bind(("", 5353))
        sender.setsockopt(socket.SOL_UDP, 103, 1_400)
        sender.sendto(bytes(42_000), (client.address4, 9))
        target = int(ipaddress.IPv4Address(client.address4))
        assert take(shown) == [traffic.Packet("eth0", 4, target, traffic.UDP, 5353, 42_028, 9)]


def test_loopback(server: Namespace) -> None:
    """What leaves by it arrives by it, and is shown once."""
    with (
        frames.opened(server, lambda: capture.Capture(["lo"], 100)) as shown,
        server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.bind(("127.0.0.1", 5353))
        sender.connect(("127.0.0.1", 5353))
        sender.send(b"hello")
        assert take(shown) == [traffic.Packet("lo", 4, 0x7F000001, traffic.UDP, 5353, 33, 5353)]


@contextlib.contextmanager
def tunnel(namespace: Namespace, name: str) -> Iterator[None]:
    """A device without link headers, held open by this process, as a VPN holds its own."""
    no_packet_information, tun, set_interface = 0x1000, 0x0001, 0x400454CA

    def opened() -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, set_interface, struct.pack("16sH22x", name.encode(), tun | no_packet_information))
        return descriptor

    descriptor = namespace.call(opened)
    try:
        namespace.ip(f"link set {name} up", f"address add 10.9.0.1/24 dev {name}")
        yield
    finally:
        os.close(descriptor)


def test_a_device_without_link_headers(server: Namespace) -> None:
    """The packets of a tun device begin with the IP header, and are shown as others are."""
    with tunnel(server, "tun0"), frames.opened(server, lambda: capture.Capture(["tun0"], 100)) as shown:
        with server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("", 5353))
            sender.sendto(b"hello", ("10.9.0.7", 9))
        frames.put(server, "tun0", *(KINDS[kind] for kind in ("tcp", "tcp6", "later fragment")))
        assert take(shown) == [
            traffic.Packet("tun0", 4, 0x0A090007, traffic.UDP, 5353, 33, 9),
            *(said(KINDS[kind], "tun0") for kind in ("tcp", "tcp6", "later fragment")),
        ]


def test_more_than_there_is_room_for(server: Namespace) -> None:
    """A ring that ran over shows the first ones, and says how many are missing."""
    with frames.opened(server, lambda: capture.Capture(["eth0"], 64)) as shown:
        frames.put(server, "eth0", *[KINDS["udp"]] * 200)
        packets_shown = take(shown)
        assert set(packets_shown) == {said(KINDS["udp"])}
        assert 60 <= len(packets_shown) <= 64  # a host that is new has something to say to its neighbours, too
        assert shown.lost + len(packets_shown) >= 200


def test_a_device_that_goes_while_it_is_looked_at(network: Network, server: Namespace) -> None:
    """What left until then is shown, and nothing fails."""
    server.ip("link add up1 type veth peer name far1", "link set up1 up", "link set far1 up")
    with frames.opened(server, lambda: capture.Capture(["eth0", "up1"], 100)) as shown:
        frames.put(server, "up1", KINDS["tcp"])
        server.ip("link del up1")
        frames.put(server, "eth0", KINDS["udp"])
        assert sorted(take(shown)) == [said(KINDS["udp"]), said(KINDS["tcp"], "up1")]
        assert take(shown) == []
