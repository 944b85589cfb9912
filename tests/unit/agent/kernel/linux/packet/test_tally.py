"""What samples stand for, against a function that takes them one by one."""

from __future__ import annotations

import collections
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import traffic
from bandwidth_agent.kernel.linux.packet import headers, programs, ring, tally
from unit.agent.kernel.linux.packet import packets
from unit.agent.kernel.linux.packet.packets import HOP_BY_HOP, OPTIONS, ROUTING, TCP, UDP

PERIODS = (64, 1 << 12, 1 << 16, 1 << 24)  # by generation
IN_FORCE = 1
Sample = tuple[bytes, int]  # the packet, and how much of it was copied

V4 = st.sampled_from(["192.0.2.1", "192.0.2.2", "203.0.113.10"])
V6 = st.sampled_from(["2001:db8::1", "2001:db8::2", "2001:db8:7::a"])
BEHIND = st.builds(packets.ports, st.sampled_from([53, 443, 993]), payload=st.integers(0, 1_400))
EXTENSIONS = st.lists(
    st.one_of(
        st.builds(packets.extension, st.sampled_from([HOP_BY_HOP, ROUTING, OPTIONS]), st.integers(0, 3)),
        st.builds(packets.authentication, st.integers(0, 4)),
        st.builds(packets.fragment, st.integers(0, 3)),
    ),
    max_size=3,
)
PACKETS = st.one_of(
    st.builds(packets.v4, V4, st.sampled_from([TCP, UDP]), BEHIND),
    st.builds(
        packets.v4,
        V4,
        st.sampled_from([TCP, UDP, 1, 50, 4]),
        BEHIND | st.binary(max_size=6),
        options=st.integers(0, 10),
        fragment=st.sampled_from([0, 0x2000, 0x4000, 0x2001, 0x1FFF, 0x00B9]),
    ),
    st.builds(packets.v6, V6, st.sampled_from([TCP, UDP]), BEHIND),
    st.builds(packets.v6, V6, st.sampled_from([TCP, UDP, 58, 59, 41]), BEHIND | st.binary(max_size=6), EXTENSIONS),
)


def copied(packet: bytes, generation: int) -> Sample:
    """The packet as the program has it copied under one of the periods."""
    if packet[0] >> 4 == 4:
        wanted = 4 * (packet[0] & 15) + programs.V4_BYTES - 20
    else:
        wanted = programs.V6_BYTES if packet[6] in (6, 17, 58) else programs.HEADERS_BYTES
    return packet, min(len(packet), wanted + generation)


SAMPLES = st.lists(st.builds(copied, PACKETS, st.integers(0, 3)), max_size=40)


def memory(samples: list[Sample]) -> memoryview:
    """As they lie in a ring; behind what was copied is what was there before."""
    frames = bytearray(b"\xa5" * (ring.FRAME_BYTES * len(samples)))
    for n, (packet, held) in enumerate(samples):
        start = n * ring.FRAME_BYTES
        struct.pack_into("=III", frames, start, 1, len(packet), held)
        at = start + ring.NETWORK_OFFSET
        frames[at : at + held] = packet[:held]
    return memoryview(bytes(frames))


def add(to: tally.Tally, samples: list[Sample]) -> None:
    to.add(memory(samples), [len(packet) for packet, _ in samples], [held for _, held in samples])


def one_by_one(samples: list[Sample], share: float = 1.0) -> tuple[dict[bytes, list[float]], dict[bytes, dict], float]:
    """The same by hand: clients, ports, and how many packets these bytes were in."""
    clients: dict[bytes, list[float]] = collections.defaultdict(lambda: [0.0, 0, 0.0])
    ports: dict[bytes, dict[tuple[int, int], float]] = collections.defaultdict(lambda: collections.defaultdict(float))
    in_packets = 0.0
    for packet, held in samples:
        period = PERIODS[held & 3] if held < len(packet) else PERIODS[IN_FORCE]
        weight = max(len(packet), period) * share
        in_packets += weight / len(packet)
        said = headers.read(packet[:held])
        if said is None:
            continue
        sums = clients[said.destination]
        sums[0] += weight
        sums[1] += 1
        sums[2] += weight * (weight - len(packet))
        if said.source_port >= 0:
            ports[said.destination][said.protocol, said.source_port] += weight
    return dict(clients), dict(ports), in_packets


def check(found: tally.Tally, *expected: tuple[dict[bytes, list[float]], dict[bytes, dict], float]) -> None:
    clients: dict[bytes, list[float]] = {}
    ports: dict[bytes, dict[tuple[int, int], float]] = {}
    for of_clients, of_ports, _ in expected:
        for client, sums in of_clients.items():
            clients[client] = [a + b for a, b in zip(clients.get(client, [0.0, 0, 0.0]), sums, strict=True)]
        for client, each in of_ports.items():
            for number, amount in each.items():
                at = ports.setdefault(client, {})
                at[number] = at.get(number, 0.0) + amount
    assert {client: pytest.approx(list(sums)) for client, sums in found.clients.items()} == clients
    assert {client: pytest.approx(dict(each)) for client, each in found.ports.items()} == ports
    assert found.headers == pytest.approx(sum(of_packets for *_, of_packets in expected))


@given(SAMPLES)
def test_alike_samples_are_counted_together_and_none_is_missed(samples: list[Sample]) -> None:
    """Of every kind of packet, whatever was copied of it and lies behind it."""
    found = tally.Tally()
    add(found, samples)
    found.weigh(PERIODS, IN_FORCE)
    check(found, one_by_one(samples))


@given(SAMPLES, SAMPLES, st.floats(1.0, 5.0))
def test_some_stand_for_those_that_were_dropped(alone: list[Sample], more: list[Sample], share: float) -> None:
    """Only these: what was weighed before is left as it is, and ports add up over both."""
    found = tally.Tally()
    add(found, alone)
    found.weigh(PERIODS, IN_FORCE)
    add(found, more)
    found.weigh(PERIODS, IN_FORCE, share)
    check(found, one_by_one(alone), one_by_one(more, share))


def test_a_client_of_one_port_costs_no_table_of_its_own() -> None:
    """There may be ten thousand of them in a second; of one with several ports each is told apart."""
    one = packets.v4("192.0.2.1", TCP, packets.ports(993))
    other = packets.v4("192.0.2.2", TCP, packets.ports(443))
    found = tally.Tally()
    add(found, [copied(one, 0)] * 3 + [copied(other, 0), copied(packets.v4("192.0.2.2", UDP, packets.ports(53)), 0)])
    found.weigh(PERIODS, IN_FORCE)
    first, second = (ipaddress.ip_address(f"192.0.2.{n}").packed for n in (1, 2))
    assert not isinstance(found.ports.found[first], dict)
    assert found.ports[first] == {(TCP, 993): 3.0 * max(64, len(one))}
    assert found.ports[second].keys() == {(TCP, 443), (UDP, 53)}
    assert found.clients[first] == traffic.Estimate(3.0 * len(one), 3, 0.0)
