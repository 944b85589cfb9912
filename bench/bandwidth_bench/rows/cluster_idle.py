"""Ten minutes without any change, with 10,000 limits and 10 nodes: what is written, what the operator uses.

Writes are counted by the API server itself, so none is missed.
"""

from __future__ import annotations

from bandwidth_bench import cluster, stage
from bandwidth_bench.figures import Figure
from bandwidth_bench.rows.cluster_operator import COUNT, figure
from bandwidth_lab.simulated_fleet import Fleet

AGENTS = 10
QUICK_COUNT = 1_000
SECONDS, QUICK_SECONDS = 600.0, 60.0
REPORT_INTERVAL_SECONDS = 300  # the agents' own
SETTLE_SECONDS = 20.0


def measure(extent: stage.Extent) -> list[Figure]:
    """One long look."""
    count, seconds = (QUICK_COUNT, QUICK_SECONDS) if extent.quick else (COUNT, SECONDS)
    with cluster.running() as of:
        kubeconfigs = of.agent_kubeconfigs([f"node-{n:03}" for n in range(AGENTS)])
        fleet = Fleet(kubeconfigs, report_interval_seconds=REPORT_INTERVAL_SECONDS)
        try:
            operator = of.operator("operator")
            stage.say(f"{count:,} limits in {of.fill(range(count)):.0f} s")
            cluster.until(lambda: of.statuses_ready() == count, "all limits are Ready", pause=2.0)
            cluster.until(lambda: not operator.get_metric("bandwidth_operator_statuses_waiting"), "nothing waits")
            _wait_for_events(of)
            stage.pause(SETTLE_SECONDS)
            before, reports, cpu = of.metrics(), fleet.count().reports, operator.cpu_seconds()
            api_cpu, start = of.api_cpu_seconds(), cluster.now()
            stage.pause(seconds)
            used, api_used = operator.cpu_seconds() - cpu, of.api_cpu_seconds() - api_cpu
            passed, after = cluster.since(start), of.metrics()
            reported = fleet.count().reports - reports
            resident = operator.resident_mib()
        finally:
            fleet.close()
    counted = cluster.writes(before, after)
    stage.say(f"writes in {passed:.0f} s: {counted}")
    lease = counted.pop("leases", 0.0)
    states = counted.pop("nodebandwidthstates/status", 0.0)
    # What the API server writes for itself, and would without us.
    own = sum(counted.pop(name, 0.0) for name in ("apiservices/status", "endpointslices", "endpoints", "configmaps"))
    what = f"idle for {passed / 60:.0f} min, {count:,} limits, {AGENTS} agents"
    return [
        figure(f"{what}: writes but Lease and reports", (sum(counted.values()),), high=0.0),
        figure(f"{what}: CPU of the operator", (used / passed * 100,), "%", high=1.0),
        figure(f"{what}: writes of Leases, the API server's own among them", (lease + own,)),
        figure(f"{what}: reports of the agents", (max(states, reported),)),
        figure(f"{what}: CPU of API server and etcd", (api_used / passed * 100,), "%"),
        figure(f"{what}: memory of the operator", (resident,), "MiB"),
    ]


def _wait_for_events(of: cluster.Cluster) -> None:
    """Events are told when there is room, after everything else: wait until the last one is."""
    seen = -1
    while (count := len(of.items("/api/v1/namespaces/default/events"))) != seen:
        seen = count
        stage.pause(3.0)
