"""Merging, grouping and folding keep the sum, whatever the rows."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from bandwidth_api import addresses
from bandwidth_api.plan import PortRange, Prefix
from bandwidth_sight import merging, rows
from bandwidth_sight.rows import Folded, Hold, Port, Rate, Row, Snapshot


def rate(bits_per_second: float, samples: int = 100) -> Rate:
    return Rate(bits_per_second, samples, bits_per_second**2 / samples)


def row(client: str, bits_per_second: float, samples: int = 100, **more: object) -> Row:
    """A row with the same rate in each window."""
    same = rate(bits_per_second, samples)
    return Row(addresses.network(client), (same, same, same), bits_per_second, **more)  # type: ignore[arg-type]


def exact(bits_per_second: float) -> Row:
    """A row of which every packet was a sample."""
    same = Rate(bits_per_second, 100, 0.0)
    return Row(addresses.network("192.0.2.1"), (same, same, same), bits_per_second)


def snapshot(*of: Row, **more: object) -> Snapshot:
    return Snapshot(1e9, 60.0, of, **more)  # type: ignore[arg-type]


RATES = st.builds(
    Rate,
    st.integers(0, 10**11).map(float),
    st.integers(0, 10**6),
    st.integers(0, 10**12).map(float),
)
CLIENTS = st.one_of(
    st.integers(0x0A000000, 0x0A0003FF).map(lambda n: Prefix(4, n, 32)),
    st.integers(0, 7).map(lambda n: Prefix(6, 0x20010DB8 << 96 | n << 62, 128)),
)
ROWS = st.builds(
    Row,
    CLIENTS,
    st.tuples(RATES, RATES, RATES),
    st.integers(0, 10**9).map(float),
    st.lists(st.builds(Port, st.sampled_from(["TCP", "UDP"]), st.integers(1, 4), st.integers(0, 99).map(float))).map(
        tuple
    ),
    st.one_of(
        st.none(),
        st.lists(
            st.builds(
                Hold, st.sampled_from("ab"), st.sampled_from([None, 10**6, 2 * 10**6]), st.booleans(), st.booleans()
            )
        ).map(tuple),
    ),
    st.sampled_from(["", "node a"]),
    st.lists(st.sampled_from("xyz"), unique=True).map(sorted).map(tuple),
)
SNAPSHOTS = st.builds(
    Snapshot,
    st.integers(0, 10**9).map(float),
    st.integers(1, 100).map(float),
    st.lists(ROWS, max_size=12, unique_by=lambda r: r.client).map(tuple),
    st.builds(Folded, st.integers(0, 99), st.tuples(RATES, RATES, RATES), st.integers(0, 10**9).map(float)),
    nodes=st.lists(st.sampled_from("xyz"), unique=True).map(sorted).map(tuple),
    nodes_asked=st.integers(0, 5),
    sent=st.one_of(st.none(), st.tuples(*[st.integers(0, 10**11).map(float)] * 3)),
    capacity_bits_per_second=st.one_of(st.none(), st.integers(0, 10**11)),
    lost_samples=st.integers(0, 9),
)


def same(one: rows.Rates, other: rows.Rates) -> bool:
    return all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@given(st.lists(SNAPSHOTS, min_size=1, max_size=4))
def test_merging_is_adding(many: list[Snapshot]) -> None:
    """Totals, bytes, samples, variances and lost samples of the whole are the sums of those of the parts."""
    merged = merging.merge(many)
    assert same(merged.totals, rows.total([s.totals for s in many]))
    assert sum(r.since_bytes for r in merged.rows) == sum(r.since_bytes for s in many for r in s.rows)
    assert merged.lost_samples == sum(s.lost_samples for s in many)
    for each in merged.rows:
        assert same(each.rates, rows.total([r.rates for s in many for r in s.rows if r.client == each.client]))


@given(st.lists(SNAPSHOTS, min_size=2, max_size=4), st.randoms())
def test_the_order_of_the_nodes_does_not_matter(many: list[Snapshot], random: object) -> None:
    """All at once in any order, and one after the other, give the same rows."""
    shuffled = list(many)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    at_once = merging.merge(many)
    assert merging.merge(shuffled) == at_once
    by_steps = merging.merge([merging.merge(many[:1]), merging.merge(many[1:])])
    assert by_steps.nodes == at_once.nodes
    assert by_steps.sent == at_once.sent
    assert {r.client: (r.since_bytes, r.holds, r.nodes, r.label) for r in by_steps.rows} == {
        r.client: (r.since_bytes, r.holds, r.nodes, r.label) for r in at_once.rows
    }
    assert same(by_steps.totals, at_once.totals)


@given(SNAPSHOTS, st.lists(CLIENTS, max_size=3), st.sampled_from([16, 24, 28, 32]))
def test_grouping_keeps_the_sum(one: Snapshot, clients: list[Prefix], length: int) -> None:
    """Every client is in exactly one network, which covers it; networks of limits go before /24 and /64."""
    networks = [addresses.network(f"{addresses.write(c)}/{length}") for c in clients]
    grouped = merging.group(one, networks)
    assert same(grouped.totals, one.totals)
    assert sum(r.since_bytes for r in grouped.rows) == sum(r.since_bytes for r in one.rows)
    for each in one.rows:
        around = [g.client for g in grouped.rows if addresses.covers(g.client, each.client)]
        named = [n for n in networks if addresses.covers(n, each.client)]
        expected = max(named, key=lambda n: n.length, default=None)
        if each.label:
            assert each.client in around
        elif expected is not None:
            assert expected in around
        else:
            assert any(n.length == merging.GROUP_LENGTH[n.family] for n in around)


@given(st.permutations(["", "next hop of 10.1.0.0/16", "node worker-1", "this host"]))
def test_the_name_of_a_node_is_the_label(labels: list[str]) -> None:
    """What the cluster knows of an address says more than what one node can tell of it, whichever comes first."""
    (found,) = merging.merge([snapshot(row("192.0.2.1", 8e6, label=label)) for label in labels]).rows
    assert found.label == "node worker-1"


@given(SNAPSHOTS, st.one_of(st.none(), st.integers(0, 5)), st.integers(0, 10))
def test_folding_keeps_the_sum(one: Snapshot, top: int | None, least: int) -> None:
    """What has no row any more is in `folded`; what has one is large enough and among the largest."""
    folded = merging.fold(one, top=top, least_samples=least)
    assert same(folded.totals, one.totals)
    assert folded.clients == one.clients
    assert top is None or len(folded.rows) <= top
    assert all(r.samples >= least for r in folded.rows)
    gone = [r for r in one.rows if r not in folded.rows and r.samples >= least]
    smallest = min((r.rates[1].bits_per_second for r in folded.rows), default=math.inf)
    assert all(r.rates[1].bits_per_second <= smallest for r in gone)


@given(SNAPSHOTS)
def test_rows_are_in_one_order(one: Snapshot) -> None:
    """The largest first; equal ones by address, so that two rows never change places for nothing."""
    for window in (0, 1, 2, None):
        keys = [merging.order(window)(r) for r in sorted(one.rows, key=merging.order(window))]
        assert keys == sorted(keys)
        assert len(set(keys)) == len(keys)


def test_the_error_of_a_sum_comes_from_the_squares() -> None:
    """Two equal estimates with an error of 10 % each have one of 7 % together."""
    merged = merging.merge([snapshot(row("192.0.2.1", 1e6)), snapshot(row("192.0.2.1", 1e6))])
    assert merged.rows[0].rates[0].bits_per_second == 2e6
    assert merged.rows[0].rates[0].error == pytest.approx(0.1 / math.sqrt(2))


def test_a_client_of_two_nodes_is_at_its_limit_if_it_is_at_one() -> None:
    """Nodes, ports and limits of both are in the row; an unknown limit of one node leaves that of the other."""
    hold = Hold("web", 10**6, False, False)
    at_a = row("192.0.2.1", 1e6, holds=(hold,), nodes=("a",), ports=(Port("TCP", 443, 5.0),))
    at_b = row("192.0.2.1", 1e6, holds=(hold._replace(at_limit=True),), nodes=("b",), ports=(Port("TCP", 993, 9.0),))
    at_c = row("192.0.2.1", 1e6, holds=None, nodes=("c",), ports=(Port("TCP", 443, 5.0),))
    (merged,) = merging.merge([snapshot(at_a), snapshot(at_b), snapshot(at_c)]).rows
    assert merged.holds == (hold._replace(at_limit=True),)
    assert merged.nodes == ("a", "b", "c")
    assert merged.ports == (Port("TCP", 443, 10.0), Port("TCP", 993, 9.0))


def test_a_limit_of_two_clients_has_the_ports_of_both() -> None:
    """For all ports at one is for all; unknown ones stay unknown."""
    web, mail = PortRange("TCP", 443, 443), PortRange("TCP", 993, 993)
    one = row("192.0.2.1", 1e6, holds=(Hold("web", 1, False, False, (web,)),))
    for other, both in (((mail,), (web, mail)), ((), ()), (None, None)):
        (merged,) = merging.group(
            snapshot(one, row("192.0.2.2", 1e6, holds=(Hold("web", 1, False, False, other),)))
        ).rows
        assert merged.holds == (Hold("web", 1, False, False, both),)


def test_what_is_not_seen_is_said_beyond_the_error_only() -> None:
    """Half of what the device sent has no samples; two per cent within an error of ten count as seen."""
    assert snapshot(row("192.0.2.1", 1e6), sent=(2e6, 2e6, 2e6)).not_seen == pytest.approx(0.5)
    assert snapshot(row("192.0.2.1", 1e6), sent=(1.02e6, 1.02e6, 1.02e6)).not_seen == 0.0
    # Every packet of a quiet host is a sample, and its ARP is none.
    assert snapshot(exact(1e4), sent=(2.5e4, 2.5e4, 2.5e4)).not_seen == 0.0
    assert snapshot(exact(1e6), sent=(1.1e6, 1.1e6, 1.1e6)).not_seen == pytest.approx(1 / 11)
    assert snapshot(row("192.0.2.1", 1e6), sent=(0.0, 0.0, 0.0)).not_seen is None
    assert snapshot(row("192.0.2.1", 1e6)).not_seen is None
