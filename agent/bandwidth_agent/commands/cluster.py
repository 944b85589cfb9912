"""`run` as a node of a cluster: wires the readers, the plan on disk, the loop and the reporter together.

Owns the order in which they start and end. A thread that ends by an error ends the process: shaping goes on without
it, and whoever started it starts it again.
"""

from __future__ import annotations

import contextlib
import random
import time

import structlog

from bandwidth_agent import cluster_health, health, loop, reconcile, reporter
from bandwidth_agent.commands import host, parts
from bandwidth_agent.commands import run as running
from bandwidth_agent.commands.options import Options
from bandwidth_agent.kernel import interface
from bandwidth_agent.source import cluster, cluster_reader, stored_plan
from bandwidth_api import names, slices
from bandwidth_kube import client, connection

SLICES = f"/apis/{names.GROUP}/{names.VERSION}/{slices.PLURAL}"
NODES = "/api/v1/nodes"
# All nodes of a cluster may begin at once, or need a new list at once: they come apart in proportion to a list's size.
JITTER_SECONDS_PER_SLICE = 0.05
JITTER_MAX_SECONDS = 10.0
CONNECTIONS = 3  # two watches and the reports

log = structlog.get_logger("run")


def run(options: Options) -> int:
    """Follow the plan of a cluster; returns the exit code of the process."""
    node = options.node_name
    if not node:
        return host.fail(
            "which Node is this? Name it with --node-name or in NODE_NAME; without a cluster, name a directory "
            "with --manifests"
        )
    try:
        where = connection.load(options.kubeconfig)
        api = client.Client(where, f"bandwidth-agent/{parts.version()} {node}", connections=CONNECTIONS)
    except connection.NoConnectionError as error:
        return host.fail(f"{error}; without a cluster, name a directory with --manifests")
    with contextlib.closing(api), running.node(options) as (kernel, reconciler):
        if options.once:
            return _once(api, node, reconciler, options)
        vitals = health.Health(time.monotonic())
        bell = cluster.Bell()
        store = stored_plan.Store(options.state_dir, node, bell.crashed)
        stored = store.load()
        wants = cluster.Cluster(node, stored, store, lambda: _in_force(kernel), bell)
        listener = cluster_health.ClusterHealth(vitals, bell.crashed)
        report = _reporter(api, node, listener, options)
        readers = _readers(api, node, wants, report, listener, stored)
        turning = running.follower(wants, kernel, reconciler, vitals, options, told=report)
        log.info("started", node=node, server=where.server, version=parts.version(), plan_on_disk=stored is not None)
        for thread in (*readers, report):
            thread.start()
        try:
            return running.follow(turning, reconciler, vitals, options, listener.way)
        except cluster.CrashError as error:
            log.error("ended; the limits stay in force", why=str(error), exc_info=error.__cause__)
            return host.FAILED
        finally:
            for thread in (*readers, report):
                thread.stop()
            store.close()


def _once(api: client.Client, node: str, reconciler: reconcile.Reconciler, options: Options) -> int:
    """One list, one pass, one report."""
    bell = cluster.Bell()
    store = stored_plan.Store(options.state_dir, node, bell.crashed)
    wants = cluster.Cluster(node, None, store, frozenset, bell)
    listener = cluster_health.ClusterHealth(health.Health(time.monotonic()), bell.crashed)
    report = _reporter(api, node, listener, options)
    of_node, of_slices = _readers(api, node, wants, report, listener, None)
    try:
        wants.node_read(of_node.once())
        wants.slices_read(of_slices.once())
    except client.ApiError as error:
        return host.fail(f"the plan cannot be read: {error}")
    code = running.once(loop.Loop(wants, reconciler, told=report), options)
    store.close()
    try:
        report.once()
    except client.ApiError as error:
        return host.fail(f"this node's state cannot be written: {error}")
    return code


def _readers(
    api: client.Client,
    node: str,
    wants: cluster.Cluster,
    report: reporter.Reporter,
    listener: cluster_health.ClusterHealth,
    stored: stored_plan.Stored | None,
) -> tuple[cluster_reader.Reader[cluster.NodeFacts], cluster_reader.Reader[slices.Decoded]]:
    def jitter_seconds() -> float:
        return min(wants.slice_count * JITTER_SECONDS_PER_SLICE, JITTER_MAX_SECONDS)

    def node_read(reading: cluster_reader.Reading[cluster.NodeFacts]) -> None:
        wants.node_read(reading)
        if node in reading.items:
            report.node_is(reading.items[node].uid)

    # With a plan on disk nothing is lost by waiting a little; without one every moment counts.
    pause = random.uniform(0.0, jitter_seconds()) if stored is not None else 0.0  # noqa: S311
    of_node = cluster_reader.Collection(
        name="node",
        path=NODES,
        decode=_node_facts,
        query={"fieldSelector": f"metadata.name={node}"},
        accept=client.METADATA,
        accept_watch=client.METADATA_WATCH,
        # Labels change rarely, and nobody waits for them: fewer, longer watches, noticed when a bookmark stays away.
        watch_seconds=600,
        silence_seconds=75.0,
    )
    of_slices = cluster_reader.Collection(name="slices", path=SLICES, decode=cluster.decoded)
    return (
        cluster_reader.Reader(api, of_node, node_read, listener, first_pause_seconds=pause),
        cluster_reader.Reader(
            api,
            of_slices,
            wants.slices_read,
            listener,
            not_older_than=stored.resource_version if stored is not None else "",
            known=stored.slices if stored is not None else None,
            first_pause_seconds=pause,
            jitter_seconds=jitter_seconds,
        ),
    )


def _reporter(
    api: client.Client, node: str, listener: cluster_health.ClusterHealth, options: Options
) -> reporter.Reporter:
    return reporter.Reporter(
        api, node, listener, version=parts.version(), interval_seconds=options.report_interval_seconds
    )


def _in_force(kernel: interface.Kernel) -> frozenset[str] | None:
    try:
        return parts.limits_in(kernel)
    except OSError as error:
        log.warning("cannot read the kernel", error=str(error))
        return None


def _node_facts(item: client.Object, _before: cluster.NodeFacts | None) -> cluster.NodeFacts:
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    return cluster.NodeFacts(str(metadata.get("uid", "")), {str(k): str(v) for k, v in labels.items()})
