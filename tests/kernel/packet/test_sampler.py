"""Estimates on real devices: of every kind of packet, at every rate, whatever happens to the device meanwhile."""

from __future__ import annotations

import ipaddress
import math
import os
import pathlib
import socket
import time

import pytest

from bandwidth_agent.kernel import traffic
from bandwidth_agent.kernel.linux.packet import period, programs, ring, sampler
from bandwidth_lab import Network, TcpFlow, UdpFlow
from bandwidth_lab.namespaces import Lab, Namespace
from kernel.packet import frames
from unit.agent.kernel.linux.packet import packets

pytestmark = pytest.mark.root

V4, V6 = ipaddress.ip_address("203.0.113.10").packed, ipaddress.ip_address("2001:db8:0:2::10").packed
UDP4 = packets.v4("203.0.113.10", packets.UDP, packets.ports(443, payload=972))
UDP6 = packets.v6("2001:db8:0:2::10", packets.UDP, packets.ports(53, payload=952))
NOTHING = traffic.Estimate(0.0, 0, 0.0)


def close_to(stretch: traffic.Stretch, client: bytes, sent: float) -> bool:
    """Whether an estimate is within five times its own error."""
    found = stretch.clients.get(client, NOTHING)
    return abs(found.bytes - sent) <= 5 * math.sqrt(found.squares)


def settle(of: sampler.Sampler, seconds: float) -> None:
    """Drain as the agent does, for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
        of.drain()


def test_every_sample_knows_its_period(server: Namespace) -> None:
    """While programs are exchanged, what is in the ring tells under which one it was taken, and none is missed."""
    with frames.opened(server, lambda: ring.Ring(4096)) as seen:
        seen.follow("eth0", programs.sample(1, 0))
        for generation in range(8):
            seen.attach(programs.sample(1, generation % 4))
            frames.put(server, "eth0", *[UDP4, UDP6] * 10)
        found = seen.filled()
        ours = [copied for length, copied in zip(found.lengths, found.copied, strict=True) if length == len(UDP4)]
        assert len(UDP4) == len(UDP6)
        assert [copied % 4 for copied in ours] == [n % 4 for n in range(8) for _ in range(20)]
        assert {copied // 4 for copied in ours} == {programs.V4_BYTES // 4, programs.V6_BYTES // 4}


def test_a_ring_is_used_again_and_again(server: Namespace) -> None:
    """Frames that were given back are filled again, over its end, and none is shown twice or out of order."""
    with frames.opened(server, lambda: ring.Ring(64)) as seen:
        seen.follow("eth0", programs.every())
        shown: list[int] = []
        for round_ in range(40):
            sizes = range(100 + 10 * round_, 110 + 10 * round_)
            frames.put(server, "eth0", *(packets.v4("203.0.113.10", 253, bytes(size - 20)) for size in sizes))
            while found := seen.filled():
                shown += found.lengths
                seen.release(found)
        # A host that is new has something to say to its neighbours, in shorter packets.
        assert [length for length in shown if length >= 100] == [*range(100, 500)]
        assert seen.dropped() == 0


def test_a_burst_after_silence(server: Namespace) -> None:
    """With the period of an idle device the ring runs over; what was lost is counted, and the sum is right."""
    with frames.opened(server, lambda: sampler.Sampler(["eth0"])) as sampled:
        settle(sampled, 1.5)
        assert sampled.take()["eth0"].period == period.LEAST
        frames.put(server, "eth0", *[UDP4, UDP6] * 20_000)
        stretch = sampled.take()["eth0"]
        assert stretch.lost > 1_000
        for client, packet in ((V4, UDP4), (V6, UDP6)):
            assert stretch.clients[client].bytes == pytest.approx(20_000 * len(packet), rel=0.1)
        assert stretch.seen_bytes == pytest.approx(stretch.sent_bytes, rel=0.05)


def test_small_and_large_packets_weigh_what_they_are(network: Network, server: Namespace) -> None:
    """Ten thousand shortest packets beside a hundred of 42,000 bytes, within their error; the sum as the device's."""
    client = network.clients[0]
    short = packets.v6("2001:db8:0:2::10", packets.UDP, packets.ports(53, payload=0))
    with (
        frames.opened(server, lambda: sampler.Sampler(["eth0"])) as sampled,
        server.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        settle(sampled, 0.5)
        sampled.take()
        sender.setsockopt(socket.SOL_UDP, 103, 1_400)
        for _ in range(100):
            sender.sendto(bytes(42_000), (client.address4, 9))
            frames.put(server, "eth0", *[short] * 100)
        stretch = sampled.take()["eth0"]
        assert stretch.clients[V4] == traffic.Estimate(100 * 42_028.0, 100, 0.0)
        assert close_to(stretch, V6, 10_000 * len(short))
        assert stretch.seen_bytes == pytest.approx(stretch.sent_bytes, rel=0.1)


def test_options_fragments_and_extension_headers(server: Namespace) -> None:
    """They are counted for their client; the port behind them too, and none where the packet has none."""
    behind = packets.ports(443, payload=900)
    kinds = [
        packets.v4("203.0.113.10", packets.UDP, behind, options=10),
        packets.v4("203.0.113.10", packets.UDP, behind, fragment=0x2001),
        packets.v6("2001:db8:0:2::10", packets.TCP, behind, [packets.extension(packets.ROUTING, 4)]),
        packets.v6("2001:db8:0:2::10", packets.UDP, behind, [packets.fragment(3)]),
    ]
    with frames.opened(server, lambda: sampler.Sampler(["eth0"])) as sampled:
        settle(sampled, 0.5)
        sampled.take()
        frames.put(server, "eth0", *kinds * 500)
        stretch = sampled.take()["eth0"]
        assert close_to(stretch, V4, 500 * (len(kinds[0]) + len(kinds[1])))
        assert close_to(stretch, V6, 500 * (len(kinds[2]) + len(kinds[3])))
        assert stretch.ports[V4].keys() == {(traffic.UDP, 443)}
        assert stretch.ports[V6].keys() == {(traffic.TCP, 443)}
        assert stretch.ports[V4][traffic.UDP, 443] < 0.7 * stretch.clients[V4].bytes


def test_the_period_follows_the_traffic(network: Network, server: Namespace) -> None:
    """Up at once, down within seconds, to a number of samples a second between the bounds."""
    with frames.opened(server, lambda: sampler.Sampler(["eth0"])) as sampled:
        flow = UdpFlow(network.server, network.clients[0], rate_bits_per_second=400e6, payload_bytes=1_400)
        with flow:
            settle(sampled, 1.0)
            sampled.take()
            settle(sampled, 1.0)
            stretch = sampled.take()["eth0"]
            per_second = sum(each.samples for each in stretch.clients.values()) / (stretch.ended - stretch.began)
            assert per_second <= period.HIGH * 1.2
            assert per_second >= period.LOW * 0.8 or stretch.period == period.LEAST
        settle(sampled, 3.0)
        assert sampled.take()["eth0"].period == period.LEAST


def test_real_tcp_is_counted_to_the_byte_within_its_error(network: Network, server: Namespace) -> None:
    """Two flows of both families, against what the device counts and what arrived."""
    client = network.clients[0]
    with (
        frames.opened(server, lambda: sampler.Sampler(["eth0"])) as sampled,
        TcpFlow(network.server, client, rate_bits_per_second=100e6) as four,
        TcpFlow(network.server, client, family=6, rate_bits_per_second=50e6) as six,
    ):
        settle(sampled, 0.5)
        sampled.take()
        before = [four.received_bytes, six.received_bytes]
        settle(sampled, 3.0)
        stretch = sampled.take()["eth0"]
        for flow, began, address in zip((four, six), before, (V4, V6), strict=True):
            assert stretch.clients[address].bytes == pytest.approx(flow.received_bytes - began, rel=0.1)
        assert stretch.seen_bytes == pytest.approx(stretch.sent_bytes, rel=0.03)


def test_a_device_that_is_down_for_a_while(server: Namespace) -> None:
    """It is the same device: its stretches go on, and hold what was sent before and after."""
    with frames.opened(server, lambda: sampler.Sampler(["eth0"])) as sampled:
        server.ip("link set eth0 down")
        assert sampled.take().keys() == {"eth0"}
        server.ip("link set eth0 up")
        frames.put(server, "eth0", *[UDP4] * 2_000)
        assert close_to(sampled.take()["eth0"], V4, 2_000 * len(UDP4))


def test_a_device_with_another_name(server: Namespace) -> None:
    """It is left out under the old name; another device that takes the name is looked at instead of it."""
    server.ip("link add up1 type veth peer name far1", "link set up1 up", "link set far1 up")
    with frames.opened(server, lambda: sampler.Sampler(["eth0"])) as sampled:
        server.ip("link set eth0 down", "link set eth0 name wan0", "link set wan0 up")
        assert sampled.take() == {}
        assert len(frames.windows(server)) == 1
        frames.put(server, "wan0", *[UDP4] * 2_000)
        assert sampled.take() == {}
        server.ip("link set up1 down", "link set up1 name eth0", "link set eth0 up")
        sampled.take()
        frames.put(server, "eth0", *[UDP6] * 2_000)
        frames.put(server, "wan0", *[UDP4] * 2_000)
        stretch = sampled.take()["eth0"]
        assert (V4 in stretch.clients, close_to(stretch, V6, 2_000 * len(UDP6))) == (False, True)


def test_a_device_in_another_namespace(server: Namespace) -> None:
    """It is left out while it is away, and nothing that it sends there is seen."""
    with Lab("kw-") as lab, frames.opened(server, lambda: sampler.Sampler(["eth0"])) as sampled:
        away = lab.namespace("away")
        server.ip(f"link set eth0 netns {away.name}")
        away.ip("link set eth0 up")
        frames.put(away, "eth0", *[UDP4] * 2_000)
        assert sampled.take() == {}
        away.ip(f"link set eth0 netns {server.name}")
        server.ip("link set eth0 up")
        sampled.take()
        frames.put(server, "eth0", *[UDP6] * 2_000)
        stretch = sampled.take()["eth0"]
        assert (V4 in stretch.clients, close_to(stretch, V6, 2_000 * len(UDP6))) == (False, True)


def test_many_interfaces(server: Namespace) -> None:
    """Forty at once, each with its own packets; their rings share a bounded memory."""
    names = [f"up{n}" for n in range(40)]
    for name in names:
        server.ip(f"link add {name} type veth peer name far-{name}", f"link set {name} up", f"link set far-{name} up")
    before = len(os.listdir("/proc/self/fd"))
    with frames.opened(server, lambda: sampler.Sampler(names)) as sampled:
        mapped = pathlib.Path("/proc/self/maps").read_text().splitlines()
        rings = [line.split()[0].split("-") for line in mapped if "socket:" in line]
        assert sum(int(end, 16) - int(start, 16) for start, end in rings) <= 9 << 20
        for n, name in enumerate(names):
            frames.put(server, name, *[packets.v4(f"203.0.113.{n}", 253, bytes(1_400))] * 1_000)
        sampled.drain()
        found = sampled.take()
        # What the kernel itself sends to IPv6's groups when a device is new may be among them.
        assert {name: {c for c in stretch.clients if len(c) == 4} for name, stretch in found.items()} == {
            name: {ipaddress.ip_address(f"203.0.113.{n}").packed} for n, name in enumerate(names)
        }
    assert len(os.listdir("/proc/self/fd")) == before
