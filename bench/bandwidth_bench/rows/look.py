"""What it costs to look whether limits hold, beside a pass that reads the kernel back."""

from __future__ import annotations

import functools
import time

from bandwidth_agent import reconcile
from bandwidth_agent.kernel.linux import real
from bandwidth_agent.limits import Wanted
from bandwidth_agent.settings import Settings
from bandwidth_agent.sight.truth import schedule
from bandwidth_api import addresses, plan
from bandwidth_bench import limits, stage
from bandwidth_bench.figures import Figure, ratios
from bandwidth_lab import TcpFlow, pair

COUNTS = (100, 10_000)
QUICK_COUNTS = (100, 1_000)
RATE = 5_000_000
LOOKS = 3  # that an agent makes in a row, before it waits for the time that they cost


def measure(extent: stage.Extent) -> list[Figure]:
    """Milliseconds on a core of one look, while others receive as fast as they can, by number of limits."""
    found = []
    for count in QUICK_COUNTS if extent.quick else COUNTS:
        stage.say(f"{count:,} limits")
        with pair(prefix=stage.PREFIX) as network, TcpFlow(network.server, network.clients[0]):
            looks, passes = network.server.namespace.call(functools.partial(_measure, _entries(count)))
        case = {"what": "a look", "limits": f"{count:,}"}
        every = [max(schedule.UNVERIFIED_SECONDS, look / 1e3 / schedule.CORE_SHARE) for look in looks]
        found += [
            Figure(case, "CPU", tuple(looks), "ms"),
            Figure(case, "÷ a read-back", ratios(looks, passes), "", high=1.0),
            Figure(case, "at most every", tuple(every), "s"),
        ]
    return found


def _entries(count: int) -> tuple[plan.PlanEntry, ...]:
    return tuple(
        plan.PlanEntry(
            limit=limit.name,
            uid="",
            generation=1,
            clients=tuple(addresses.parse(client) for client in limit.clients),
            excepted=(),
            ports=(),
            rate_bits_per_second=RATE,
            burst_bytes=None,
            mode=plan.Mode.ENFORCE,
            sharing=plan.Sharing.SHARED,
            priority=0,
            created_at=0.0,
            expires_at=None,
            node_selector=(),
        )
        for limit in limits.many(count)
    )


def _measure(entries: tuple[plan.PlanEntry, ...]) -> tuple[list[float], list[float]]:
    """Milliseconds of the thread in looks, and in passes with a read-back, in turns."""
    kernel = real.RealKernel()
    try:
        agent = reconcile.Reconciler(kernel, Settings())
        agent.run(Wanted(entries), read=True)
        looks: list[float] = []
        passes: list[float] = []
        for _ in range(LOOKS):
            spent = 0.0
            for _ in ("it opens", "it closes"):
                stage.pause(max(0.0, (agent.truth.due or 0.0) - time.monotonic()))
                began = time.thread_time()
                agent.truth.turn()
                spent += time.thread_time() - began
            looks.append(spent * 1e3)
            began = time.thread_time()
            agent.run(Wanted(entries), read=True)
            passes.append((time.thread_time() - began) * 1e3)
        return looks, passes
    finally:
        kernel.close()
