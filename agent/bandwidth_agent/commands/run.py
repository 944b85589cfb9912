"""`run`: puts limits in force and keeps them so; with --once makes one pass and reports.

Wires a source, reconciler, loop and metrics together; where the limits come from a cluster, `commands.cluster` wires
that side. The way out does nothing to the kernel.
"""

from __future__ import annotations

import contextlib
import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from bandwidth_agent import health, lock, logs, loop, reconcile, report
from bandwidth_agent.commands import host, output, parts
from bandwidth_agent.commands.options import Address, Options
from bandwidth_agent.kernel import events, links, nfevents, real

if TYPE_CHECKING:
    from bandwidth_agent import cluster_health, serve

AHEAD_SECONDS = 2.0  # after a start

log = structlog.get_logger("run")


def main(options: Options) -> int:
    # One pass says everything in its report; what happens over time is for the log.
    level = "error" if options.once and options.log_level != "debug" else options.log_level
    logs.configure(options.log_format, level)
    why_not = host.missing()
    if why_not:
        return host.fail(why_not)
    try:
        with lock.Lock():
            if options.manifests is not None:
                return _on_a_host(options)
            from bandwidth_agent.commands import cluster  # a client of the API server, which a host need not load

            return cluster.run(options)
    except lock.HeldError as error:
        return host.fail(host.held(error, "stop it first"))
    except parts.ManifestsError as error:
        return host.fail(str(error))


@contextlib.contextmanager
def node(options: Options) -> Iterator[tuple[real.RealKernel, reconcile.Reconciler]]:
    """The kernel and what makes passes over it."""
    # Nearly everything that lives, lives long; a full collection over 10,000 limits would cost more than a pass.
    gc.set_threshold(50_000, 20, 100)
    if options.once:
        links.load()  # one that goes on loads it later
    gc.freeze()  # what is loaded stays: no collection need look at it again
    kernel = parts.kernel(options)
    try:
        yield kernel, reconcile.Reconciler(kernel, options.settings)
    finally:
        kernel.close()


def _on_a_host(options: Options) -> int:
    from bandwidth_agent.source import compiled  # and with it YAML and inotify, which no cluster needs

    with node(options) as (kernel, reconciler):
        source = parts.source(options, kernel, reconciler, writes=True)
        if options.once:
            with contextlib.closing(source):
                code = once(loop.Loop(compiled.Compiled(source, options.node_labels), reconciler), options)
                told = source.memory_trouble
            if source.memory_trouble not in ("", told):
                host.warn(source.memory_trouble)
            return code
        with contextlib.closing(source):
            vitals = health.Health(time.monotonic())
            wants = compiled.Compiled(source, options.node_labels)
            turning = follower(wants, kernel, reconciler, vitals, options)
            log.info("started", manifests=str(options.manifests), version=parts.version())
            return follow(turning, reconciler, vitals, options)


def follower(
    wants: loop.Wants,
    kernel: real.RealKernel,
    reconciler: reconcile.Reconciler,
    vitals: health.Health,
    options: Options,
    told: loop.Told | None = None,
) -> loop.Loop:
    """A loop that listens to the kernel too."""
    return loop.Loop(
        wants,
        reconciler,
        listening=(events.Events(kernel.port_ids), nfevents.NetfilterEvents()),
        resync_seconds=options.resync_seconds,
        vitals=vitals,
        told=told,
    )


def once(turning: loop.Loop, options: Options) -> int:
    """One pass and its report."""
    try:
        made = turning.once()
    except OSError as error:
        return host.fail(f"the kernel could not be read: {error}")
    output.write(json.dumps(made.as_json(), indent=2) + "\n" if options.json else text(made))
    return 0 if made.ok else host.FAILED


def follow(
    turning: loop.Loop,
    reconciler: reconcile.Reconciler,
    vitals: health.Health,
    options: Options,
    way: Callable[[], cluster_health.Way] | None = None,
) -> int:
    """Passes until stopped, with metrics if they are wanted."""
    ahead = threading.Timer(AHEAD_SECONDS, _load_ahead)
    ahead.daemon = True
    ahead.start()
    if options.metrics_address is None:
        return turning.run()
    try:
        server = _server(options.metrics_address, reconciler, vitals, options, way)
    except OSError as error:
        where = f"{options.metrics_address.host}:{options.metrics_address.port}"
        return host.fail(f"cannot listen on --metrics-address {where}: {error.strerror}")
    with server:
        return turning.run()


def _load_ahead() -> None:
    """Load what a change of a device will need. A start that adopts what is in the kernel need not wait for it, and
    the first limit of a node should not."""
    links.load()
    gc.freeze()


def _server(
    address: Address,
    reconciler: reconcile.Reconciler,
    vitals: health.Health,
    options: Options,
    way: Callable[[], cluster_health.Way] | None,
) -> serve.Server:
    from bandwidth_agent import metrics, serve  # 80 ms that a run without metrics need not pay

    page = metrics.Page(
        vitals,
        parts.kernel(options),  # a second handle: the loop's own is the loop's
        lambda: reconciler.believed,
        monotonic=time.monotonic,
        version=parts.version(),
        max_limits=options.metrics_max_limits,
        way=way,
    )
    return serve.Server(address.host, address.port, vitals, page)


def text(made: report.Report) -> str:
    """A report in the words for a person."""
    lines = [f"{made.programmed} of {made.desired} limits in force as written, {made.changes} changes"]
    lines += [f"  {i.name}: {i.placement}, {i.message}" for i in made.interfaces]
    lines.append(f"  classifier {made.classifier}: {made.classifier_reason}")
    lines += [f"not as written: {f.name}: {f.reason}: {f.message}" for f in made.failing]
    lines += [f"given up: {name}: another program keeps changing it" for name in made.conflicts]
    lines += [f"warning: {message}" for message in made.warnings]
    return "\n".join(lines) + "\n"
