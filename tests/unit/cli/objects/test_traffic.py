"""Answers to questions as snapshots, and the rate of one client by node."""

from __future__ import annotations

import dataclasses
import math

import pytest

from bandwidth_api import addresses
from bandwidth_api.crds import client_rows, traffic_answer
from bandwidth_api.crds.client_rows import Amount
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_cli.objects import rates, traffic
from bandwidth_cli.objects.rates import Now
from unit.cli.samples import limit

ROW = traffic_answer.Row(
    client="203.0.113.7",
    bits_per_second=(8_000_000, 6_000_000, 4_000_000),
    error_percent=(5.0, 2.0, 1.0),
    since_bytes=1000,
    ports=("TCP:993", "odd", "UDP:x"),
    nodes=2,
    node="n1",
    limits=("a", "b"),
)
ANSWER = traffic_answer.Answer(
    observed_at=100.0,
    seconds=30,
    asked=3,
    answered=2,
    silent=("n3",),
    total=traffic_answer.Total((10_000_000, 9_000_000, 8_000_000), (4.0, 2.0, 1.0), 5000, (11_000_000,) * 3, 12, 1),
    rows=(ROW, traffic_answer.Row("nonsense", (1, 1, 1), (0.0, 0.0, 0.0), 1)),
)


def test_an_answer_becomes_a_snapshot() -> None:
    """Rates with their errors, what has no row, who answered, what is not known."""
    made = traffic.snapshot(ANSWER, {"a": limit("a", rate="4Mbit")}, ["n3", "n1", "n2"], grouped=False)
    row = made.rows[0]
    assert [row.client for row in made.rows] == [addresses.parse("203.0.113.7")]
    assert row.rates[1].bits_per_second == 6_000_000
    assert row.rates[1].error == pytest.approx(0.02)
    assert row.rates[1].samples == 2500
    assert [(port.protocol, port.number) for port in row.ports] == [("TCP", 993)]
    assert row.nodes == ("n1", "1 more")
    assert [(hold.limit, hold.rate_bits_per_second, hold.at_limit) for hold in row.holds or ()] == [
        ("a", 4_000_000, True),
        ("b", None, False),
    ]
    assert made.totals[0].bits_per_second == 10_000_000
    assert made.folded.clients == 11
    assert made.folded.since_bytes == 4000
    assert made.nodes == ("n1", "n2")
    assert made.nodes_asked == 3
    assert made.lost_samples == 1
    assert made.notes == ("no answer from n3",)


def test_nodes_whose_names_are_not_known_are_counted() -> None:
    """Whoever may not read the states of nodes sees how many answered."""
    assert traffic.answered((), ANSWER) == ("?1", "?2")


def test_an_empty_answer_is_an_empty_snapshot() -> None:
    """Before anybody has reported."""
    made = traffic.snapshot(traffic_answer.Answer(), None, (), grouped=True)
    assert (made.rows, made.sent, made.clients) == ((), None, 0)
    assert made.grouped


def amount(bits_per_second: float, error: float) -> Amount:
    return Amount(bits_per_second, (bits_per_second * error) ** 2)


def report(node: str, clients: int, *rows: tuple[str, float], message: str = "") -> Traffic:
    made = tuple(
        client_rows.Row(addresses.network(text), (amount(rate, 0.1),) * 3, 0.0)  # type: ignore[arg-type]
        for text, rate in rows
    )
    return Traffic(node, clients=clients, rows=made, message=message)


def test_a_client_is_found_on_each_node() -> None:
    """Its own rate, nothing, or no more than the smallest that has a row; not where a node cannot look."""
    client = addresses.parse("203.0.113.7")
    found = rates.by_node(
        [
            report("has", 2, ("203.0.113.7", 5e6), ("203.0.113.8", 1e6)),
            report("has not", 1, ("203.0.113.8", 1e6)),
            report("full", 90, ("203.0.113.8", 3e6), ("203.0.113.9", 2e6)),
            report("blind", 0, message="no right to look"),
        ],
        client,
    )
    assert found["has"].bits_per_second == 5e6
    assert found["has"].error == pytest.approx(0.1)
    assert found["has not"] == Now(0.0, None, False)
    assert found["full"] == Now(2e6, None, True)
    assert "blind" not in found


def test_a_network_is_the_sum_of_its_addresses() -> None:
    """With the error of a sum; rows of networks are not counted twice."""
    found = rates.by_node(
        [report("n", 2, ("203.0.113.7", 3e6), ("203.0.113.8", 4e6), ("203.0.113.0/24", 7e6))],
        addresses.parse("203.0.113.0/24"),
    )["n"]
    assert found.bits_per_second == 7e6
    assert found.error == pytest.approx(math.hypot(3e5, 4e5) / 7e6)


@pytest.mark.parametrize(
    ("now", "word"),
    [
        (Now(5.1e6, 0.02, False), "held"),
        (Now(4.6e6, 0.01, False), "held"),
        (Now(1e6, 0.05, False), "below"),
        (Now(9e6, 0.05, False), "over"),
        (Now(5.5e6, 0.10, False), "held"),  # within its error
        (Now(2e6, None, True), "below"),
        (Now(7e6, None, True), ""),  # it may be anything up to that
        (Now(0.0, None, False), "below"),
    ],
)
def test_a_rate_is_told_against_the_limit(now: Now, word: str) -> None:
    """`over` only where the error does not explain it."""
    assert rates.held(now, 5_000_000) == word
    assert rates.held(now, 0) == ""


def named(kbits: tuple[float, float, float], samples: int, seconds: int = 10) -> Traffic:
    """A report of a node that was asked for one client, as it is read after it was written."""
    per_sample = kbits[2] * 1e3 * min(60, seconds) / samples if samples else 0.0
    times = [min(window, seconds) for window in client_rows.WINDOWS_SECONDS]
    of = tuple(Amount(k * 1e3, k * 1e3 * per_sample / t) for k, t in zip(kbits, times, strict=True))
    total = (amount(1e9, 0.01),) * 3
    client = client_rows.Named(addresses.parse("203.0.113.7"), of, 1e3, seconds)  # type: ignore[arg-type]
    return Traffic("n", seconds=60, total=total, clients=5000, named=(client,))  # type: ignore[arg-type]


def test_a_client_that_was_asked_for_has_its_own_rate() -> None:
    """In the shortest time that has enough samples: the last two seconds of a large one, longer of a small one."""
    client = addresses.parse("203.0.113.7")
    large = rates.by_node([named((9000, 8000, 8000), 1000)], client)["n"]
    assert large.bits_per_second == 9e6
    small = rates.by_node([named((0, 16, 16), 3)], client)["n"]
    assert (small.bits_per_second, small.at_most) == (16e3, False)
    assert small.error == pytest.approx(1 / math.sqrt(3))


def test_a_client_of_which_nothing_was_sampled_gets_less_than_some_samples() -> None:
    """A bound from what one sample of this node stands for, and no guess from the rows of others."""
    client = addresses.parse("203.0.113.7")
    found = rates.by_node([named((0, 0, 0), 0)], client)["n"]
    assert found.at_most
    assert found.bits_per_second == pytest.approx(3 * 1e9 * 0.01**2 * 60 / 10)
    quiet = Traffic("n", seconds=60, named=named((0, 0, 0), 0).named)
    assert rates.by_node([quiet], client)["n"] == Now(0.0, None, False)


def test_a_limit_of_some_ports_says_which_and_is_at_its_limit_only_where_all_is_of_them() -> None:
    """What the client gets at other ports is not told apart."""
    mail = limit("a", rate="4Mbit", egress={"ports": [{"port": 993}]})
    hold = (traffic.snapshot(ANSWER, {"a": mail}, (), grouped=False).rows[0].holds or ())[0]
    assert hold.ports == mail.ports != ()
    assert not hold.at_limit
    only = dataclasses.replace(ANSWER, rows=(ROW._replace(ports=("TCP:993",)),))
    assert (traffic.snapshot(only, {"a": mail}, (), grouped=False).rows[0].holds or ())[0].at_limit
