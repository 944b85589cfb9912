"""The process: stands by until it leads, acts for a term, stands by again; ends at SIGTERM.

lease thread ── leads ──▶ Term.run (main thread) ── lease lost ──▶ stand by
"""

from __future__ import annotations

import signal
import sys
import threading

import structlog

from bandwidth_kube import client, connection
from bandwidth_operator import health, lease, lists, logs, settings, watch, web
from bandwidth_operator.bucket import TokenBucket
from bandwidth_operator.memory import Memory
from bandwidth_operator.metrics import Metrics
from bandwidth_operator.term import Term

USER_AGENT = "client-bandwidth-operator"

log = structlog.get_logger(__name__)


def run(chosen: settings.Settings) -> int:
    """Run until a signal comes. Returns the exit code."""
    logs.set_up(chosen.log_format, chosen.log_level)
    watch.quiet_kopf()
    try:
        where = connection.load(chosen.kubeconfig)
    except connection.NoConnectionError as error:
        print(f"bandwidth-operator: {error}", file=sys.stderr)  # noqa: T201
        return 1
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    counted, signs = Metrics(), health.Health()
    server = None
    if chosen.address is not None:
        try:
            server = web.Server(chosen.address, signs, counted.text)
        except OSError as error:
            print(f"bandwidth-operator: --metrics-address {chosen.address}: {error}", file=sys.stderr)  # noqa: T201
            return 1
        log.info("serving", port=server.port)
    held = lease.Lease(client.Client(where, USER_AGENT), chosen.namespace, lease.identity(chosen.pod_name))
    keeper = lease.Keeper(held, signs)
    keeper.start()
    log.info("standing by", holder=held.holder, server=where.server)
    try:
        _terms(chosen, where, held, keeper, signs, counted, stopping)
    finally:
        keeper.stop()
        try:
            held.release()
        except client.ApiError as error:
            log.warning("the lease could not be given up; another replica waits for its end", error=str(error))
        if server is not None:
            server.close()
    log.info("stopped; what is in force stays in force")
    return 0


def _terms(
    chosen: settings.Settings,
    where: connection.Connection,
    held: lease.Lease,
    keeper: lease.Keeper,
    signs: health.Health,
    counted: Metrics,
    stopping: threading.Event,
) -> None:
    bucket = TokenBucket(chosen.writes_per_second, settings.WRITE_BURST)
    prepared: Memory | None = None
    while not stopping.is_set():
        fence = keeper.wait_leading(settings.TURN_SECONDS)
        if fence is None:
            if held.followed:
                prepared = None
            elif held.suspicious and prepared is None:
                prepared = _prepare(where, held, stopping)
            continue
        counted.leading.set(1)
        api = client.Client(where, USER_AGENT)
        try:
            prepared = Term(api, where, held, fence, bucket, signs, counted, USER_AGENT, prepared).run(stopping)
        finally:
            api.close()
            counted.leading.set(0)
        log.info("standing by", holder=held.holder)


def _prepare(where: connection.Connection, held: lease.Lease, stopping: threading.Event) -> Memory | None:
    """List everything while the lease of a leader that is silent runs out: 10,000 limits take some seconds."""
    api = client.Client(where, USER_AGENT)
    try:
        return lists.prepared(api, lambda: not stopping.is_set() and (held.suspicious or held.fence is not None))
    finally:
        api.close()
