"""The budget of port ranges: what goes beyond is left out by name, the newest first, and nothing else is touched."""

from __future__ import annotations

import dataclasses

from bandwidth_agent import reconcile, settings
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.limits import Wanted
from bandwidth_agent.planner.admission import port_budget
from bandwidth_api.plan import PlanEntry, PortRange, Prefix
from unit.agent import worlds


def limit(name: str, created_at: float, *ports: int) -> PlanEntry:
    return dataclasses.replace(
        worlds.limit(0, 1_000_000),
        limit=name,
        clients=(Prefix(4, worlds.BASES[4], 32),),
        ports=tuple(PortRange("TCP", port, port) for port in ports),
        created_at=created_at,
    )


def test_what_fits_is_handed_on_as_it_came() -> None:
    """No copy is made where there is nothing to decide, so that what is remembered of the entries stays true."""
    entries = (limit("a", 1, 25), limit("b", 2))
    assert port_budget.sift(entries, 4) == (entries, {})
    assert port_budget.sift(entries, 4)[0] is entries


def test_the_newest_that_does_not_fit_is_left_out() -> None:
    """Older limits keep their room whatever a newer one asks for, and one that still fits behind it is taken."""
    old, greedy, small = limit("old", 1, 25, 465), limit("greedy", 2, 1, 3, 5, 7), limit("small", 3, 993)
    entries = (small, greedy, old)
    fitting, left_out = port_budget.sift(entries, 6)
    assert (fitting, left_out.keys()) == ((small, old), {"greedy"})


def test_the_same_ports_take_room_once() -> None:
    """A thousand limits for the same ports are no more rules than one."""
    entries = tuple(limit(f"limit-{number}", number, 25, 465, 993) for number in range(1_000))
    assert port_budget.sift(entries, 6) == (entries, {})


def test_limits_without_ports_always_fit() -> None:
    """They add no rule."""
    entries = (limit("a", 1, 1), limit("b", 2, 3), limit("everything", 3))
    fitting, left_out = port_budget.sift(entries, 2)
    assert (fitting, left_out.keys()) == ((entries[0], entries[2]), {"b"})


def test_a_limit_beyond_the_budget_is_told_so_and_the_others_are_in_force() -> None:
    """Its report names the budget, the field and what helps; limits without ports and older ones are not touched."""
    greedy = [limit(f"greedy-{n:05}", 10.0 + n, *range(1 + 14 * n, 14 + 14 * n, 2)) for n in range(1_500)]
    plain = dataclasses.replace(limit("plain", 1e9), clients=(Prefix(4, 0x0B00_0000, 8),))
    kernel = fake_kernel.FakeKernel()
    done = reconcile.Reconciler(kernel, settings.Settings(), clock=lambda: 0.0).run(Wanted((*greedy, plain)), read=True)
    left_out = {item.name: item for item in done.failing}
    room = port_budget.EDGES_MAX // 14
    assert left_out.keys() == {entry.limit for entry in greedy[room:]}
    item = left_out[greedy[-1].limit]
    assert (item.reason, item.field) == ("CapacityExceeded", "spec.egress.ports")
    assert f"{port_budget.EDGES_MAX:,}" in item.message
    assert kernel.trace(4, 0x0B00_0001, "UDP", 53, "eth0") != "unshaped"
    assert kernel.trace(4, worlds.BASES[4], "TCP", 1, "eth0") != "unshaped"
    assert kernel.trace(4, worlds.BASES[4], "TCP", greedy[-1].ports[0].first, "eth0") == "unshaped"
