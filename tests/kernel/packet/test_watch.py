"""What policies are told of real traffic: a greedy client, a download, a scan, and the class of a limited client."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import socket
import time
from collections.abc import Collection, Iterator

import pytest

from bandwidth_agent.kernel import contract
from bandwidth_agent.kernel.linux.packet import sampler
from bandwidth_agent.policies.sampled import Sampled
from bandwidth_agent.sight import sight
from bandwidth_agent.sight.watch import sums
from bandwidth_agent.sight.watch.classes import Classes
from bandwidth_agent.sight.watch.groups import Groups
from bandwidth_agent.sight.watch.look import Look
from bandwidth_agent.sight.watch.sums import Taken
from bandwidth_api import addresses
from bandwidth_api.policy import books, reports, rounds, surroundings
from bandwidth_api.policy.books import Book
from bandwidth_api.policy.decision import Decision, What
from bandwidth_api.policy.reports import Now
from bandwidth_lab import Network, UdpFlow, star
from bandwidth_lab.namespaces import Namespace
from bandwidth_lab.node import Node
from unit.api.policy import scenes

pytestmark = pytest.mark.root

MBIT = 1e6
GROUPS = Groups(32, 64)


def opened(at: Namespace) -> sight.Sight:
    """The sight of an agent that shapes eth0 there."""

    def sampled(names: Collection[str]) -> contract.Sampler:
        return at.call(lambda: sampler.Sampler(names))

    return sight.Sight(sampled, lambda: ("eth0",))


@contextlib.contextmanager
def looking(at: Namespace) -> Iterator[Look]:
    look = Look(opened(at).lease, time.monotonic)
    look.hold(GROUPS, ports=False)
    try:
        yield look
    finally:
        look.close()


def taken(look: Look, seconds: float) -> Taken:
    """What comes in at least so many seconds, in whole stretches."""
    found = Taken()
    deadline = time.monotonic() + 60.0
    while found.seconds < seconds:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        found = found.plus(look.take())
    return found


def sockets(at: Namespace) -> int:
    """The packet sockets there."""
    return len(at.run(["cat", "/proc/net/packet"]).stdout.splitlines()) - 1


def test_a_greedy_client_is_found_with_its_rate(network: Network, server: Namespace) -> None:
    """Within a few per cent of what the device has sent; afterwards no socket is left."""
    client = network.clients[0]
    assert sockets(server) == 0
    with looking(server) as look, UdpFlow(network.server, client, rate_bits_per_second=30 * MBIT):
        taken(look, 1.0)  # until the flow runs and the period fits
        found = taken(look, 3.0)
        assert sockets(server) > 0
    ((greedy, of),) = found.candidates(10 * MBIT, (), 10)
    assert greedy == addresses.parse(client.address4)
    link = 14 / (1400 + 28 + 14)
    assert of.bytes == pytest.approx(found.sent_bytes * (1 - link), rel=0.05)
    assert of.error < 0.05
    assert sockets(server) == 0


def test_a_scan_makes_no_candidate(network: Network, server: Namespace) -> None:
    """20,000 addresses within seconds: what is kept is bounded, and nobody of them is named, however low the floor."""
    client = network.clients[0]
    server.run(["ip", "route", "add", "10.128.0.0/9", "via", client.address4, "dev", "eth0", "onlink"])
    sender = server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with looking(server) as look, contextlib.closing(sender):
        for n in range(20_000):
            sender.sendto(b"0123456789abcdef", (f"10.{128 + n // 65536}.{n // 256 % 256}.{n % 256}", 9))
        found = taken(look, 2.0)
    assert found.sent_bytes > 0
    assert len(found.clients) <= sums.CLIENTS_MAX
    named = [client for client, _ in found.candidates(1.0, (), 10)]
    assert not [each for each in named if addresses.covers(addresses.parse("10.128.0.0/9"), each)]


def test_a_short_download_is_not_the_mean_of_a_window(network: Network, server: Namespace) -> None:
    """A window of 10 s in place of 300: 1.5 s at four times the threshold is nothing; who goes on is too much."""
    client = network.clients[0]
    policy = scenes.policy(
        when__rate={"above": "8Mbit", "forSeconds": 10}, then__steps=[{"rate": "4Mbit", "ttlSeconds": 600}]
    )
    told = Sampled("edge", opened(server).lease)
    asked = reports.sampling([policy])
    assert asked is not None
    book, decisions = Book(), list[Decision]()

    def follow(seconds: float) -> None:
        """Decide each second, as an agent does."""
        nonlocal book
        until = time.monotonic() + seconds
        while time.monotonic() < until and not decisions:
            told.want(True)
            now = Now(time.monotonic(), time.time())
            around = dataclasses.replace(surroundings.NOTHING, nodes={"edge": {}})
            book, made = rounds.decide(book, [policy], told.take(asked, books.limited(book)), around, now)
            decisions.extend(made)
            time.sleep(0.2)

    try:
        with UdpFlow(network.server, client, rate_bits_per_second=32 * MBIT):
            follow(1.5)
        follow(3.0)
        assert decisions == []
        with UdpFlow(network.server, client, rate_bits_per_second=32 * MBIT):
            follow(30.0)
    finally:
        told.close()
    (limited,) = decisions
    assert (limited.what, limited.client) == (What.LIMITED, addresses.parse(client.address4))
    assert sockets(server) == 0


def test_the_class_of_a_limited_client_says_whether_it_presses(tmp_path: pathlib.Path) -> None:
    """Packets held back where it asks for more than it may have, none where it asks for less; and its bytes."""
    with star(clients=2, prefix="kw-") as network:
        pressing, modest = network.clients
        node = Node(network.server.namespace, tmp_path)
        node.limit("slow", [pressing.address4], "4Mbit")
        node.limit("wide", [modest.address4], "40Mbit")
        node.start()
        node.until_rate(pressing.address4, 4_000_000)
        node.until_rate(modest.address4, 40_000_000)
        state = node.kernel()
        found = Classes(lambda: state, node.counters)
        named = frozenset({addresses.parse(pressing.address4), addresses.parse(modest.address4)})
        with (
            UdpFlow(network.server, pressing, rate_bits_per_second=12 * MBIT),
            UdpFlow(network.server, modest, rate_bits_per_second=4 * MBIT),
        ):
            time.sleep(0.5)
            found.read(named)
            time.sleep(2.0)
            moved = found.read(named)
        assert node.stop() == 0
    held = moved[addresses.parse(pressing.address4)]
    free = moved[addresses.parse(modest.address4)]
    assert held.over_limits > 0
    assert held.bytes > 0
    assert free.bytes > 0
    assert free.over_limits < held.over_limits / 10
