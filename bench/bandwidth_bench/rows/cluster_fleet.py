"""10,000 limits in one go at 100 nodes, and a restart of all their agents at once.

The agents are simulated: they list, watch, decode and report as real ones do, each over connections and with a token
of its own, and have no kernel. They share the cores with the API server, etcd and the operator, which in a real cluster
have machines of their own.
"""

from __future__ import annotations

import concurrent.futures
import functools
import statistics
from collections.abc import Sequence

from bandwidth_bench import cluster, stage
from bandwidth_bench.cluster import Cluster, Operator
from bandwidth_bench.figures import Figure
from bandwidth_bench.rows.cluster_operator import COUNT, figure
from bandwidth_lab.simulated_fleet import Fleet
from bandwidth_operator.commands import options, run

AGENTS = 100
QUICK_AGENTS, QUICK_COUNT = 20, 1_000
RESTART_ROUNDS, EDIT_ROUNDS = 3, 5
BETWEEN_EDITS_SECONDS = 12.0  # longer than the longest spacing of reports
WRITES_PER_SECOND, WRITE_BURST = options.DEFAULTS.writes_per_second, run.WRITE_BURST  # the operator's own bounds
SAMPLE_SECONDS = 1.0
WINDOW_SECONDS = 5.0
PATIENCE_SECONDS = 600.0
SETTLE_SECONDS = 5.0


def measure(extent: stage.Extent) -> list[Figure]:
    """Both in one cluster."""
    count, agents = (QUICK_COUNT, QUICK_AGENTS) if extent.quick else (COUNT, AGENTS)
    with cluster.running() as of:
        fleet = Fleet(of.agent_kubeconfigs([f"node-{n:03}" for n in range(agents)]))
        try:
            operator = of.operator("operator")
            cluster.until(lambda: operator.get("/readyz") == "acting\n", "the operator is ready")
            cluster.until(lambda: len(of.items(cluster.STATES)) == agents, "all agents report")
            found = _bulk(of, operator, fleet, count)
            stage.pause(SETTLE_SECONDS)
            found += _sizes(of, count)
            found += _edits(of, operator, fleet, extent.rounds(EDIT_ROUNDS))
            found += _restarts(of, fleet, extent.rounds(RESTART_ROUNDS))
            errors = fleet.count().errors
        finally:
            fleet.close()
    if errors:
        raise RuntimeError(f"agents met errors: {errors}")
    return found


# ── all limits in one go ───────────────────────────────────────────────────────────────────────────────────────


def _bulk(of: Cluster, operator: Operator, fleet: Fleet, count: int) -> list[Figure]:
    """From the first request that creates a limit until every limit's status says Ready."""
    before, cpu, operator_cpu = of.metrics(), of.api_cpu_seconds(), operator.cpu_seconds()
    start = cluster.now()
    samples: list[tuple[float, float]] = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        filling = pool.submit(of.fill, range(count))
        while not _all_ready(of, operator, count):
            samples.append((cluster.since(start), operator.get_metric("bandwidth_operator_writes_total")))
            if cluster.since(start) > PATIENCE_SECONDS:
                ready = of.statuses_ready()
                raise TimeoutError(f"{ready} of {count} limits are Ready after {cluster.since(start):.0f} s")
            stage.pause(SAMPLE_SECONDS)
        seconds, created = cluster.since(start), filling.result()
    after = of.metrics()
    counted = cluster.writes(before, after)
    stage.say(f"writes: {counted}; operator CPU {operator.cpu_seconds() - operator_cpu:.0f} s")
    what = f"{count:,} limits in one go, {len(fleet.nodes)} agents"
    bound = WRITES_PER_SECOND + WRITE_BURST / WINDOW_SECONDS
    return [
        figure(f"{what}: until all are Ready", (seconds,), "s", high=120.0),
        figure(f"{what}: creating them alone, over {cluster.WRITERS} connections", (created,), "s"),
        figure(
            f"{what}: the operator's writes per second, most in {WINDOW_SECONDS:g} s", (_most(samples),), high=bound
        ),
        figure(f"{what}: status writes for each limit", (counted["clientbandwidthlimits/status"] / count,)),
        figure(f"{what}: slice writes", (counted["bandwidthplanslices"],)),
        figure(f"{what}: reports for each agent", (counted["nodebandwidthstates/status"] / len(fleet.nodes),)),
        figure(f"{what}: requests refused with 429", (cluster.refused(before, after),), high=0.0),
        figure(f"{what}: CPU of API server and etcd", (of.api_cpu_seconds() - cpu,), "s"),
        figure(f"{what}: CPU of the operator", (operator.cpu_seconds() - operator_cpu,), "s"),
        figure(f"{what}: memory of the operator, largest", (operator.peak_mib(),), "MiB", high=250.0),
    ]


def _all_ready(of: Cluster, operator: Operator, count: int) -> bool:
    """What the operator counts is looked at first, because asking for all limits is no small request."""
    seen = operator.metrics()
    waiting = cluster.total(seen, "bandwidth_operator_statuses_waiting")
    ready = cluster.total(seen, "bandwidth_operator_limits", reason="Ready")
    return ready >= count and not waiting and of.statuses_ready() == count


def _most(samples: Sequence[tuple[float, float]]) -> float:
    """Writes per second in the busiest window."""
    spans = [
        (late_count - early_count) / (late - early)
        for number, (early, early_count) in enumerate(samples)
        for late, late_count in samples[number:]
        if WINDOW_SECONDS <= late - early <= 2 * WINDOW_SECONDS
    ]
    return max(spans, default=0.0)


def _sizes(of: Cluster, count: int) -> list[Figure]:
    """What the objects weigh as JSON, as a watch brings them, and what etcd holds of all that was written."""
    kinds = {"a limit with its status": cluster.LIMITS, "a slice": cluster.SLICES, "a node state": cluster.STATES}
    found = [
        figure(f"size of {what}", (statistics.median(map(cluster.object_bytes, of.items(path))) / 1e3,), "kB")
        for what, path in kinds.items()
    ]
    size = cluster.total(of.metrics(), "apiserver_storage_size_bytes") / 2**20
    return [*found, figure(f"etcd after {count:,} limits in one go, before any compaction", (size,), "MiB")]


# ── one edit ───────────────────────────────────────────────────────────────────────────────────────────────────


def _edits(of: Cluster, operator: Operator, fleet: Fleet, rounds: int) -> list[Figure]:
    """One edit with the whole fleet at rest, until every agent has reported it; and what that costs the others."""
    reported, ready, api, own = [], [], [], []
    for number in range(rounds):
        stage.pause(BETWEEN_EDITS_SECONDS)
        (digest,) = fleet.count().reported
        path = f"{cluster.LIMITS}/{cluster.limit_name(number * 7)}"
        api_cpu, operator_cpu, start = of.api_cpu_seconds(), operator.cpu_seconds(), cluster.now()
        of.edit(number * 7, f"{6 + number}Mbit")
        cluster.until(functools.partial(_all_left, fleet, digest), "every agent has reported the edit")
        reported.append(cluster.since(start))
        cluster.until(lambda path=path: cluster.is_ready(of.api.request("GET", path)), "the limit is Ready")  # type: ignore[misc]
        ready.append(cluster.since(start))
        stage.pause(SETTLE_SECONDS)
        api.append((of.api_cpu_seconds() - api_cpu) * 1e3 / len(fleet.nodes))
        own.append((operator.cpu_seconds() - operator_cpu) * 1e3 / len(fleet.nodes))
    what = f"one edit, {len(fleet.nodes)} agents"
    return [
        figure(f"{what}: until each has reported it", tuple(reported), "s"),
        figure(f"{what}: until its status says Ready", tuple(ready), "s"),
        figure(f"{what}: CPU of API server and etcd for each agent", tuple(api), "ms"),
        figure(f"{what}: CPU of the operator for each agent", tuple(own), "ms"),
    ]


# ── all agents restarted at once ───────────────────────────────────────────────────────────────────────────────


def _restarts(of: Cluster, fleet: Fleet, rounds: int) -> list[Figure]:
    """All end and begin in the same moment, without any jitter; over when each has the plan and has reported it."""
    seconds, refused, stored, cached, cpu = [], [], [], [], []
    for _ in range(rounds):
        before, used, start = of.metrics(), of.api_cpu_seconds(), cluster.now()
        fleet.restart()
        cluster.until(lambda: _all_reported(fleet), "every agent has reported the plan", pause=0.25)
        seconds.append(cluster.since(start))
        after = of.metrics()
        refused.append(cluster.refused(before, after))
        stored.append(cluster.delta(before, after, "apiserver_storage_list_total", resource="bandwidthplanslices"))
        cached.append(cluster.delta(before, after, "apiserver_cache_list_total", resource="bandwidthplanslices"))
        cpu.append(of.api_cpu_seconds() - used)
        stage.pause(SETTLE_SECONDS)
    what = f"all {len(fleet.nodes)} agents restarted at once"
    return [
        figure(f"{what}: until each has reported the plan", tuple(seconds), "s"),
        figure(f"{what}: requests refused with 429", tuple(refused), high=0.0),
        figure(f"{what}: lists of slices served from the watch cache", tuple(cached), low=float(len(fleet.nodes))),
        figure(f"{what}: lists of slices served from etcd, the operator's own included", tuple(stored)),
        figure(f"{what}: CPU of API server and etcd", tuple(cpu), "s"),
    ]


def _all_left(fleet: Fleet, digest: str) -> bool:
    """Whether all agents have reported one plan, and another one than that."""
    reported = fleet.count().reported
    return digest not in reported and len(reported) == 1


def _all_reported(fleet: Fleet) -> bool:
    counted = fleet.count()
    return counted.reported.get("", 0) == 0 and len(counted.reported) == 1
