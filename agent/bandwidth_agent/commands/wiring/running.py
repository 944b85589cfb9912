"""What a run on one host and a run in a cluster share: kernel and reconciler, the loop, metrics and the watchdog.

Where the limits come from is the caller's business. The way out does nothing to the kernel.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import structlog

from bandwidth_agent import loop, reconcile, report
from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import host, output, parts
from bandwidth_agent.kernel import contract, refusals
from bandwidth_agent.kernel.linux import real
from bandwidth_agent.kernel.linux.netfilter import nfevents, xtables_lock
from bandwidth_agent.kernel.linux.rtnl import events, links
from bandwidth_agent.limits import LimitSource
from bandwidth_agent.process import watchdog
from bandwidth_agent.reporting import health
from bandwidth_agent.sight.sight import Sight
from bandwidth_runtime import printable
from bandwidth_runtime.clock import SYSTEM

if TYPE_CHECKING:
    from bandwidth_agent.policies.told import Told
    from bandwidth_agent.reporting import api_health, client_series, policy_series
    from bandwidth_runtime.web import http_server
    from bandwidth_runtime.web.address import Address

AHEAD_SECONDS = 2.0  # after a start

log = structlog.get_logger("run")


@contextlib.contextmanager
def node(options: Options) -> Iterator[tuple[real.RealKernel, reconcile.Reconciler]]:
    """Yield the kernel and the reconciler for it, and close the kernel afterwards."""
    # Nearly all objects are long-lived; a full garbage collection over 10,000 limits would take longer than a pass.
    gc.set_threshold(50_000, 20, 100)
    if options.once:
        links.load()  # a process that keeps running loads it later
    gc.freeze()  # what is loaded now stays: no later collection looks at it
    kernel = parts.kernel(options)
    if xtables_lock.keep_private():
        log.info("the lock file of iptables was open to every user, who could have held it", file=xtables_lock.PATH)
    findings = parts.findings(options)
    try:
        spared = parts.spared(options)
        yield kernel, reconcile.Reconciler(kernel, options.settings, spared=spared, findings=findings)
    finally:
        findings.close()
        kernel.close()


def follower(
    source: LimitSource,
    kernel: real.RealKernel,
    reconciler: reconcile.Reconciler,
    vitals: health.Health,
    options: Options,
    observer: loop.PassObserver | None = None,
    remarks: Callable[[], Sequence[str]] = tuple,
) -> loop.Loop:
    """Return the loop that makes a pass at each change of the limits and at each event of the kernel."""
    return loop.Loop(
        source,
        reconciler,
        listening=(events.Events(kernel.port_ids), nfevents.NetfilterEvents()),
        resync_seconds=options.resync_seconds,
        vitals=vitals,
        observer=observer,
        remarks=remarks,
    )


def once(turning: loop.Loop, options: Options) -> int:
    """Make one pass and print its report; return the exit code."""
    try:
        made = turning.once()
    except OSError as error:
        return host.fail(f"the kernel could not be read: {refusals.words(error)}")
    output.write(json.dumps(made.as_json(), indent=2) + "\n" if options.json else text(made))
    return 0 if made.ok else host.FAILED


@contextlib.contextmanager
def serving(
    reconciler: reconcile.Reconciler,
    vitals: health.Health,
    options: Options,
    seen: Sight,
    api_status: Callable[[], api_health.ApiStatus] | None = None,
    policies: Callable[[], Told] | None = None,
) -> Iterator[Callable[[], Sequence[str]]]:
    """Run the watchdog, and the web server for metrics and probes if the options ask for it.

    Yields a function that returns why no metrics are served; an empty sequence if they are. `seen`: what the metrics of
    clients are sampled by; closed at the end. `policies`: of one host.
    """
    dog = watchdog.Watchdog(lambda: vitals.healthy(time.monotonic()))
    with contextlib.suppress(RuntimeError):  # the system refuses a thread: it is loaded when it is needed
        ahead = threading.Timer(AHEAD_SECONDS, _load_ahead)
        ahead.daemon = True
        ahead.start()
        dog.start()
    try:
        with _metrics(reconciler, vitals, options, seen, api_status, policies) as remarks:
            yield remarks
    finally:
        seen.close()
        dog.stop()


@contextlib.contextmanager
def _metrics(
    reconciler: reconcile.Reconciler,
    vitals: health.Health,
    options: Options,
    seen: Sight,
    api_status: Callable[[], api_health.ApiStatus] | None,
    policies: Callable[[], Told] | None,
) -> Iterator[Callable[[], Sequence[str]]]:
    address = options.metrics_address
    if address is None:
        yield tuple
        return
    try:
        server = _server(address, reconciler, vitals, options, seen, api_status, policies)
        server.start()
    except (OSError, RuntimeError) as error:
        trouble = f"no metrics and probes are served: {error}"
        log.error(trouble)
        yield lambda: (trouble,)
        return
    try:
        yield lambda: (server.trouble,) if server.trouble else ()
    finally:
        server.close()


def _load_ahead() -> None:
    """Load the code that changes devices, some seconds after the start.

    A start that adopts what is in the kernel does not need it, and the first limit of a node should not wait for it.
    """
    links.load()
    gc.freeze()


def _server(
    address: Address,
    reconciler: reconcile.Reconciler,
    vitals: health.Health,
    options: Options,
    seen: Sight,
    api_status: Callable[[], api_health.ApiStatus] | None,
    policies: Callable[[], Told] | None,
) -> http_server.Server:
    from bandwidth_agent.reporting import metrics  # 80 ms that a run without metrics saves
    from bandwidth_runtime.web import http_server

    kernel = functools.cache(lambda: parts.kernel(options))  # a second handle: the first is for the loop's thread alone
    page = metrics.Page(
        vitals,
        kernel,
        lambda: reconciler.believed,
        monotonic=time.monotonic,
        version=parts.version(),
        max_limits=options.metrics_max_limits,
        api_status=api_status,
        clients=_clients(seen, kernel, options),
        uplink_capacity=options.uplink_capacity,
        policies=_policies(policies),
    )
    probes = {"/healthz": lambda: vitals.healthy(time.monotonic()), "/readyz": vitals.ready}
    return http_server.Server(address, http_server.Site(page.text, metrics.CONTENT_TYPE, probes))


def _clients(seen: Sight, kernel: Callable[[], contract.Kernel], options: Options) -> client_series.ClientSeries | None:
    """Return the series of the clients that get most; None where the options ask for none."""
    if not options.metrics_top_clients:
        return None
    from bandwidth_agent.reporting import client_series

    return client_series.ClientSeries(
        seen.lease,
        options.metrics_top_clients,
        whole=options.metrics_top_clients_whole,
        monotonic=time.monotonic,
        peers=lambda: kernel().peers(),
    )


def _policies(told: Callable[[], Told] | None) -> policy_series.PolicySeries | None:
    """Return the series of the policies of a host; None in a cluster, where the operator has them."""
    if told is None:
        return None
    from bandwidth_agent.reporting import policy_series

    return policy_series.PolicySeries(told, SYSTEM)


def text(made: report.Report) -> str:
    """Return a report as text for people."""
    lines = [f"{made.programmed} of {made.desired} limits in force as written, {made.changes} changes"]
    lines += [f"  {i.name}: {i.placement}, {i.message}" for i in made.interfaces]
    lines.append(f"  classifier {made.classifier}: {made.classifier_reason}")
    lines += [f"not as written: {f.name}: {f.reason}: {f.message}" for f in made.failing]
    lines += [f"given up: {name}: another program keeps changing it" for name in made.conflicts]
    lines += [f"warning: {message}" for message in made.warnings]
    return "\n".join(map(printable.line, lines)) + "\n"
