"""From limits to the plan, and what of the plan is in force."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest

from bandwidth_api.compiler import compile as compiler
from bandwidth_api.compiler import selector
from bandwidth_api.conditions import Reason
from bandwidth_api.crds import limit
from bandwidth_api.plan import Mode, PlanEntry, PortRange, Prefix, SelectorTerm, Sharing

CREATED = 1_893_456_000.0  # 2030-01-01T00:00:00Z
NOW = CREATED + 100


def written(
    name: str = "a", *, created: str | None = "2030-01-01T00:00:00Z", excepted: Any = None, **spec: Any
) -> limit.Limit:
    metadata = {"name": name, "uid": "u", "generation": 3, "creationTimestamp": created}
    document = {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientBandwidthLimit",
        "metadata": metadata,
        "spec": {"clients": ["203.0.113.7"], "egress": {"rate": "5Mbit"}, "except": excepted} | copy.deepcopy(spec),
    }
    parsed = limit.parse(document)
    assert isinstance(parsed, limit.Limit), parsed
    return parsed


def only(parsed: limit.Limit, **more: Any) -> PlanEntry:
    (entry,) = compiler.compile([parsed], **({"now": NOW} | more)).entries.values()
    return entry


def test_an_entry_has_all_of_its_limit() -> None:
    """Every field of the spec arrives in the plan, in the plan's units."""
    parsed = written(
        clients=["10.0.0.0/8", "2001:db8::1"],
        egress={
            "rate": "1.5Mbit",
            "burst": "64Ki",
            "sharing": "PerEntry",
            "ports": [{"port": 993}, {"protocol": "UDP", "port": 5, "endPort": 9}],
        },
        nodeSelector={"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]},
        mode="Observe",
        priority=7,
        expiresAt="2030-01-01T01:00:00Z",
        excepted=["10.1.0.0/16"],
    )
    assert only(parsed) == PlanEntry(
        limit="a",
        uid="u",
        generation=3,
        clients=(Prefix(4, 10 << 24, 8), Prefix(6, (0x20010DB8 << 96) + 1, 128)),
        excepted=(Prefix(4, (10 << 24) + (1 << 16), 16),),
        ports=(PortRange("TCP", 993, 993), PortRange("UDP", 5, 9)),
        rate_bits_per_second=1_500_000,
        burst_bytes=65536,
        mode=Mode.OBSERVE,
        sharing=Sharing.PER_ENTRY,
        priority=7,
        created_at=CREATED,
        expires_at=CREATED + 3600,
        node_selector=(
            SelectorTerm("a", "In", ("1",)),
            SelectorTerm("b", "In", ("2",)),
            SelectorTerm("c", "Exists", ()),
        ),
    )


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        ({"mode": "Disabled"}, Reason.DISABLED, "spec.mode"),
        ({"expiresAt": "2030-01-01T00:01:40Z"}, Reason.EXPIRED, "spec.expiresAt"),
        ({"ttlSeconds": 100}, Reason.EXPIRED, "spec.ttlSeconds"),
    ],
)
def test_what_is_left_out(spec: dict[str, Any], reason: Reason, field: str) -> None:
    """A disabled limit and one whose time is over are not in the plan, and it can be told why."""
    parsed = written(**spec)
    assert not compiler.compile([parsed], now=NOW).entries
    problem = compiler.left_out(parsed, NOW)
    assert problem is not None
    assert (problem.reason, problem.field) == (reason, field)


@pytest.mark.parametrize("spec", [{}, {"mode": "Observe"}, {"expiresAt": "2030-01-01T00:01:41Z"}, {"ttlSeconds": 101}])
def test_what_is_not_left_out(spec: dict[str, Any]) -> None:
    """A limit is in the plan up to the last moment of its time."""
    assert compiler.left_out(written(**spec), NOW) is None
    assert compiler.compile([written(**spec)], now=NOW).entries


def test_a_limit_without_a_date_begins_now() -> None:
    """Where the time of creation is not known, it is the time of compiling."""
    entry = only(written(created=None, ttlSeconds=60))
    assert (entry.created_at, entry.expires_at) == (NOW, NOW + 60)
    assert only(written(created=None), now=NOW + 5).created_at == NOW + 5


NODES = [{"zone": "a"}, {"zone": "a"}, {"zone": "b"}, {}]
IN_ZONE_A = {"matchLabels": {"zone": "a"}}


@pytest.mark.parametrize(
    ("egress", "node_selector", "nodes", "expected"),
    [
        ({"rate": "8Mbit"}, None, NODES, 8_000_000),
        ({"rate": "8Mbit", "distribution": "SplitEvenly"}, None, NODES, 2_000_000),
        ({"rate": "8Mbit", "distribution": "SplitEvenly"}, IN_ZONE_A, NODES, 4_000_000),
        ({"rate": "8Mbit", "distribution": "SplitEvenly"}, {"matchLabels": {"zone": "c"}}, NODES, 8_000_000),
        ({"rate": "8Mbit", "distribution": "SplitEvenly"}, IN_ZONE_A, 5, 1_600_000),
        ({"rate": "8Mbit", "distribution": "SplitEvenly"}, None, 0, 8_000_000),
        ({"rate": "1Mbit", "distribution": "SplitEvenly"}, None, 3, 333_333),
        ({"rate": "64kbit", "distribution": "SplitEvenly"}, None, 5000, compiler.NODE_RATE_MIN),
    ],
)
def test_split_evenly(egress: dict[str, str], node_selector: Any, nodes: Any, expected: int) -> None:
    """The rate is divided by the number of nodes that the limit selects, down to a rate that still works."""
    parsed = written(egress=egress, nodeSelector=node_selector)
    assert only(parsed, nodes=nodes).rate_bits_per_second == expected


def test_entries_of_unchanged_limits_are_the_same_objects() -> None:
    """Compiling again gives equal plans of the same entries; another number of nodes changes only what is split."""
    plain, split = written("plain"), written("split", egress={"rate": "8Mbit", "distribution": "SplitEvenly"})
    memo = compiler.Memo()
    first, second = (compiler.compile([plain, split], now=NOW + i, nodes=2, memo=memo).entries for i in range(2))
    assert all(first[name] is second[name] for name in ("plain", "split"))
    third = compiler.compile([plain, split], now=NOW, nodes=4, memo=memo).entries
    assert third["plain"] is first["plain"]
    assert third["split"].rate_bits_per_second == 2_000_000


def test_entries_are_never_those_of_another_limit() -> None:
    """Limits that come and go at the same place in memory do not inherit anything."""
    for i in range(1, 200):
        assert only(written(egress={"rate": f"{i}Mbit"})).rate_bits_per_second == i * 1_000_000
        if i % 50 == 0:
            gc.collect()


def test_the_first_of_one_name_counts() -> None:
    """Two limits of one name give one entry."""
    plan = compiler.compile([written(priority=1), written(priority=2)], now=NOW)
    assert plan.entries["a"].priority == 1


def test_active() -> None:
    """A node enforces what selects it and is not over, in the order of the plan."""
    plan = compiler.compile(
        [
            written("everywhere"),
            written("zone-a", nodeSelector=IN_ZONE_A),
            written("zone-b", nodeSelector={"matchLabels": {"zone": "b"}}),
            written("short", ttlSeconds=200),
        ],
        now=NOW,
    )
    assert [e.limit for e in compiler.active(plan, {"zone": "a"}, NOW)] == ["everywhere", "zone-a", "short"]
    assert [e.limit for e in compiler.active(plan, {}, CREATED + 199.9)] == ["everywhere", "short"]
    assert [e.limit for e in compiler.active(plan, {}, CREATED + 200)] == ["everywhere"]


def test_next_expiry() -> None:
    """The next end is the earliest that is still to come."""
    plan = compiler.compile([written("a", ttlSeconds=200), written("b", ttlSeconds=300), written("c")], now=NOW)
    assert compiler.next_expiry(plan, NOW) == CREATED + 200
    assert compiler.next_expiry(plan, CREATED + 200) == CREATED + 300
    assert compiler.next_expiry(plan, CREATED + 300) is None


@pytest.mark.parametrize(
    ("operator", "values", "labels", "expected"),
    [
        ("In", ("a", "b"), {"zone": "b"}, True),
        ("In", ("a", "b"), {"zone": "c"}, False),
        ("In", ("a",), {}, False),
        ("NotIn", ("a",), {"zone": "a"}, False),
        ("NotIn", ("a",), {"zone": "b"}, True),
        ("NotIn", ("a",), {}, True),
        ("Exists", (), {"zone": ""}, True),
        ("Exists", (), {}, False),
        ("DoesNotExist", (), {"zone": "a"}, False),
        ("DoesNotExist", (), {}, True),
    ],
)
def test_selector_operators(operator: str, values: tuple[str, ...], labels: dict[str, str], expected: bool) -> None:
    """The operators mean what they mean in Kubernetes; NotIn holds where the label is missing."""
    assert selector.selects([SelectorTerm("zone", operator, values)], labels) is expected


def test_unknown_operators_are_bugs() -> None:
    """No plan holds an operator that is not understood, so none is silently true or false."""
    with pytest.raises(ValueError, match="Gt"):
        selector.selects([SelectorTerm("zone", "Gt", ("1",))], {})
