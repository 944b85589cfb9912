"""The contract of what shows the packets that leave: samplers and captures, in memory and real."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import pytest

from bandwidth_agent.kernel import contract, traffic
from bandwidth_agent.settings import ClassifierSetting
from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from contract import hosts, scenes
from contract.hosts import FOR_YOU, PACKET_BYTES, UPLINK
from contract.scenes import EVERYTHING, WAYS, Way

V4, V6 = addresses.parse("192.0.2.77"), addresses.parse("2001:db8:1::9")
STRANGER = addresses.parse("192.0.2.9")
CLIENTS = [*(addresses.parse(text) for text in ("198.51.100.7", "203.0.113.9", "2001:db8:1::5")), V4, V6]


def address(client: Prefix) -> bytes:
    return client.network.to_bytes(4 if client.family == 4 else 16, "big")


def to_clients(packets: Sequence[traffic.Packet], *clients: Prefix) -> list[traffic.Packet]:
    """Those to our clients: a real host also looks for its neighbours."""
    wanted = {(client.family, client.network) for client in clients}
    return [packet for packet in packets if (packet.family, packet.destination) in wanted]


def until(done: Callable[[], bool]) -> None:
    """Wait until what was sent has left, which behind a queue takes a moment."""
    deadline = time.monotonic() + 20
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)


class Look:
    """What a capture has shown so far."""

    def __init__(self, capture: contract.Capture) -> None:
        self._capture = capture
        self.packets: list[traffic.Packet] = []

    def take(self, *clients: Prefix) -> list[traffic.Packet]:
        self.packets += to_clients(self._capture.take(), *clients)
        return self.packets


def test_a_capture_shows_what_leaves(host: hosts.Host) -> None:
    """Destination, protocol, source port and length of each packet, of both families, in the order they left."""
    capture = host.capture([UPLINK], 100)
    for client in (V4, V6):
        for port in (443, 993):
            host.hand_over(UPLINK, client, port)
    assert to_clients(capture.take(), V4, V6) == [
        traffic.Packet(UPLINK, client.family, client.network, traffic.UDP, port, PACKET_BYTES, 9)
        for client in (V4, V6)
        for port in (443, 993)
    ]
    assert capture.lost == 0
    assert to_clients(capture.take(), V4, V6) == []
    capture.close()


@pytest.mark.parametrize("way", [None, *WAYS], ids=str)
def test_each_packet_is_seen_once_whatever_shapes_it(host: hosts.Host, way: Way | None) -> None:
    """With a class on an ifb, at the root, or without a limit: once, at its own length."""
    if way is not None:
        scenes.apply(host, way.state(host, EVERYTHING))
    look = Look(host.capture([UPLINK], 1_000))
    for client in CLIENTS:
        host.send(client)
    until(lambda: len(look.take(*CLIENTS)) >= len(CLIENTS))
    assert sorted((p.family, p.destination) for p in look.packets) == sorted((c.family, c.network) for c in CLIENTS)
    assert {p.length for p in look.packets} == {28 + len(FOR_YOU), 48 + len(FOR_YOU)}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_leaves_past_the_rules_is_seen_and_in_no_class(host: hosts.Host, way: Way) -> None:
    """Packets that another program hands over, past netfilter: only where programs classify a class counts them."""
    scenes.apply(host, way.state(host, EVERYTHING))
    look = Look(host.capture([UPLINK], 1_000))
    before = host.counters().classes
    for client in CLIENTS:
        host.hand_over(UPLINK, client, 443, 5)
    until(lambda: len(look.take(*CLIENTS)) >= 5 * len(CLIENTS))
    assert len(look.packets) == 5 * len(CLIENTS)
    assert (host.counters().classes == before) == (way.classifier is not ClassifierSetting.EBPF)


def test_a_capture_is_bounded(host: hosts.Host) -> None:
    """What is more than was asked for is lost, and counted."""
    capture = host.capture([UPLINK], 10)
    host.hand_over(UPLINK, V4, 443, 500)
    assert len(capture.take()) == 10
    assert capture.lost >= 490
    host.hand_over(UPLINK, V4, 443, 5)
    assert capture.take() == []
    assert capture.lost >= 495


def estimated(stretch: traffic.Stretch, client: Prefix) -> traffic.Estimate:
    return stretch.clients.get(address(client), traffic.Estimate(0.0, 0, 0.0))


def test_estimates_come_to_what_was_sent(host: hosts.Host) -> None:
    """Within five times the error that they state, by client, by port, and with the link headers in all."""
    sampler = host.sampler([UPLINK])
    for client, port, count in ((V4, 443, 3_000), (V4, 993, 1_000), (V6, 443, 2_000)):
        host.hand_over(UPLINK, client, port, count)
    stretch = sampler.take()[UPLINK]
    for client, count in ((V4, 4_000), (V6, 2_000)):
        found = estimated(stretch, client)
        assert abs(found.bytes - count * PACKET_BYTES) <= 5 * math.sqrt(found.squares)
        assert found.samples > 0
        assert sum(stretch.ports[address(client)].values()) == pytest.approx(found.bytes)
    assert stretch.ports[address(V4)].keys() == {(traffic.UDP, 443), (traffic.UDP, 993)}
    assert stretch.sent_bytes >= 6_000 * (PACKET_BYTES + 14)
    error = 5 * math.sqrt(sum(each.squares for each in stretch.clients.values())) + 0.001 * stretch.sent_bytes
    assert abs(stretch.seen_bytes - stretch.sent_bytes) <= error * 1.02
    assert (stretch.lost, stretch.began < stretch.ended or host.__class__ is hosts.FakeHost) == (0, True)
    sampler.close()


def test_stretches_follow_each_other(host: hosts.Host) -> None:
    """Each begins where the one before ended, and holds only what was sent since."""
    sampler = host.sampler([UPLINK])
    host.hand_over(UPLINK, V4, 443, 2_000)
    sampler.drain()
    first = sampler.take()[UPLINK]
    host.hand_over(UPLINK, V6, 443, 2_000)
    second = sampler.take()[UPLINK]
    assert first.ended == second.began
    assert (address(V4) in first.clients, address(V6) in first.clients) == (True, False)
    assert (address(V4) in second.clients, address(V6) in second.clients) == (False, True)
    assert min(first.sent_bytes, second.sent_bytes) >= 2_000 * PACKET_BYTES


def test_in_a_pause_nothing_is_seen(host: hosts.Host) -> None:
    """What was seen before comes at its beginning; the next `take` brings nothing and looks again."""
    sampler = host.sampler([UPLINK])
    host.hand_over(UPLINK, V4, 443, 2_000)
    before = sampler.pause()[UPLINK]
    assert address(V4) in before.clients
    assert before.packets == pytest.approx(2_000, rel=0.5)
    host.hand_over(UPLINK, V6, 443, 2_000)
    assert sampler.take() == {}
    host.hand_over(UPLINK, V4, 993, 2_000)
    after = sampler.take()[UPLINK]
    assert (address(V4) in after.clients, address(V6) in after.clients) == (True, False)
    assert after.began >= before.ended
    assert 2_000 * PACKET_BYTES <= after.sent_bytes < 4_000 * PACKET_BYTES


def test_an_interface_that_goes_and_comes_back(host: hosts.Host) -> None:
    """It is left out while it is away, and followed again under its name; one that comes later is followed too."""
    host.add_link("up1")
    sampler = host.sampler([UPLINK, "up1", "up2"])
    assert sampler.take().keys() == {UPLINK, "up1"}
    host.remove_link("up1")
    host.add_link("up2")
    assert sampler.take().keys() == {UPLINK}
    assert sampler.take().keys() == {UPLINK, "up2"}
    host.add_link("up1")
    sampler.take()
    host.hand_over("up1", V4, 443, 2_000)
    host.hand_over("up2", V6, 443, 2_000)
    seen = sampler.take()
    assert seen.keys() == {UPLINK, "up1", "up2"}
    assert (address(V4) in seen["up1"].clients, address(V6) in seen["up2"].clients) == (True, True)
    assert address(V4) not in seen[UPLINK].clients
    host.remove_link("up1")
    host.add_link("up1")  # between two readings: another device of the same name
    assert "up1" not in sampler.take()
    assert "up1" in sampler.take()


def test_a_packet_is_in_one_stretch(host: hosts.Host) -> None:
    """Of a bridge and its member only the bridge is looked at, and the member where the bridge is not asked for."""
    host.add_link("up1")
    host.bridge("br0", "up1")
    assert host.sampler(["up1", "br0", UPLINK]).take().keys() == {"br0", UPLINK}
    assert host.sampler(["up1", UPLINK]).take().keys() == {"up1", UPLINK}
    capture = host.capture(["up1", "br0"], 100)
    host.hand_over("br0", V4, 443)
    (packet,) = to_clients(capture.take(), V4)
    assert packet.interface == "br0"


def test_nothing_is_left_when_nobody_looks(host: hosts.Host) -> None:
    """A window for each interface while it is open, none before and after, and closing twice is no error."""
    host.add_link("up1")
    assert host.open_windows() == 0
    sampler = host.sampler([UPLINK, "up1", "gone0"])
    capture = host.capture([UPLINK], 10)
    assert host.open_windows() == 3
    for _ in range(2):
        sampler.close()
        capture.close()
    assert host.open_windows() == 0
    assert sampler.take() == {}
    assert list(capture.take()) == []
    sampler.drain()


def test_nothing_to_look_at(host: hosts.Host) -> None:
    """No interface at all, or none that is there, is no error."""
    for interfaces in ([], ["gone0"], ["a-name-that-no-device-can-have"], [""]):
        sampler, capture = host.sampler(interfaces), host.capture(interfaces, 10)
        assert (sampler.take(), list(capture.take()), capture.lost) == ({}, [], 0)
        sampler.close()
        capture.close()
