"""The budget of overlaps with ports: what the tables hold at most, who goes without, and that all others are served."""

from __future__ import annotations

import copy
import dataclasses
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bandwidth_api.compiler.overlap import budget, resolve
from bandwidth_api.conditions import Reason
from bandwidth_api.plan import PlanEntry, PortRange, Prefix
from unit.api.compiler import oracle, test_oracle
from unit.api.compiler.test_overlap import entry

TEN = 10 << 24


def crossing(number: int, net: int = TEN, clients: int = 64, **more: Any) -> PlanEntry:
    """A network that all of these limits name and others in it, and seven ranges of ports that cross those of all."""
    choose = random.Random(number)
    starts = [1 + 9_000 * k + choose.randrange(5_000) for k in range(7)]
    ranges = tuple(PortRange("TCP", first, first + choose.randrange(4_000)) for first in starts)
    inside = [Prefix(4, net + ((number * 64 + k) % 65_536 << 8), 24) for k in range(clients - 1)]
    prefixes = [Prefix(4, net, 8), *inside]
    return entry(f"crossing-{number:04}", *prefixes, created_at=float(number), ports=ranges, **more)


HOSTILE = [crossing(number) for number in range(120)]


def port_entries(resolution: resolve.Resolution) -> int:
    return sum(len(table.entries) for table in resolution.tables if table.ports)


def test_the_newest_of_those_that_cross_go_without() -> None:
    """The oldest limits stay, as many as fit, and the tables are as if the others were not there."""
    resolution = resolve.resolve(HOSTILE)
    staying = [e for e in HOSTILE if e.limit not in resolution.left_out]
    assert 10 < len(staying) < len(HOSTILE)
    assert [e.limit for e in staying] == [e.limit for e in HOSTILE[: len(staying)]]
    alone = resolve.resolve(staying)
    assert (alone.tables, alone.classes, alone.left_out) == (resolution.tables, resolution.classes, {})
    one_more = HOSTILE[: len(staying) + 1]
    assert set(resolve.left_out(one_more)) == {one_more[-1].limit}


def test_what_is_changed_elsewhere_has_no_overlap_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """For several kinds of nodes in turn; the limits may have been read again, and the answer is the same."""
    counted: list[int] = []

    def count(claims: list[Any]) -> dict[str, Any]:
        counted.append(len(claims))
        return found(claims)

    found = budget.left_out
    monkeypatch.setattr(budget, "left_out", count)
    memo = resolve.Memo()
    kinds = [HOSTILE[:100], HOSTILE[10:]]
    before = [resolve.left_out(kind, memo) for kind in kinds]
    assert len(counted) == 2
    honest = entry("honest", Prefix(4, 203 << 24, 24))
    assert [resolve.left_out([*copy.deepcopy(kind), honest], memo) for kind in kinds] == before
    assert len(counted) == 2
    assert resolve.left_out(HOSTILE[:99], memo) != before[0]
    assert len(counted) == 3


def test_the_older_ones_stay_also_on_the_same_networks() -> None:
    """Where the same networks are named by all, the newer limits go, whose borders cut what the older ones hold."""
    same = [dataclasses.replace(crossing(n), clients=crossing(0).clients) for n in range(400)]
    beyond = resolve.left_out(same)
    staying = [e.limit for e in same if e.limit not in beyond]
    assert staying == [e.limit for e in same[: len(staying)]]
    assert 50 < len(staying) < 400


def test_the_reason_names_the_budget() -> None:
    """Who goes without is told the number, the budget, the field and what to write instead."""
    problem = resolve.left_out(HOSTILE)["crossing-0119"]
    assert (problem.reason, problem.field) == (Reason.OVERLAP_BUDGET, "spec.egress.ports")
    assert f"the budget of {budget.SHARED:,}" in problem.message
    assert "write fewer clients or port ranges" in problem.message


@pytest.mark.parametrize(
    "honest",
    [
        entry("honest", "192.0.2.7", created_at=1e9),
        entry("honest", "192.0.2.7", created_at=1e9, dialled=["993"]),
        entry("honest", "192.0.2.0/24", created_at=1e9, dialled=["1-65535"]),
        entry("honest", "10.3.2.1", created_at=1e9),
        entry("honest", "10.3.2.1", created_at=1e9, dialled=["993", "587"]),
        crossing(9999, net=11 << 24, clients=8),
    ],
    ids=["elsewhere", "a port elsewhere", "all ports elsewhere", "inside", "two ports inside", "crossing elsewhere"],
)
def test_others_are_served(honest: PlanEntry) -> None:
    """The newest limit of all is in the tables where it overlaps nothing, has no ports, or little of them."""
    resolution = resolve.resolve([*HOSTILE, honest])
    assert honest.limit not in resolution.left_out
    assert any(key.limit == honest.limit for key in resolution.classes)


def test_holes_count() -> None:
    """Limits with ports around many limits without are left out when the holes would be too many."""
    inside = [entry(f"in-{i}", Prefix(4, TEN + i, 32)) for i in range(20_000)]
    around = [entry(f"w-{i}", Prefix(4, TEN, 8), created_at=float(i), dialled=[str(1 + i)]) for i in range(20)]
    resolution = resolve.resolve([*inside, *around])
    assert set(resolution.left_out) == {f"w-{i}" for i in range(6, 20)}
    assert port_entries(resolution) == 6 * 20_001


def test_a_limit_goes_without_in_both_families() -> None:
    """What one family cannot hold is in no table of the other one, and in `classes` neither."""
    both = [
        entry(e.limit, *e.clients, Prefix(6, (0x20010DB8 << 96) + n, 128), ports=e.ports, created_at=e.created_at)
        for n, e in enumerate(HOSTILE)
    ]
    resolution = resolve.resolve(both)
    assert resolution.left_out
    assert not {key.limit for key in resolution.classes} & set(resolution.left_out)


def test_left_out_limits_come_back() -> None:
    """When older limits end, the next ones take their place."""
    before = resolve.resolve(HOSTILE)
    after = resolve.resolve(HOSTILE[60:])
    assert after.left_out.keys() < before.left_out.keys()
    assert after == resolve.resolve(HOSTILE[60:])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(test_oracle.document_lists, st.integers(0, 6), st.integers(0, 2))
def test_the_tables_keep_to_the_budget(
    monkeypatch: pytest.MonkeyPatch, written: tuple[oracle.Document, ...], shared: int, free: int
) -> None:
    """No more entries than a budget of any size says, and for those who stay the tables pick the winner."""
    monkeypatch.setattr(budget, "SHARED", shared)
    monkeypatch.setattr(budget, "FREE", free)
    in_force = test_oracle.entries(written)
    resolution = resolve.resolve(in_force)
    assert resolution.left_out == resolve.left_out(in_force[::-1])
    staying = [e for e in in_force if e.limit not in resolution.left_out]
    assert all(e.ports for e in in_force if e.limit in resolution.left_out)
    for family in (4, 6):
        own = sum(
            free + sum(p.family == family for p in (*e.clients, *e.excepted))
            for e in staying
            if e.ports and any(p.family == family for p in e.clients)
        )
        tables = [table for table in resolution.tables if table.family == family and table.ports]
        assert sum(len(table.entries) for table in tables) <= own + shared
    expected = [rule for rule in test_oracle.rules(written) if rule.name not in resolution.left_out]
    for packet in test_oracle.PACKETS:
        assert oracle.looked_up(packet, resolution) == oracle.winner(packet, expected), packet
