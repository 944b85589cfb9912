"""Sums of samples by client: what policies are told of, whatever passes by."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bandwidth_agent.kernel import traffic
from bandwidth_agent.sight.watch import sums
from bandwidth_agent.sight.watch.groups import Groups
from bandwidth_agent.sight.watch.sums import Sum, Sums
from bandwidth_api import addresses

GREEDY = addresses.parse("198.51.100.7")


def key(text: str) -> bytes:
    prefix = addresses.parse(text)
    return prefix.network.to_bytes(4 if prefix.family == 4 else 16)


def stretch(
    began: float,
    clients: Mapping[bytes, float],
    period: int = 1,
    ports: Mapping[bytes, Mapping[tuple[int, int], float]] = {},
) -> Mapping[str, traffic.Stretch]:
    """A second of samples, each of which stands for `period` bytes."""
    found = {k: traffic.Estimate(b, max(1, round(b / period)), b * (period - 1)) for k, b in clients.items()}
    return {"eth0": traffic.Stretch(began, began + 1.0, found, ports, round(sum(clients.values())), 0, period)}


def named(taken: sums.Taken) -> dict[str, float]:
    return {addresses.write(client): of.bytes for client, of in taken.clients.items()}


def test_an_address_counts_as_its_group_or_as_the_limited_network_around() -> None:
    """The widest of the limited counts; those as long as a group are the group."""
    limited = [addresses.parse(each) for each in ("198.51.100.0/24", "2001:db8::/56", "2001:db8:9::/64")]
    groups = Groups(32, 64, limited)
    for text, client in (
        ("198.51.100.7", "198.51.100.0/24"),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:0:12::1", "2001:db8::/56"),
        ("2001:db8:9::1", "2001:db8:9::/64"),
        ("2001:db8:a::1", "2001:db8:a::/64"),
    ):
        assert groups.of(key(text)) == addresses.parse(client)
        assert groups.of(key(text)) == addresses.parse(client)


def test_bytes_and_seconds_since_the_last_time() -> None:
    """A group is one client; what was taken does not come again."""
    found = Sums(Groups(32, 64))
    for second in range(3):
        found.add(stretch(second, {key("198.51.100.7"): 10.0, key("2001:db8::1"): 1.0, key("2001:db8::2"): 2.0}))
    taken = found.take()
    assert (taken.seconds, taken.sent_bytes) == (3.0, 39.0)
    assert named(taken) == {"198.51.100.7": 30.0, "2001:db8::/64": 9.0}
    assert found.take() == sums.Taken()
    both = taken.plus(taken)
    assert (both.seconds, named(both)) == (6.0, {"198.51.100.7": 60.0, "2001:db8::/64": 18.0})


def test_a_scan_leaves_the_greedy_and_the_limited() -> None:
    """60 s with 3,000 fresh addresses each: bounded, none of them is known well enough, others lose nothing."""
    limited = addresses.parse("203.0.113.1")
    found = Sums(Groups(32, 64, [limited]))
    for second in range(60):
        scan = {(0x0A000000 + 3000 * second + n).to_bytes(4): 40_000.0 for n in range(3000)}
        found.add(stretch(second, {**scan, key("198.51.100.7"): 1e6, key("203.0.113.1"): 64.0}, period=40_000))
        assert len(found) <= sums.CLIENTS_MAX
    taken = found.take()
    assert taken.clients[GREEDY].bytes == 60e6
    assert taken.clients[limited].bytes == 60 * 64.0
    assert [client for client, _ in taken.candidates(1.0, (), 10)] == [GREEDY]


def test_candidates_are_the_largest_from_the_floor_on() -> None:
    """By the mean of the whole time, without those who are named anyway."""
    found = Sums(Groups(32, 64))
    for second in range(4):
        many = {(0x0A000000 + n).to_bytes(4): 1000.0 + n for n in range(20)}
        burst = {key("203.0.113.9"): 8_000.0} if second == 0 else {}
        found.add(stretch(second, {**many, **burst, key("198.51.100.7"): 5_000.0}))
    taken = found.take()
    largest = [addresses.write(client) for client, _ in taken.candidates(8_000.0, [GREEDY], 3)]
    assert largest == ["203.0.113.9", "10.0.0.19", "10.0.0.18"]
    assert [addresses.write(client) for client, _ in taken.candidates(24_000.0, (), 3)] == ["198.51.100.7"]


def test_who_may_be_limited_goes_before_who_may_not() -> None:
    """Where there are more than are named, and nobody is left out where there are not."""
    found = Sums(Groups(32, 64))
    found.add(stretch(0, {(0x0A000000 + n).to_bytes(4): 9_000.0 - n for n in range(20)}))
    taken = found.take()

    def named(most: int) -> list[str]:
        last = addresses.parse("10.0.0.18"), addresses.parse("10.0.0.3")
        return [addresses.write(c) for c, _ in taken.candidates(1.0, (), most, lambda client: client in last)]

    assert named(3) == ["10.0.0.0", "10.0.0.3", "10.0.0.18"]
    assert named(1) == ["10.0.0.3"]
    assert len(named(20)) == 20


def test_few_samples_make_no_candidate() -> None:
    """Nobody is slowed down by chance: 16 samples are a standard error of a quarter."""
    found = Sums(Groups(32, 64))
    found.add(stretch(0, {key("203.0.113.1"): 15 * 1e6, key("203.0.113.2"): 17 * 1e6}, period=1_000_000))
    taken = found.take()
    assert [addresses.write(client) for client, _ in taken.candidates(1.0, (), 10)] == ["203.0.113.2"]
    assert taken.clients[addresses.parse("203.0.113.2")].error == pytest.approx(17**-0.5, rel=0.01)


def test_ports_are_parts_of_what_a_client_got() -> None:
    """TCP and UDP; of what has no port nothing is said, and only where they are asked for."""
    of = {key("198.51.100.7"): {(traffic.TCP, 443): 60.0, (traffic.UDP, 53): 20.0, (1, 0): 10.0}}
    found, without = Sums(Groups(32, 64), ports=True), Sums(Groups(32, 64))
    for second in range(2):
        for each in (found, without):
            each.add(stretch(second, {key("198.51.100.7"): 100.0}, ports=of))
    assert sums.shares(found.take().clients[GREEDY]) == [("TCP", 443, 0.6), ("UDP", 53, 0.2)]
    assert sums.shares(without.take().clients[GREEDY]) == []
    assert sums.shares(Sum(0.0, 0.0, {})) == []


def test_ports_of_a_client_are_bounded() -> None:
    """Whoever takes each port once is told by the largest."""
    found = Sums(Groups(32, 64), ports=True)
    for second in range(200):
        ports = {key("198.51.100.7"): {(traffic.TCP, 443): 50.0, (traffic.TCP, 1000 + second): 5.0}}
        found.add(stretch(second, {key("198.51.100.7"): 55.0}, ports=ports))
    of = found.take().clients[GREEDY]
    assert len(of.ports) <= 2 * sums.PORTS_MAX
    assert sums.shares(of)[0] == ("TCP", 443, pytest.approx(50 / 55))


def test_other_limited_clients_lose_nothing_of_what_was_summed() -> None:
    """A limit that begins somewhere must not make others begin anew."""
    found = Sums(Groups(32, 64))
    found.add(stretch(0, {key("198.51.100.7"): 10.0, key("203.0.113.5"): 4.0}))
    found.groups = Groups(32, 64, [addresses.parse("203.0.113.0/24")])
    found.add(stretch(1, {key("198.51.100.7"): 10.0, key("203.0.113.5"): 4.0}))
    assert named(found.take()) == {"198.51.100.7": 20.0, "203.0.113.5": 4.0, "203.0.113.0/24": 4.0}


def test_nothing_sampled_is_no_time() -> None:
    """Where no interface is there is nothing known of the second."""
    found = Sums(Groups(32, 64))
    found.add({})
    assert found.take() == sums.Taken()


def test_what_passes_in_a_short_pause_is_taken_to_be_alike() -> None:
    """Of 0.4 s in each second the bytes of the whole; of a longer time without a look nothing is known."""
    found = Sums(Groups(32, 64))
    client = {key("198.51.100.7"): traffic.Estimate(40.0, 4, 100.0)}
    for second in range(4):
        found.add({"eth0": traffic.Stretch(second + 0.6, second + 1.0, client, {}, 50, 0, 1)})
    taken = found.take()
    assert taken.seconds == pytest.approx(3.4)
    assert taken.clients[GREEDY].bytes == pytest.approx(40.0 * (1 + 3 * 2.5))
    assert taken.sent_bytes == pytest.approx(50.0 * (1 + 3 * 2.5))
    found.add({"eth0": traffic.Stretch(60.0, 60.4, client, {}, 50, 0, 1)})
    assert found.take().clients[GREEDY].bytes == 40.0
