"""The compiled tables and a slow, obviously right function pick the same class for every packet.

Addresses, ports, priorities and ages come from a few values each, so that nearly everything overlaps.
"""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from bandwidth_api import compile as compiler
from bandwidth_api import limit, overlap
from bandwidth_api.plan import PlanEntry, Prefix, Table
from unit.api import oracle
from unit.api.oracle import Document, Packet

BITS = 3  # of an address that vary
BASES = (ipaddress.ip_network("203.0.113.8/29"), ipaddress.ip_network("2001:db8::8/125"))
PORTS = (1, 2, 3, 4, 5)
NOW = datetime.datetime(2030, 6, 1, tzinfo=datetime.UTC)
LABELS = {"zone": "a", "fast": ""}

PACKETS = [
    Packet(address, protocol, port)
    for base in BASES
    for address in base
    for protocol, port in [("", 0), *itertools.product(("TCP", "UDP"), (0, *PORTS, 6))]
]

often = settings(max_examples=500, deadline=None)
seldom = settings(max_examples=200, deadline=None)


NETWORKS = [inner for base in BASES for length in range(BITS + 1) for inner in base.subnets(prefixlen_diff=length)]
CLIENTS = [str(n) for n in NETWORKS] + [str(n.network_address) for n in NETWORKS if n.num_addresses == 1]
INSIDE = {str(n): [str(inner) for inner in NETWORKS if inner[0] in n and inner[-1] in n] for n in NETWORKS}
PORT_ITEMS: list[Document] = [
    {"port": first, **protocol, **({} if last == first else {"endPort": last})}
    for first, last in itertools.combinations_with_replacement(PORTS, 2)
    for protocol in ({}, {"protocol": "TCP"}, {"protocol": "UDP"})
]
NODE_SELECTORS = (
    {"matchLabels": {"zone": "a"}},
    {"matchLabels": {"zone": "b"}},
    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]},
    {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]},
    {"matchExpressions": [{"key": "slow", "operator": "NotIn", "values": ["x"]}]},
    {"matchExpressions": [{"key": "fast", "operator": "Exists"}, {"key": "zone", "operator": "DoesNotExist"}]},
    {"matchLabels": {"fast": ""}, "matchExpressions": [{"key": "slow", "operator": "DoesNotExist"}]},
)
TIMES = (
    {"expiresAt": "2030-05-31T23:59:59Z"},
    {"expiresAt": "2030-06-01T02:00:01+02:00"},
    {"expiresAt": "2030-06-01T00:00:00Z"},
    {"ttlSeconds": 86400 * 31},
    {"ttlSeconds": 86400 * 31 + 1},
)
SWITCHES = ({"mode": "Disabled"}, {"mode": "Observe"}, *TIMES, *({"nodeSelector": n} for n in NODE_SELECTORS))


EGRESS = [{"rate": "5Mbit"}, {"rate": "5Mbit", "sharing": "PerEntry"}]
CREATED = ("2030-05-01T00:00:00Z", "2030-05-02T00:00:00Z")


@st.composite
def documents(draw: st.DrawFn, name: str) -> Document:
    chosen = draw(st.lists(st.sampled_from(CLIENTS), min_size=1, max_size=4, unique=True))
    spec: Document = {
        "clients": chosen,
        "egress": dict(draw(st.sampled_from(EGRESS))),
        **draw(st.sampled_from(({}, {}, {}, {"priority": 7}))),
        **draw(st.sampled_from(({},) * 3 * len(SWITCHES) + SWITCHES)),
    }
    if holes := [inner for client in chosen for inner in INSIDE.get(client, [])]:
        spec["except"] = draw(st.just([]) | st.lists(st.sampled_from(holes), max_size=2, unique=True))
    if selected := draw(st.just([]) | st.lists(st.sampled_from(PORT_ITEMS), max_size=3)):
        spec["egress"]["ports"] = selected
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientBandwidthLimit",
        "metadata": {"name": name, "creationTimestamp": draw(st.sampled_from(CREATED))},
        "spec": spec,
    }


NAMES = ("c", "a", "f", "b", "e", "d")
document_lists = st.integers(0, len(NAMES)).flatmap(lambda n: st.tuples(*(documents(name) for name in NAMES[:n])))


def entries(written: tuple[Document, ...]) -> tuple[PlanEntry, ...]:
    """What a node with LABELS enforces at NOW."""
    accepted = []
    for document in written:
        parsed = limit.parse(document)
        assert isinstance(parsed, limit.Limit), parsed
        accepted.append(parsed)
    now = NOW.timestamp()
    # A plan made earlier holds entries that have expired by now; the node leaves them out by itself.
    plan = compiler.compile(accepted, now=now - 1e7)
    in_force = compiler.active(plan, LABELS, now)
    assert set(in_force) == set(compiler.active(compiler.compile(accepted, now=now), LABELS, now))
    return in_force


def rules(written: tuple[Document, ...]) -> list[oracle.Rule]:
    return [oracle.Rule(document) for document in written if oracle.in_force(document, LABELS, NOW)]


@often
@given(document_lists)
def test_the_tables_pick_the_winner(written: tuple[Document, ...]) -> None:
    """For every address, protocol and port the tables name the class that the rules name."""
    resolution = overlap.resolve(entries(written))
    expected = rules(written)
    for packet in PACKETS:
        assert oracle.looked_up(packet, resolution) == oracle.winner(packet, expected), packet


@seldom
@given(document_lists)
def test_overridden_names_those_that_win_somewhere(written: tuple[Document, ...]) -> None:
    """A limit is overridden by each limit that wins for one of its packets, and by no other."""
    expected: dict[str, set[str]] = {}
    in_force = rules(written)
    for packet in PACKETS:
        first, *others = [rule.name for rule, _ in oracle.ranked(packet, in_force)] or [""]
        for loser in others:
            expected.setdefault(loser, set()).add(first)
    found = overlap.resolve(entries(written)).overridden
    assert found == {loser: tuple(sorted(winners)) for loser, winners in expected.items()}


@seldom
@given(document_lists)
def test_resolutions_are_well_formed(written: tuple[Document, ...]) -> None:
    """Ports of different tables never meet, classes are those that tables name, and no entry could be left out."""
    in_force = entries(written)
    resolution = overlap.resolve(in_force)
    named = {key for table in resolution.tables for key in table.entries.values() if key is not None}
    assert set(resolution.classes) == named
    assert all(key.limit == entry.limit and entry in in_force for key, entry in resolution.classes.items())
    for table in resolution.tables:
        assert table.entries
        assert list(table.ports) == sorted(table.ports)
        for prefix in table.entries:
            assert is_needed(prefix, table)
    for family in (4, 6):
        ranges = [p for table in resolution.tables if table.family == family for p in table.ports]
        assert sum(not table.ports for table in resolution.tables if table.family == family) <= 1
        for one, other in itertools.combinations(ranges, 2):
            assert one.protocol != other.protocol or one.last < other.first or other.last < one.first


def is_needed(prefix: Prefix, table: Table) -> bool:
    """Whether some address is answered differently without this entry."""
    without = {p: key for p, key in table.entries.items() if p != prefix}
    rest = Table(table.family, table.ports, without)
    addresses = [int(p.address) for p in PACKETS if p.address.version == table.family]
    return any(oracle.longest_match(a, table) != oracle.longest_match(a, rest) for a in addresses)


@seldom
@given(document_lists, st.randoms(use_true_random=False))
def test_the_order_of_the_entries_does_not_matter(written: tuple[Document, ...], shuffle: random.Random) -> None:
    """Any permutation of the entries has the same resolution."""
    in_force = list(entries(written))
    expected = overlap.resolve_anew(in_force)
    shuffle.shuffle(in_force)
    assert overlap.resolve_anew(in_force) == expected
