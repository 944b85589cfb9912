"""A question who gets how much, to 100 simulated nodes: first rows, the picture against the truth, what it costs.

The agents are the real reporters over samples of traffic that nobody sends, all in this process, so their own CPU is
in none of the figures. 4,000 clients by Zipf's law, each from two nodes.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence

from bandwidth_bench import cluster, stage
from bandwidth_bench.cluster import Cluster, Object, Operator
from bandwidth_bench.figures import Figure
from bandwidth_bench.rows.cluster_operator import figure
from bandwidth_kube import client, connection
from bandwidth_lab import simulated_sight
from bandwidth_lab.simulated_agents import SimulatedAgent
from bandwidth_lab.simulated_sight import SimulatedSight, Ticker

NODES, QUICK_NODES = 100, 20
CLIENTS = 4000
LARGEST_BITS_PER_SECOND = 4e9
TOP = 20
ROUNDS = 3
SEEN_SECONDS, COST_SECONDS = 14, 20.0
LIFE_SECONDS = 60.0
RENEW_SECONDS, POLL_SECONDS, PATIENCE_SECONDS = 15.0, 0.1, 120.0


def measure(extent: stage.Extent) -> list[Figure]:
    """One question after the other, in one cluster without limits."""
    count = QUICK_NODES if extent.quick else NODES
    sights = simulated_sight.by_zipf(count, CLIENTS, LARGEST_BITS_PER_SECOND, random.Random(1))
    with cluster.running() as of:
        kubeconfigs = of.agent_kubeconfigs([f"node-{n:03}" for n in range(count)])
        operator = of.operator("operator")
        agents = [
            SimulatedAgent(connection.load(kubeconfigs[name]), name, sight=sight)
            for name, sight in zip(sorted(kubeconfigs), sights, strict=True)
        ]
        ticker = Ticker(sights)
        try:
            for agent in agents:
                agent.start()
            cluster.until(lambda: len(of.items(cluster.STATES)) == count, "all nodes report")
            rounds = [_round(of, sights, count) for _ in range(extent.rounds(ROUNDS))]
            cost = _cost(of, operator, count)
            ends = _end(of, sights)
        finally:
            ticker.close()
            for agent in agents:
                agent.stop()
    first, everybody, found, errors, reports, statuses = map(tuple, zip(*rounds, strict=True))
    what = f"a question to {count} nodes"
    return [
        figure(f"{what}: until its first rows", first, "s", high=4.0),
        figure(f"{what}: until all nodes are in the answer", everybody, "s"),
        figure(f"{what}: of the true top 20 in the answer's", found, low=float(TOP)),
        figure(f"{what}: largest error of a rate over 10 s", errors, "%", high=5.0),
        figure(f"{what}: largest report", reports, "kB", high=1.5),
        figure(f"{what}: status", statuses, "kB", high=8.0),
        *cost,
        figure(f"{what}: from the last renewal until nothing is left", (ends,), "s", high=LIFE_SECONDS),
    ]


def _round(of: Cluster, sights: Sequence[SimulatedSight], count: int) -> tuple[float, ...]:
    """Ask, wait for ten seconds of samples, compare, and ask no more."""
    began = _ask(of)
    _until(of, lambda: _answer(of).get("rows"), "the first rows")
    first = cluster.since(began)
    _until(of, lambda: _answer(of)["nodes"]["answered"] == count, "all nodes answer")
    everybody = cluster.since(began)
    said: Object = {}

    def is_whole() -> bool:
        said.clear()
        said.update(_answer(of))
        return bool(said["seconds"] >= SEEN_SECONDS and said["nodes"]["answered"] == count)

    _until(of, is_whole, "ten seconds of all nodes were seen")
    truth = simulated_sight.largest(sights, TOP)
    rates = {row["client"]: row["bitsPerSecond"][1] for row in said["rows"]}
    common = truth.keys() & rates.keys()
    worst = max(abs(rates[each] / truth[each] - 1) * 100 for each in common)
    largest = max(_kilobytes(item["status"]) for item in of.items(cluster.TRAFFIC))
    of.api.request("DELETE", f"{cluster.QUERIES}/look")
    cluster.until(lambda: not of.items(cluster.TRAFFIC), "no report is left")
    return first, everybody, float(len(common)), worst, largest, _kilobytes(said)


def _cost(of: Cluster, operator: Operator, count: int) -> list[Figure]:
    """What operator and API server use while somebody looks, and how often the nodes report."""
    _ask(of)
    _until(of, lambda: _answer(of).get("seconds", 0) >= 4, "the nodes have looked for a while")
    before, cpu, api_cpu, start = of.metrics(), operator.cpu_seconds(), of.api_cpu_seconds(), cluster.now()
    stage.pause(COST_SECONDS)
    passed = cluster.since(start)
    used, api_used = operator.cpu_seconds() - cpu, of.api_cpu_seconds() - api_cpu
    counted = cluster.writes(before, of.metrics())
    reports = counted.get("nodeclienttraffics/status", 0.0)
    stage.say(f"writes in {passed:.0f} s: {counted}")
    what = f"while somebody asks {count} nodes"
    return [
        figure(f"{what}: reports per second", (reports / passed,), high=50.5),
        figure(f"{what}: CPU of the operator", (used / passed * 100,), "%"),
        figure(f"{what}: CPU of API server and etcd for each report", (api_used / max(1.0, reports) * 1000,), "ms"),
    ]


def _end(of: Cluster, sights: Sequence[SimulatedSight]) -> float:
    """Renew once more, and then no more; seconds until no node looks, and no report and no question is left."""
    _renew(of)
    renewed = cluster.now()
    gone = "nothing is left"
    cluster.until(lambda: not of.items(cluster.QUERIES) and not of.items(cluster.TRAFFIC), gone, pause=POLL_SECONDS)
    cluster.until(lambda: not any(sight.open for sight in sights), "nobody looks")
    return cluster.since(renewed)


def _until(of: Cluster, condition: Callable[[], object], what: str) -> None:
    """Renew the question until the answer is as it should be."""
    renewed = cluster.now()

    def asked() -> object:
        nonlocal renewed
        if cluster.since(renewed) > RENEW_SECONDS:
            _renew(of)
            renewed = cluster.now()
        return condition()

    cluster.until(asked, what, PATIENCE_SECONDS, POLL_SECONDS)


def _renew(of: Cluster) -> None:
    body = {"spec": {"renewal": time.monotonic_ns() >> 20}}
    of.api.request("PATCH", f"{cluster.QUERIES}/look", body=body, content_type=client.MERGE_PATCH)


def _ask(of: Cluster) -> float:
    body = {
        "apiVersion": "clientbandwidth.io/v1alpha1",
        "kind": "ClientTrafficQuery",
        "metadata": {"name": "look"},
        "spec": {"top": TOP},
    }
    of.api.request("POST", cluster.QUERIES, body=body)
    return cluster.now()


def _answer(of: Cluster) -> Object:
    return dict(of.api.request("GET", f"{cluster.QUERIES}/look").get("status") or {})


def _kilobytes(status: Object) -> float:
    return len(json.dumps(status, separators=(",", ":")).encode()) / 1000
