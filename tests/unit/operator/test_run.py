"""What is done by a replica that does not learn what happens, and at the beginning of a term."""

from __future__ import annotations

import dataclasses
from typing import Any

from bandwidth_api.crds import slices
from bandwidth_api.plan import Plan
from bandwidth_kube import client
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.commands import run
from bandwidth_operator.election import fence, lease
from bandwidth_operator.election.lease_thread import LeaseThread
from bandwidth_operator.election.token_bucket import TokenBucket
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.publish import planning, slicing
from bandwidth_operator.publish.publisher import Publisher
from bandwidth_operator.reporting import health
from bandwidth_operator.reporting.metrics import Metrics
from unit.operator import examples
from unit.operator.election.test_lease import Server


def test_a_deaf_leader_lets_another_replica_take_the_lease() -> None:
    """It gives the Lease up, does not take it back for a moment, says so, and stands by like any other then."""
    now = [1000.0]
    server = Server(now)
    held, other = (lease.Lease(server, "ns", f"{name}_1", lambda: now[0]) for name in ("deaf", "other"))
    signs = health.Health(clock=lambda: now[0])
    keeper = LeaseThread(held, signs, clock=lambda: now[0])
    held.turn()
    signs.heard()
    run._stand_aside(held, keeper, signs, "the watch of limits brings nothing")
    assert held.fence is None
    assert signs.ready() == (False, "standing aside: the watch of limits brings nothing")
    assert signs.healthy().good
    keeper.turn()
    assert held.fence is None
    now[0] += 1.0
    assert other.turn() is not None
    other.release()
    now[0] += run.ASIDE_SECONDS
    keeper.turn()
    assert held.fence is not None
    assert signs.ready() == (True, "standing by")


def test_no_limit_is_split_by_fewer_nodes_before_all_had_the_time_to_report() -> None:
    """A leader that begins where states were deleted keeps each share for a moment; a lower one counts at once."""
    limits = {name: examples.limit(name, **_split(rate)) for name, rate in (("a", "30Mbit"), ("b", "3Mbit"))}
    limits["plain"] = examples.limit("plain", egress={"rate": "9Mbit"})
    nodes = {f"n{n}": examples.node(f"n{n}") for n in range(3)}
    states = {"n0": examples.state("n0", "d")}
    snapshot = objects.Snapshot(limits, nodes, {}, states)
    entries = [examples.entry(name, rate_bits_per_second=10_000_000) for name in ("a", "b", "plain")]
    written = slices.make("plan-00000", [dataclasses.replace(e, created_at=examples.CREATED) for e in entries])

    def rates(*, settled: bool) -> dict[str, int]:
        plan = planning.plan_of(snapshot, {written.name: written}, examples.NOW, settled=settled).plan
        return {name: entry.rate_bits_per_second for name, entry in plan.entries.items()}

    assert rates(settled=False) == {"a": 10_000_000, "b": 3_000_000, "plain": 9_000_000}
    assert rates(settled=True) == {"a": 30_000_000, "b": 3_000_000, "plain": 9_000_000}


def _split(rate: str) -> dict[str, object]:
    return {"egress": {"rate": rate, "distribution": "SplitEvenly"}}


def test_a_plan_of_many_slices_is_no_sign_of_a_stuck_operator() -> None:
    """An API server that takes a second for each write: the thread has turned before each, however many there are."""
    now = [0.0]
    signs = health.Health(clock=lambda: now[0])
    signs.acting(dict)

    class Slow(client.Client):
        def __init__(self) -> None:
            self.seen: list[bool] = []

        def request(self, method: str, path: str, **options: Any) -> client.Object:
            now[0] += 1.0
            signs.turned("lease")
            self.seen.append(signs.healthy().good)
            metadata = options["body"]["metadata"] | {"uid": path, "resourceVersion": "7"}
            return {**options["body"], "metadata": metadata}

    api, cache = Slow(), Cache()
    writer = Writer(api, fence.Fence(1, fence.boot_clock() + 600), TokenBucket(1e6, 1e6), Metrics())
    entries = {name: examples.entry(name) for name in (f"limit-{number}" for number in range(200))}
    steps = slicing.steps(Plan(entries), {}, term=1, size=2)
    publisher = Publisher(api, writer, cache, lambda: signs.turned("term"))
    assert publisher.carry_out(steps, {})
    assert len(api.seen) == 101
    assert all(api.seen)
