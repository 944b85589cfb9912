"""`run`: puts limits in force and keeps them in force; with --once makes one pass and prints its report.

Here the limits come from a directory; where they come from a cluster, `wiring.cluster` runs.
"""

from __future__ import annotations

import contextlib
import time

import structlog

from bandwidth_agent import loop
from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import host, host_policies, parts, running
from bandwidth_agent.kernel import refusals
from bandwidth_agent.process import lock
from bandwidth_agent.reporting import health
from bandwidth_runtime import descriptors

log = structlog.get_logger("run")


def main(options: Options) -> int:
    if not options.once:
        descriptors.raise_limit()
    try:
        with lock.Lock(options.state_dir):
            if options.manifests is not None:
                return _on_a_host(options)
            from bandwidth_agent.commands.wiring import (
                cluster,  # a client of the API server, which a host need not load
            )

            return cluster.run(options)
    except lock.HeldError as error:
        return host.fail(host.held(error, "stop it first"))
    except parts.ManifestsError as error:
        return host.fail(str(error))
    except OSError as error:  # only while it starts; later the loop tries again
        return host.fail(f"the kernel could not be read: {refusals.words(error)}")


def _on_a_host(options: Options) -> int:
    with running.node(options) as (kernel, reconciler):
        seen = None if options.once else parts.sight(kernel, reconciler, options)
        manifests = parts.source(options, kernel, reconciler, writes=True)
        source = host_policies.source(manifests, options, kernel, reconciler, seen)
        if seen is None:
            with contextlib.closing(source):
                source.settle()
                code = running.once(loop.Loop(source, reconciler), options)
                reported = source.memory_trouble
            if source.memory_trouble not in ("", reported):
                host.warn(source.memory_trouble)
            return code
        with contextlib.closing(source):
            vitals = health.Health(time.monotonic())
            turning = running.follower(source, kernel, reconciler, vitals, options)
            log.info("started", manifests=str(options.manifests), version=parts.version())
            with running.serving(reconciler, vitals, options, seen, policies=source.told):
                return turning.run(ends_process=True)
