"""Reports of nodes are added to answers: the right rows in the right order, whatever single nodes write."""

from __future__ import annotations

import json
import random

import pytest

from bandwidth_api import addresses
from bandwidth_api.crds import asked, client_traffic, lenient, traffic_answer
from bandwidth_api.crds.asked import Asked
from bandwidth_api.crds.client_rows import Amount, Found, Named, Port, Rates, Row
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.crds.traffic_query import Query, Spec
from bandwidth_api.plan import Prefix
from bandwidth_operator.traffic import answers
from bandwidth_operator.traffic.answers import Heard, Merged

PERIOD_BITS = 8 * 65536
STREAM = Asked(1, 60)


def address(number: int) -> Prefix:
    return Prefix(4, 0xC6336400 + number, 32)


def rates(bits_per_second: float) -> Rates:
    """As of samples of 64 KiB each, over 2, 10 and 60 seconds."""
    first, second, third = (Amount(bits_per_second, bits_per_second * PERIOD_BITS / s) for s in (2, 10, 60))
    return first, second, third


def row(number: int, bits_per_second: float, port: int = 993) -> Row:
    return Row(address(number), rates(bits_per_second), bits_per_second * 7, (Port("TCP", port, 1.0),))


def report(node: str, *rows: Row, **more: object) -> Heard:
    total = sum(each.rates[1].bits_per_second for each in rows)
    fields = {"total": rates(total), "clients": len(rows), "seconds": 60, "renewal": 1, "rows": rows} | more
    return Heard(Traffic(node, **fields), 100.0)  # type: ignore[arg-type]


def merged(*reports: Heard, nodes: frozenset[str] | None = None, **options: object) -> Merged:
    everyone = frozenset(h.traffic.node for h in reports) if nodes is None else nodes
    fields = {"group": asked.ADDRESS, "interval_seconds": 2, "now": 101.0} | options
    return answers.merge(reports, everyone, **fields)  # type: ignore[arg-type]


def question(**spec: object) -> Query:
    return Query("q", "uid", 3, Spec(**spec))  # type: ignore[arg-type]


def through_the_cluster(heard: Heard) -> Heard:
    """A report as it is read after it was written."""
    wire = json.loads(json.dumps(client_traffic.write(heard.traffic)))
    read = client_traffic.read({"metadata": {"name": heard.traffic.node}, "status": wire})
    assert read is not None
    return Heard(read, heard.at)


# ── the truth ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spread", [1, 2, 10])
def test_the_top_twenty_of_a_hundred_nodes(spread: int) -> None:
    """A hundred nodes with 200 clients each that follow Zipf's law: the merged top 20 is the true one, each rate within
    5 %, each report within 1.5 KB, the answer within 8 KB."""
    luck = random.Random(spread)
    shares: dict[str, dict[int, float]] = {f"node-{n:03d}": {} for n in range(100)}
    truth: dict[int, float] = {}
    for number in range(4000):
        truth[number] = 4e9 / (number + 1)
        for node in luck.sample(sorted(shares), spread):
            shares[node][number] = truth[number] / spread
    reports = []
    for node, clients in shares.items():
        seen = [
            row(number, max(0.0, luck.gauss(rate, (rate * PERIOD_BITS / 60) ** 0.5)))
            for number, rate in sorted(clients.items(), key=lambda item: -item[1])[:50]
        ]
        reports.append(through_the_cluster(report(node, *seen[:25])))
        wire = client_traffic.write(report(node, *seen).traffic)
        assert len(json.dumps({"status": wire}, separators=(",", ":")).encode()) <= 1536
        assert len(wire["rows"]) >= 20
    found = merged(*reports)
    assert set(found.ranked[:20]) == {address(number) for number in range(20)}
    for number in range(20):
        got = found.sums[address(number)].rates[answers.RANKED_BY].bits_per_second
        assert got == pytest.approx(truth[number], rel=0.05)
    made = answers.answer(question(top=50), shares, found, STREAM, {}, {})
    status = traffic_answer.write_answer(made)
    assert len(json.dumps(status, separators=(",", ":")).encode()) <= 8192
    assert len(status["rows"]) >= 20
    assert (made.asked, made.answered, made.reason) == (100, 100, "Answered")


def test_a_client_of_all_nodes_is_found_exactly() -> None:
    """A client that is small on each of 100 nodes has no row on most of them; asked for by name, its sum is right."""
    candidates = {7: ("198.51.100.250",)}
    small = Found(0, rates(1e6), 7e6)
    reports = [report(f"n{n}", *(row(k, 2e6 + k) for k in range(20)), found=(small,), renewal=7) for n in range(99)]
    reports.append(report("n99", row(250, 1e6), renewal=7))
    found = merged(*reports, candidates=candidates)
    assert found.sums[address(250)].rates[1].bits_per_second == pytest.approx(100e6)
    assert found.sums[address(250)].nodes == 100
    other = merged(*reports, candidates={8: ("198.51.100.250",)})  # what was asked then is not known any more
    assert other.sums[address(250)].nodes == 1


def test_a_row_counts_once_for_a_node_that_has_it_and_was_asked_for_it() -> None:
    """A node that names a client twice is added once."""
    heard = report("a", row(1, 5e6), found=(Found(0, rates(5e6), 1.0), Found(1, rates(9e6), 1.0)), renewal=7)
    found = merged(heard, candidates={7: ("198.51.100.1",)})
    assert found.sums[address(1)].rates[1].bits_per_second == 5e6
    assert len(found.ranked) == 1


def test_errors_shrink_where_several_nodes_see_a_client() -> None:
    """Variances are added, so the relative error of two equal nodes is that of one by √2."""
    one = merged(report("a", row(1, 10e6)))
    two = merged(report("a", row(1, 10e6)), report("b", row(1, 10e6)))
    errors = [answers.answer(question(), "ab", each, STREAM, {}, {}).rows[0].error_percent[1] for each in (one, two)]
    assert errors[1] == pytest.approx(errors[0] / 2**0.5, rel=0.02)


def test_a_row_says_ports_nodes_label_and_limits() -> None:
    """The largest port first, the node that sends most, what the address is, and who holds it."""
    found = merged(report("a", row(1, 10e6, 443)), report("b", row(1, 30e6, 993)))
    made = answers.answer(question(), "ab", found, STREAM, {address(1): "node c"}, {address(1): ("slow", "x", "y")})
    assert made.rows[0].ports == ("TCP:993", "TCP:443")
    assert (made.rows[0].nodes, made.rows[0].node) == (2, "b")
    assert (made.rows[0].label, made.rows[0].limits) == ("node c", ("slow", "x"))


def test_networks_are_rows_of_their_own() -> None:
    """A question by network has networks and no addresses, and the other way round."""
    network = Row(addresses.parse("198.51.100.0/24"), rates(9e6), 1.0)
    heard = report("a", row(1, 5e6), network, networks=1)
    assert merged(heard, group=asked.NETWORK).ranked == (network.client,)
    assert merged(heard).ranked == (address(1),)


# ── nodes that are silent, late or lie ─────────────────────────────────────────────────────────────────────────


def test_silent_nodes_are_named() -> None:
    """Nodes without a report, with an old one and with a trouble are counted as silent, a few of them by name."""
    late = Heard(report("late", row(1, 1e6)).traffic, 50.0)
    broken = report("broken", message="it may not look at packets")
    nodes = frozenset({"a", "late", "broken", "b", "c", "d", "e"})
    found = merged(report("a", row(2, 1e6)), late, broken, nodes=nodes)
    made = answers.answer(question(), nodes, found, STREAM, {}, {})
    assert (made.asked, made.answered) == (7, 1)
    assert made.silent == ("b", "broken", "c", "d", "e")
    assert made.troubles == ("broken: it may not look at packets",)
    assert [each.client for each in made.rows] == ["198.51.100.2"]


def test_nobody_has_answered_yet() -> None:
    """The condition is Unknown until a node answers, and says how many are waited for."""
    made = answers.answer(question(), {"a", "b"}, merged(nodes=frozenset({"a", "b"})), STREAM, {}, {})
    assert (made.status, made.reason, made.message) == ("Unknown", "Waiting", "none of 2 nodes has answered yet")


def test_no_node_is_there() -> None:
    """A question for nodes without an agent is told so."""
    made = answers.answer(question(nodes=("x",)), frozenset(), merged(nodes=frozenset()), STREAM, {}, {})
    assert (made.status, made.reason) == ("False", "NoNodeSelected")
    assert "x" in made.message


def test_reports_of_nodes_that_are_not_asked_count_for_nothing() -> None:
    """A report under a name that is no node, or none that is asked, changes no row and no sum."""
    found = merged(report("a", row(1, 1e6)), report("forged", row(2, 9e9)), nodes=frozenset({"a"}))
    assert found.ranked == (address(1),)
    assert found.rates[1].bits_per_second == 1e6


def test_a_node_that_lies_is_bounded_and_named() -> None:
    """Whatever a node claims, no number leaves its bounds, and the row names the node that said so."""
    wire = {
        "schema": 1,
        "rows": ["198.51.100.9 " + " ".join(["9" * 19] * 2) + "/1 " + "9" * 19, "198.51.100.1 1 1 1/1 1"] * 25,
        "total": " ".join(["9" * 19] * 2) + f" {'9' * 19}/1 {'9' * 19}",
        "clients": 1 << 62,
        "lost": 1 << 62,
    }
    read = client_traffic.read({"metadata": {"name": "liar"}, "status": wire | {"seconds": 60}})
    liar = [client_traffic.read({"metadata": {"name": "liar"}, "status": wire})]
    assert liar[0] is not None
    assert read is not None
    huge = "198.51.100.9 9999999999 9999999999 9999999999/1 9"
    claims = client_traffic.read({"metadata": {"name": "liar"}, "status": wire | {"rows": [huge] * 50}})
    assert claims is not None
    assert len(claims.rows) == 1
    found = merged(Heard(claims, 100.0), report("a", row(1, 1e6)))
    made = answers.answer(question(), "a", found, STREAM, {}, {})
    assert made.rows[0].node == "liar"
    assert all(0 <= number <= lenient.NUMBER_MAX for each in made.rows for number in each.bits_per_second)
    assert made.total.lost <= lenient.NUMBER_MAX
    json.dumps(traffic_answer.write_answer(made), allow_nan=False)


def test_a_node_that_lies_hides_the_clients_of_no_other() -> None:
    """It may claim fifty clients at any rate: a quarter of the rows is left to the others, as far as they have any."""
    claims = [row(100 + n, 9e12) for n in range(50)]
    others = [report(f"n{n}", row(n, 1e6 * (1 + n)), row(50 + n, 1e3)) for n in range(12)]
    found = merged(report("liar", *claims), *others)
    made = answers.answer(question(top=20), "ab", found, STREAM, {}, {})
    assert [each.node for each in made.rows].count("liar") == 15
    assert [each.client for each in made.rows[15:]] == [f"198.51.100.{n}" for n in (11, 10, 9, 8, 7)]
    assert sum(text.startswith("198.51.100.1") for text in answers.candidates_of(found)) >= 50


def test_a_node_that_has_all_traffic_has_all_rows_that_others_do_not_fill() -> None:
    """Where one node sends nearly everything, only rows that others have are given away."""
    busy = report("busy", *(row(100 + n, 1e9 + n) for n in range(40)))
    found = merged(busy, report("idle", row(1, 1e3), row(2, 2e3)))
    shown = answers.shown(question(top=20), found)
    assert shown[:18] == tuple(address(100 + n) for n in range(39, 21, -1))
    assert shown[18:] == (address(2), address(1))
    assert answers.shown(question(top=20), merged(busy)) == merged(busy).ranked[:20]


def test_a_question_about_one_client_is_answered_from_what_was_looked_for() -> None:
    """However small it is beside the others; a node of an older version counts with the rows that it has."""
    client, network = address(7), addresses.parse("198.51.100.0/28")
    new = report("new", row(1, 90e6), named=(Named(client, rates(20e3), 5e3, 10), Named(network, rates(91e6), 1e9, 10)))
    old = report("old", row(7, 1e6), row(2, 3e6))
    asks = question(clients=("198.51.100.7", "198.51.100.0/28", "nonsense"))
    found = merged(new, old, clients=answers.named(asks))
    made = answers.answer(asks, {"new", "old"}, found, STREAM, {}, {})
    said = {each.client: (each.bits_per_second[1], each.nodes) for each in made.rows}
    assert said == {"198.51.100.7": (1_020_000, 2), "198.51.100.0/28": (95_000_000, 2)}
