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

from bandwidth_api.compiler import compile as compiler
from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.crds import limit
from bandwidth_api.plan import PlanEntry, Prefix, Resolution, Table
from unit.api.compiler import oracle
from unit.api.compiler.oracle import Document, Packet

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


# Made once: to make a strategy takes longer than to draw from it.
CHOSEN = st.lists(st.sampled_from(CLIENTS), min_size=1, max_size=4, unique=True)
EGRESS = st.sampled_from(({"rate": "5Mbit"}, {"rate": "5Mbit", "sharing": "PerEntry"}))
PRIORITY = st.sampled_from(({}, {}, {}, {"priority": 7}))
SWITCH = st.sampled_from(({},) * 3 * len(SWITCHES) + SWITCHES)
EXCEPTED = st.just([]) | st.lists(st.integers(0, 255), max_size=2, unique=True)  # of what lies in the clients
SELECTED = st.just([]) | st.lists(st.sampled_from(PORT_ITEMS), max_size=3)
CREATED = st.sampled_from(("2030-05-01T00:00:00Z", "2030-05-02T00:00:00Z"))


@st.composite
def documents(draw: st.DrawFn, name: str) -> Document:
    chosen = draw(CHOSEN)
    spec: Document = {"clients": chosen, "egress": dict(draw(EGRESS)), **draw(PRIORITY), **draw(SWITCH)}
    if holes := [inner for client in chosen for inner in INSIDE.get(client, [])]:
        spec["except"] = list(dict.fromkeys(holes[number % len(holes)] for number in draw(EXCEPTED)))
    if selected := draw(SELECTED):
        spec["egress"]["ports"] = selected
    return {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientBandwidthLimit",
        "metadata": {"name": name, "creationTimestamp": draw(CREATED)},
        "spec": spec,
    }


NAMES = ("c", "a", "f", "b", "e", "d")
DOCUMENTS = [documents(name) for name in NAMES]
LISTS = [st.tuples(*DOCUMENTS[:count]) for count in range(len(NAMES) + 1)]
document_lists = st.integers(0, len(NAMES)).flatmap(LISTS.__getitem__)


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


@settings(max_examples=500, deadline=None)
@given(document_lists, st.randoms(use_true_random=False))
def test_the_tables_are_what_the_rules_say(written: tuple[Document, ...], shuffle: random.Random) -> None:
    """For every packet they name the class that the rules name; they are well formed, whatever the entries' order is,
    and a limit is overridden by each limit that wins for one of its packets, and by no other."""
    in_force = entries(written)
    resolution = resolve.resolve(in_force)
    assert resolution.overridden == losers_with_winners(resolution, rules(written))
    check_form(resolution, in_force)
    shuffled = list(in_force)
    shuffle.shuffle(shuffled)
    assert resolve.resolve(shuffled) == resolve.resolve(in_force) == resolution


def losers_with_winners(resolution: Resolution, expected: list[oracle.Rule]) -> dict[str, tuple[str, ...]]:
    """Compare every address, protocol and port; the result says for each limit which others win where it is for."""
    winners: dict[str, set[str]] = {}
    for packet in PACKETS:
        ranked = oracle.ranked(packet, expected)
        assert oracle.looked_up(packet, resolution) == oracle.class_of(ranked), packet
        for loser, _ in ranked[1:]:
            winners.setdefault(loser.name, set()).add(ranked[0][0].name)
    return {loser: tuple(sorted(names)) for loser, names in winners.items()}


def check_form(resolution: Resolution, in_force: tuple[PlanEntry, ...]) -> None:
    """Ports of different tables never meet, classes are those that tables name, and no entry could be left out."""
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


ADDRESSES = {4: [int(address) for address in BASES[0]], 6: [int(address) for address in BASES[1]]}


def is_needed(prefix: Prefix, table: Table) -> bool:
    """Whether some address is answered differently without this entry."""
    without = {p: key for p, key in table.entries.items() if p != prefix}
    rest = Table(table.family, table.ports, without)
    return any(oracle.longest_match(a, table) != oracle.longest_match(a, rest) for a in ADDRESSES[table.family])
