"""`run`: stands by until it leads, acts for a term, stands by again; ends at SIGTERM.

lease thread ── leads ──▶ Leader.run (main thread) ── lease lost ──▶ stand by
"""

from __future__ import annotations

import signal
import threading

import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from bandwidth_kube import client, connection
from bandwidth_operator.cache import lists
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.cache.list_checker import ListChecker
from bandwidth_operator.cache.watch import Watch, quiet_kopf
from bandwidth_operator.commands.options import Options
from bandwidth_operator.election import lease
from bandwidth_operator.election.fence import Fence
from bandwidth_operator.election.lease_thread import LeaseThread
from bandwidth_operator.election.token_bucket import TokenBucket
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.leader import agenda
from bandwidth_operator.leader.leader import Leader
from bandwidth_operator.leader.watch_restarts import CannotFollowError
from bandwidth_operator.policies.deciding import Deciding
from bandwidth_operator.protection import guard_rails, policy_trial
from bandwidth_operator.protection.cluster_addresses import ClusterAddresses, resolv_conf_of_a_pod
from bandwidth_operator.protection.guard_rails import GuardRails
from bandwidth_operator.publish.publisher import Publisher
from bandwidth_operator.reporting.health import Health
from bandwidth_operator.reporting.metrics import Metrics
from bandwidth_operator.status.events import Correlator
from bandwidth_operator.status.status_writer import StatusWriter
from bandwidth_operator.traffic.answering import Answering
from bandwidth_runtime import descriptors, logs, signals
from bandwidth_runtime.web import http_server

USER_AGENT = "client-bandwidth-operator"
WRITE_BURST = 200.0
ASIDE_SECONDS = 20.0  # for so long another replica may take a lease that was given up because the watches are silent

log = structlog.get_logger(__name__)


def main(options: Options) -> int:
    """Run until a signal comes; return the exit code."""
    logs.configure(options.log_format, options.log_level, message_key="event")
    quiet_kopf()
    where = connection.load(options.kubeconfig)
    stopping = threading.Event()
    descriptors.raise_limit()
    metrics, health = Metrics(), Health()
    server = served(options, health, metrics)
    held = lease.Lease(client.Client(where, USER_AGENT), options.namespace, lease.identity(options.pod_name))
    lease_thread = LeaseThread(held, health)
    lease_thread.start()
    watchman = policy_trial.Watchman(client.Client(where, USER_AGENT), _probes(options.guard_rails), metrics.guard_rail)
    watchman.start()
    log.info("standing by", holder=held.holder, server=where.server)
    try:
        with signals.received(stopping.set, on_signal=_log_signal):
            _Terms(options, where, held, lease_thread, health, metrics).run(stopping)
    finally:
        watchman.stop()
        lease_thread.stop()
        try:
            held.release()
        except client.ApiError as error:
            log.warning("the lease could not be given up; another replica waits for its end", error=str(error))
        if server is not None:
            server.close()
    log.info("stopped; what is in force stays in force")
    return 0


def _probes(text: str) -> tuple[policy_trial.Probe, ...]:
    try:
        return policy_trial.read(text)
    except ValueError as error:
        log.error("GUARD_RAILS cannot be read; only whether there are any is tried", error=str(error))
        return policy_trial.read("")


def _log_signal(number: signal.Signals) -> None:
    if number not in signals.STOP:
        log.info("this signal ends nothing, and there is nothing to read again; going on", signal=number.name)


def _guard_rails(text: str) -> GuardRails:
    try:
        return guard_rails.read(text)
    except ValueError as error:
        log.error("GUARD_RAILS cannot be read; those that are on by default are kept", error=str(error))
        return GuardRails()


def served(options: Options, health: Health, metrics: Metrics) -> http_server.Server | None:
    """Serve metrics and probes within the block, if configured and possible; planning works without them."""
    if options.metrics_address is None:
        return None
    probes = {"/healthz": health.healthy, "/readyz": health.ready}
    try:
        server = http_server.Server(
            options.metrics_address, http_server.Site(metrics.text, CONTENT_TYPE_LATEST, probes)
        )
        server.start()
    except (OSError, RuntimeError) as error:
        log.error("no metrics and probes are served", error=str(error))
        return None
    return server


class _Terms:
    """The terms of one process, one after another, and what is kept between them."""

    def __init__(
        self,
        options: Options,
        where: connection.Connection,
        held: lease.Lease,
        lease_thread: LeaseThread,
        health: Health,
        metrics: Metrics,
    ) -> None:
        self._where = where
        self._lease = held
        self._lease_thread = lease_thread
        self._health = health
        self._metrics = metrics
        self._bucket = TokenBucket(options.writes_per_second, WRITE_BURST)
        self._events = Correlator()
        self._guard_rails = _guard_rails(options.guard_rails)
        self._answers_questions = options.traffic
        self._acts_for_policies = options.policies

    def run(self, stopping: threading.Event) -> None:
        """Run one term after another until `stopping` is set. Raises the error that ended a thread."""
        prepared: Cache | None = None  # everything, listed before the next term begins
        while not stopping.is_set():
            fence = self._lease_thread.wait_leading(agenda.TURN_SECONDS)
            if self._lease_thread.crashed is not None:
                raise self._lease_thread.crashed
            if self._lease.went_back.is_set():
                prepared = None
                self._lease.went_back.clear()
            if fence is not None:
                prepared = self._act(fence, prepared, stopping)
            elif self._lease.followed:
                prepared = None
            elif self._lease.suspicious and prepared is None:
                prepared = _prepare(self._where, self._lease, stopping)

    def _act(self, fence: Fence, prepared: Cache | None, stopping: threading.Event) -> Cache | None:
        """Act for one term; return the objects that were known at its end."""
        self._metrics.leading.set(1)
        api = client.Client(self._where, USER_AGENT)
        known: Cache | None = None
        try:
            known = self._leader(api, fence, prepared).run(stopping)
        except CannotFollowError as error:
            _stand_aside(self._lease, self._lease_thread, self._health, str(error))
        finally:
            api.close()
            self._metrics.leading.set(0)
        log.info("standing by", holder=self._lease.holder)
        return known

    def _leader(self, api: client.Client, fence: Fence, prepared: Cache | None) -> Leader:
        cache = prepared if prepared is not None else Cache(server_time=self._lease.server_time)
        health, metrics = self._health, self._metrics
        writer = Writer(api, fence, self._bucket, metrics)
        watch = Watch(self._where, cache, USER_AGENT)
        addresses = ClusterAddresses(api, resolv_conf_of_a_pod())
        return Leader(
            api,
            self._lease,
            fence,
            cache,
            watch,
            ListChecker(api, cache, watch.streams, addresses, metrics, health),
            Publisher(api, writer, cache, lambda: health.turned("term")),
            StatusWriter(api, writer, cache, metrics, self._events),
            health,
            metrics,
            self._guard_rails,
            prepared=prepared is not None,
            traffic=Answering(api, writer, cache, self._lease.server_time) if self._answers_questions else None,
            policies=Deciding(
                api, writer, cache, self._events, self._guard_rails.guarded, enabled=self._acts_for_policies
            ),
        )


def _stand_aside(held: lease.Lease, lease_thread: LeaseThread, health: Health, why: str) -> None:
    """Release the lease for a moment, in which another replica, whose watches work, may take it."""
    log.error("the lease is given up, so that another replica may act", why=why, seconds=ASIDE_SECONDS)
    health.standing_by(f"standing aside: {why}", ASIDE_SECONDS)
    lease_thread.stand_aside(ASIDE_SECONDS)
    try:
        held.release()
    except client.ApiError as error:
        log.warning("the lease could not be given up; another replica waits for its end", error=str(error))


def _prepare(where: connection.Connection, held: lease.Lease, stopping: threading.Event) -> Cache | None:
    """List everything while the lease of a silent leader runs out: with 10,000 limits that takes some seconds."""
    api = client.Client(where, USER_AGENT)
    try:
        held.ask_server_time()
        return lists.prepared(
            api, lambda: not stopping.is_set() and (held.suspicious or held.fence is not None), held.server_time
        )
    finally:
        api.close()
