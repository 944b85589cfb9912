"""`run` as a node of a cluster: wires the readers, the plan on disk, the loop and the reporter together.

Owns the order in which they start and end. A thread that ends by an error ends the process, which the kubelet or
systemd starts again; the kernel keeps shaping without it.
"""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from bandwidth_agent import loop, reconcile
from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import host, parts, running, watching
from bandwidth_agent.kernel import contract
from bandwidth_agent.limits.cluster import plan_source, stored_plan, wakeup
from bandwidth_agent.reporting import api_health, health, reporter, traffic_reporter, watch_reporter
from bandwidth_agent.sight.sight import Sight
from bandwidth_api.crds import slices
from bandwidth_api.kinds import Kind
from bandwidth_kube import client, collection, connection, list_watch

# All nodes of a cluster may start at once, or need a new list at once: the larger the list, the more they are spread.
JITTER_SECONDS_PER_SLICE = 0.05
JITTER_MAX_SECONDS = 10.0
CONNECTIONS = 6  # three watches, the state, traffic while somebody asks, and what policies are told
FORBIDDEN_SECONDS = 600.0  # where an older chart does not let agents watch their states

T = TypeVar("T")

log = structlog.get_logger("run")


def run(options: Options) -> int:
    """Follow the plan of a cluster until stopped; return the exit code of the process."""
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
        wake = wakeup.Wakeup()
        store = stored_plan.Store(options.state_dir, node, wake.crashed)
        stored = store.load()
        source = plan_source.PlanSource(node, stored, store, lambda: _in_force(kernel), wake)
        listener = api_health.ApiHealth(vitals, wake.crashed)
        report = _reporter(api, node, listener, options)
        seen = parts.sight(kernel, reconciler, options)
        answers = _answers(api, node, seen, options)
        watch = _watch(api, node, seen, reconciler, options)
        readers = (
            *_readers(api, node, source, report, listener, stored, answers, watch),
            _reader_of_state(api, node, report, listener),
        )
        log.info("started", node=node, server=where.server, version=parts.version(), plan_on_disk=stored is not None)
        for thread in (*readers, report):
            thread.start()
        try:
            with running.serving(reconciler, vitals, options, seen, listener.status) as remarks:
                turning = running.follower(
                    source, kernel, reconciler, vitals, options, observer=report, remarks=remarks
                )
                return turning.run(ends_process=True)
        except wakeup.CrashError as error:
            log.error("ended; the limits stay in force", why=str(error), exc_info=error.__cause__)
            return host.FAILED
        finally:
            for thread in (*readers, report):
                thread.stop()
            if answers is not None:
                answers.stop()
            watch.stop()
            store.close()
            report.join()


def _once(api: client.Client, node: str, reconciler: reconcile.Reconciler, options: Options) -> int:
    """Make one list, one pass and one report; return the exit code."""
    wake = wakeup.Wakeup()
    store = stored_plan.Store(options.state_dir, node, wake.crashed)
    source = plan_source.PlanSource(node, None, store, frozenset, wake)
    listener = api_health.ApiHealth(health.Health(time.monotonic()), wake.crashed)
    report = _reporter(api, node, listener, options)
    of_node, of_slices = _readers(api, node, source, report, listener, None)
    try:
        source.node_read(of_node.once())
        source.slices_read(of_slices.once())
    except client.ApiError as error:
        return host.fail(f"the plan cannot be read: {error}")
    code = running.once(loop.Loop(source, reconciler, observer=report), options)
    store.close()
    try:
        report.once()
    except client.ApiError as error:
        return host.fail(f"this node's state cannot be written: {error}")
    return code


def _readers(
    api: client.Client,
    node: str,
    source: plan_source.PlanSource,
    report: reporter.Reporter,
    listener: api_health.ApiHealth,
    stored: stored_plan.Stored | None,
    answers: traffic_reporter.TrafficReporter | None = None,
    watch: watch_reporter.WatchReporter | None = None,
) -> tuple[list_watch.Reader[plan_source.NodeFacts], list_watch.Reader[slices.Decoded]]:
    def jitter_seconds() -> float:
        return min(source.slice_count * JITTER_SECONDS_PER_SLICE, JITTER_MAX_SECONDS)

    def node_read(reading: collection.Reading[plan_source.NodeFacts]) -> None:
        source.node_read(reading)
        if node in reading.items:
            report.node_is(reading.items[node].uid)
            if watch is not None:
                watch.labels_are(reading.items[node].labels)

    def slices_read(reading: collection.Reading[slices.Decoded]) -> None:
        source.slices_read(reading)
        head = reading.items.get(slices.HEAD)
        if answers is not None:
            answers.head_read(head.traffic if isinstance(head, slices.Head) else None)
        if watch is not None:
            known = head if isinstance(head, slices.Head) else slices.Head(())
            watch.head_read(None if known.retire else known.watching, questions=known.traffic is not None)

    # With a plan on disk a short wait costs nothing; without one there are no limits until the list is read.
    pause = random.uniform(0.0, jitter_seconds()) if stored is not None else 0.0  # noqa: S311
    of_node = _own("node", Kind.NODE, node, _node_facts)
    of_slices = collection.Collection(name="slices", path=Kind.SLICE.path, decode=plan_source.decoded)
    return (
        list_watch.Reader(api, of_node, node_read, listener, first_pause_seconds=pause),
        list_watch.Reader(
            api,
            of_slices,
            slices_read,
            listener,
            not_older_than=stored.resource_version if stored is not None else "",
            known=stored.slices if stored is not None else None,
            first_pause_seconds=pause,
            jitter_seconds=jitter_seconds,
        ),
    )


def _reader_of_state(
    api: client.Client, node: str, report: reporter.Reporter, listener: api_health.ApiHealth
) -> list_watch.Reader[str]:
    """Watch our own state, to write it again after a deletion: without it the node would seem to have no agent."""

    def read(reading: collection.Reading[str]) -> None:
        if node not in reading.items:
            report.gone()

    of_state = _own("state", Kind.STATE, node, _uid, forbidden_seconds=FORBIDDEN_SECONDS)
    return list_watch.Reader(api, of_state, read, listener)


def _own(
    name: str, kind: Kind, node: str, decode: Callable[[client.Object, T | None], T], forbidden_seconds: float = 0.0
) -> collection.Collection[T]:
    """The one object of a kind that has this node's name, without its content."""
    return collection.Collection(
        name=name,
        path=kind.path,
        decode=decode,
        query={"fieldSelector": f"metadata.name={node}"},
        accept=client.METADATA,
        accept_watch=client.METADATA_WATCH,
        # It changes rarely and is not urgent: fewer, longer watches; a dead one is noticed by missing bookmarks.
        watch_seconds=600,
        silence_seconds=75.0,
        forbidden_seconds=forbidden_seconds,
    )


def _reporter(api: client.Client, node: str, listener: api_health.ApiHealth, options: Options) -> reporter.Reporter:
    return reporter.Reporter(
        api, node, listener, version=parts.version(), interval_seconds=options.report_interval_seconds
    )


def _answers(api: client.Client, node: str, lends: Sight, options: Options) -> traffic_reporter.TrafficReporter | None:
    """Return what answers questions about traffic; None where that is switched off."""
    if not options.traffic:
        return None
    return traffic_reporter.TrafficReporter(api, node, lends)


def _watch(
    api: client.Client, node: str, lends: Sight, reconciler: reconcile.Reconciler, options: Options
) -> watch_reporter.WatchReporter:
    """Return what reports to policies; it does nothing before one asks, and is asked by the head of the plan."""
    kernel = functools.cache(lambda: parts.kernel(options))  # a second handle: the first is for the loop's thread alone
    return watch_reporter.WatchReporter(
        api,
        node,
        lends.lease,
        watching.classes_of(kernel, reconciler),
        capacity=watching.capacity(kernel, reconciler, options),
        no_clients=watching.peers(kernel),
        untouchable=watching.untouchable(watching.protected(kernel, reconciler, options), reconciler),
    )


def _in_force(kernel: contract.Kernel) -> frozenset[str] | None:
    try:
        return parts.limits_in(kernel)
    except OSError as error:
        log.warning("cannot read the kernel", error=str(error))
        return None


def _uid(item: client.Object, _before: str | None) -> str:
    return str(item["metadata"].get("uid", ""))


def _node_facts(item: client.Object, _before: plan_source.NodeFacts | None) -> plan_source.NodeFacts:
    """Read the uid and the labels of a Node. Raises ValueError for invalid labels, which must not count as none."""
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    if not isinstance(labels, dict):
        raise ValueError("its labels are no mapping")
    return plan_source.NodeFacts(str(metadata.get("uid", "")), {str(k): str(v) for k, v in labels.items()})
