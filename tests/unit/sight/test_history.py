"""A history is the sums of what was sampled, over the last seconds, and bounded whatever comes."""

from __future__ import annotations

import math
import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from bandwidth_api import addresses
from bandwidth_sight import history, merging
from bandwidth_sight.history import History, Sampled

PERIOD = 16384


def address(number: int) -> bytes:
    return (0x0A000000 + number).to_bytes(4)


def seconds(*of: dict[int, int], sent: float | None = None, port: int = 443) -> History:
    """A history after these seconds, each with so many samples by client."""
    made = History(100.0)
    for number, samples in enumerate(of, 1):
        add(made, samples, sent, port)
        assert made.turn(100.0 + number)
    return made


def add(to: History, samples: dict[int, int], sent: float | None = None, port: int = 443) -> None:
    clients = {address(c): (float(n * PERIOD), n, float(n * PERIOD**2)) for c, n in samples.items() if n}
    ports = {key: {(6, port): sums[0]} for key, sums in clients.items()}
    to.add(Sampled(clients, ports, sent, 0))


@given(st.lists(st.dictionaries(st.integers(0, 20), st.integers(1, 50), max_size=8), min_size=1, max_size=75))
def test_each_window_is_the_sum_of_its_seconds(of: list[dict[int, int]]) -> None:
    """Rates, samples and errors are those of the last 2, 10 and 60 s, however many seconds came before."""
    made = seconds(*of).snapshot(0.0)
    rates = {row.client: row.rates for row in made.rows}
    for window, length in enumerate((2, 10, 60)):
        last = of[-length:]
        for client in {client for second in last for client in second}:
            samples = sum(second.get(client, 0) for second in last)
            rate = rates[history.prefix(address(client))][window]
            assert rate.samples == samples
            assert rate.bits_per_second == pytest.approx(samples * PERIOD * 8 / len(last))
            assert rate.error == pytest.approx(1 / math.sqrt(samples))
        assert made.totals[window].samples == sum(sum(second.values()) for second in last)
    assert len(made.rows) == len({client for second in of[-60:] for client in second})
    assert sum(row.since_bytes for row in made.rows) + made.folded.since_bytes == pytest.approx(
        sum(sum(second.values()) for second in of) * PERIOD
    )


def test_what_lies_a_minute_back_is_gone() -> None:
    """A client that got something 61 s ago has no row, and nothing of it stays in memory but in "since"."""
    made = seconds({1: 100}, *[{2: 100}] * 60)
    assert [addresses.write(row.client) for row in made.snapshot(0.0).rows] == ["10.0.0.2"]
    assert made.snapshot(0.0).folded.since_bytes == 100 * PERIOD


def test_a_scan_of_addresses_hides_nobody() -> None:
    """Three of four samples are of addresses that never come again; a client with 2 % is among the first ten."""
    of, fresh = random.Random(1), 1000
    seconds_of: list[dict[int, int]] = []
    for _ in range(30):
        second: dict[int, int] = {}
        for _ in range(2000):
            if of.random() < 0.75:
                fresh += 1
                second[fresh] = 1
            else:
                client = of.randrange(10)
                second[client] = second.get(client, 0) + 1
        seconds_of.append(second)
    made = seconds(*seconds_of)
    found = made.snapshot(0.0)
    assert {row.client for row in found.rows[:10]} == {history.prefix(address(c)) for c in range(10)}
    for row in found.rows[:10]:
        truth = sum(second.get(row.client.network - 0x0A000000, 0) for second in seconds_of)
        assert row.since_bytes == truth * PERIOD
    assert len(found.rows) <= history.ROWS_MAX
    assert found.totals[2].samples == 30 * 2000
    assert found.clients >= 1500


def test_a_small_but_steady_client_is_not_cut_off() -> None:
    """Among 300 that are larger by turns, it keeps its rate once it is known."""
    of = [{0: 1}] * 2 + [{0: 1} | {1000 + 300 * n + i: 2 for i in range(300)} for n in range(20)]
    made = seconds(*of).snapshot(0.0)
    row = next(row for row in made.rows if row.client == history.prefix(address(0)))
    assert row.rates[1].samples == 10


def test_what_is_kept_is_bounded() -> None:
    """A hundred thousand clients in a minute leave at most so many sums, ports and rows."""
    made = History(0.0)
    for second in range(60):
        add(made, {second * 2000 + i: 1 for i in range(2000)})
        made.turn(second + 1.0)
    assert len(made._windows[2].clients) <= 60 * history.KNOWN
    assert len(made._ports) <= 10 * history.KNOWN
    assert len(made._since) == history.SINCE_SIZE
    assert len(made.snapshot(0.0).rows) == history.ROWS_MAX


def test_several_interfaces_are_one_sum() -> None:
    """Of one second of two interfaces, clients, ports and what was sent are added."""
    made = History(0.0)
    add(made, {1: 10}, sent=10.0 * PERIOD, port=443)
    add(made, {1: 20}, sent=50.0 * PERIOD, port=993)
    assert not made.turn(0.5)
    assert made.turn(1.0)
    snapshot = made.snapshot(0.0)
    assert snapshot.rows[0].rates[0].samples == 30
    assert [(port.number, port.bits_per_second) for port in snapshot.rows[0].ports] == [
        (993, 20 * PERIOD * 8),
        (443, 10 * PERIOD * 8),
    ]
    assert snapshot.sent == (60 * PERIOD * 8,) * 3
    assert snapshot.not_seen == pytest.approx(0.5)


def test_ports_are_those_of_the_last_ten_seconds() -> None:
    """A client that went on to another port is shown with that one."""
    made = seconds(*[{1: 10}] * 5, port=443)
    for number in range(6, 17):
        add(made, {1: 10}, port=993)
        made.turn(100.0 + number)
    assert [port.number for port in made.snapshot(0.0).rows[0].ports] == [993]


def test_without_a_second_there_is_nothing() -> None:
    """The first snapshot is empty, and says nothing about what was sent."""
    snapshot = History(0.0).snapshot(5.0)
    assert (snapshot.rows, snapshot.sent, snapshot.not_seen, snapshot.at) == ((), None, None, 5.0)


def test_a_long_stretch_counts_with_its_own_length() -> None:
    """After a pause of 30 s the next reading is an average of all of them, in every window."""
    made = seconds({1: 10})
    add(made, {1: 300})
    made.turn(131.0)
    assert made.snapshot(0.0).rows[0].rates[0].bits_per_second == pytest.approx(300 * PERIOD * 8 / 30)


def changing(second: int, count: int) -> dict[bytes, tuple[float, int, float]]:
    """So many addresses of one /64 that come never again, each sampled once, and one client that stays."""
    fresh = {(0x20010DB8_00070000 << 64 | second << 20 | n).to_bytes(16): n for n in range(count)}
    return dict.fromkeys(fresh, (float(PERIOD), 1, float(PERIOD**2))) | {
        address(1): (100.0 * PERIOD, 100, 100.0 * PERIOD**2)
    }


def test_who_changes_his_address_with_every_packet_is_one_network() -> None:
    """No address of his is large enough for a row, and most are not even remembered; all their bytes are in the /64."""
    made = History(100.0)
    for number in range(1, 71):
        made.add(Sampled(changing(number, 2_000), {}, None, 0))
        assert made.turn(100.0 + number)
    seen = made.snapshot(0.0)
    grouped = merging.fold(merging.group(seen))
    rates = {addresses.write(row.client): row.rates for row in grouped.rows}
    assert list(rates) == ["2001:db8:7::/64", "10.0.0.0/24"]
    for window in range(3):
        assert rates["2001:db8:7::/64"][window].bits_per_second == pytest.approx(2_000 * PERIOD * 8)
        assert rates["10.0.0.0/24"][window].bits_per_second == pytest.approx(100 * PERIOD * 8)
        assert grouped.totals[window].bits_per_second == pytest.approx(seen.totals[window].bits_per_second)
        assert grouped.totals[window].samples == seen.totals[window].samples
    assert grouped.folded.clients == 0
    assert [addresses.write(row.client) for row in merging.fold(seen).rows] == ["10.0.0.1"]


def test_networks_begin_when_their_clients_do() -> None:
    """A stretch that was under way already is as long for the network as for the clients in it."""
    made = History(100.0)
    made.start(98.0)
    add(made, {1: 100})
    assert made.turn(102.0)
    seen = made.snapshot(0.0)
    assert [row.rates for row in seen.networks] == [row.rates for row in seen.rows]
    assert seen.rows[0].rates[1].bits_per_second == pytest.approx(100 * PERIOD * 8 / 4)


def test_networks_of_limits_take_in_what_has_no_row() -> None:
    """A wider one all of it; of a narrower one only the clients that have a row are known to be in it."""
    made = History(100.0)
    for number in range(1, 4):
        made.add(Sampled(changing(number, 600), {}, None, 0))
        assert made.turn(100.0 + number)
    wider = merging.group(made.snapshot(0.0), [addresses.network("2001:db8::/32")])
    assert addresses.write(wider.rows[0].client) == "2001:db8::/32"
    assert wider.rows[0].rates[0].bits_per_second == pytest.approx(600 * PERIOD * 8)
    narrower = merging.group(made.snapshot(0.0), [addresses.network("2001:db8:7::/96")])
    of = {addresses.write(row.client): row.rates[0].samples for row in narrower.rows}
    assert of["2001:db8:7::/96"] + of["2001:db8:7::/64"] == 1_200
    assert narrower.totals[0].samples == made.snapshot(0.0).totals[0].samples


def test_networks_take_a_bounded_memory_and_little_of_a_snapshot() -> None:
    """Each address of a scan may be in a network of its own."""
    made = History(100.0)
    chance = random.Random(3)
    for number in range(1, 64):
        found = {chance.getrandbits(32).to_bytes(4): (float(PERIOD), 1, float(PERIOD**2)) for _ in range(1_000)}
        made.add(Sampled(found, {}, None, 0))
        made.turn(100.0 + number)
    assert made._networks is not None
    assert len(made._networks._windows[-1].clients) <= 61 * 2 * history.NETWORKS
    assert len(made.snapshot(0.0).networks) <= history.NETWORKS
