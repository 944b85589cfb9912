"""`top`: shows who gets how much of what leaves this host, on a screen or once, and helps to slow one client down."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Callable

from bandwidth_agent.commands.looking import directory_actions, host_source, limit_reader, uplinks
from bandwidth_agent.commands.options import Options
from bandwidth_agent.commands.wiring import host, output, parts
from bandwidth_agent.kernel import refusals
from bandwidth_agent.policies import kept_makers
from bandwidth_agent.sight import limits_in_force, sight
from bandwidth_sight import columns, merging, rows, wire
from bandwidth_sight import output as written
from bandwidth_sight.rows import Snapshot
from bandwidth_sight.source import SourceError

_PROGRESS_SECONDS = 1.0


def main(options: Options) -> int:
    why_not = "" if options.once_seconds is not None else _no_screen()
    if why_not:
        return host.fail(f"{why_not}; `bandwidth-agent top --once 10` prints what leaves in 10 seconds")
    if options.manifests is not None and not options.manifests.is_dir():
        return host.fail(f"--manifests {options.manifests}: it must be a directory")
    if "CAP_NET_RAW" in host.lacking():
        return host.fail(f"to see packets takes CAP_NET_RAW, which this process lacks: {host.remedy(['CAP_NET_RAW'])}")
    try:
        with contextlib.ExitStack() as closing:
            return _look(closing, options)
    except SourceError as error:
        return host.fail(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        return host.fail(f"what leaves cannot be seen: {refusals.words(error)}")


def _no_screen() -> str:
    """Return why there can be no screen here; "" if there can."""
    try:
        from bandwidth_sight import screen  # with curses, which one reading does not need
    except ImportError as error:
        return f"the screen needs the module curses of Python, which is not installed here ({error})"
    return screen.unusable()


def _look(closing: contextlib.ExitStack, options: Options) -> int:
    around = uplinks.Uplinks(options.settings)
    closing.callback(around.close)
    if not around.names():
        return host.fail(around.why_none())
    source = _source(around, closing, options)
    if options.once_seconds is not None:
        return _once(source, options.once_seconds, options)
    from bandwidth_sight import screen, view

    grouping = view.Grouping.NETWORKS if options.prefix else view.Grouping.CLIENTS
    sort = columns.SINCE if options.sort == "since" else options.sort
    ended_by = screen.run(source, view.View(sort=sort, grouping=grouping))
    return 128 + ended_by if ended_by else 0


def _source(around: uplinks.Uplinks, closing: contextlib.ExitStack, options: Options) -> host_source.HostSource:
    """Open the sampler and all that is shown beside it. Raises OSError."""
    kernel = parts.kernel(options)
    closing.callback(kernel.close)
    readings, close = limit_reader.of_this_host(
        options.iptables_backend, "" if options.bpf_directory is None else str(options.bpf_directory)
    )
    closing.callback(close)
    limits = limit_reader.LimitReader(
        readings, _of_manifests(options), time.monotonic, lambda: kept_makers.read(options.state_dir)
    )
    checks = directory_actions.Checks(around, options)
    actions: host_source.Actions = directory_actions.ShownOnly(checks, in_cluster=_in_cluster(options))
    if options.manifests is not None:
        actions = directory_actions.DirectoryActions(checks, options, options.manifests.absolute())
    own = around.facts().addresses
    return host_source.HostSource(
        sight.Sight(kernel.sampler, around.names),
        around.names,
        limits,
        actions,
        own_addresses=own,
        peers=around.peers,
    )


def _in_cluster(options: Options) -> bool:
    """Return whether this host is a node of a cluster, as far as an agent there leaves a sign of it."""
    named = bool(options.node_name or os.environ.get("NODE_NAME") or os.environ.get("KUBERNETES_SERVICE_HOST"))
    return named or (options.state_dir / "plan.json").exists()


def _of_manifests(options: Options) -> Callable[[], limits_in_force.LimitsInForce | None]:
    """Return what reads the limits of the directory, for a process that may not read the kernel's sets."""

    def read() -> limits_in_force.LimitsInForce | None:
        if options.manifests is None:
            return None
        from bandwidth_agent.commands.looking import directory_limits

        return directory_limits.read(options)

    return read


# ── one reading ────────────────────────────────────────────────────────────────────────────────────────────────


def _once(source: host_source.HostSource, seconds: float, options: Options) -> int:
    try:
        snapshot = _watch(source, seconds)
    finally:
        source.close()
    output.write(_text(_arranged(snapshot, source, options), options))
    return 0


def _watch(source: host_source.HostSource, seconds: float) -> Snapshot:
    """Return what was seen in so many seconds, with progress on a terminal."""
    progress = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    try:
        while source.seconds < seconds - 0.05:
            if progress:
                sys.stderr.write(f"\rlooking: {source.seconds:.0f} of {seconds:g} s ")
                sys.stderr.flush()
            select.select([*source.descriptors()], [], [], _PROGRESS_SECONDS)
            source.poll()
        return source.snapshot()
    finally:
        if progress:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _arranged(snapshot: Snapshot, source: host_source.HostSource, options: Options) -> Snapshot:
    if options.prefix:
        snapshot = merging.group(snapshot, source.networks())
    window = None if options.sort == "since" else rows.WINDOW_NAMES.index(options.sort)
    return merging.fold(snapshot, top=options.top, window=window)


def _text(snapshot: Snapshot, options: Options) -> str:
    match options.output:
        case "json":
            return json.dumps(wire.write(snapshot), indent=2) + "\n"
        case "csv":
            return written.as_csv(snapshot)
    return written.text(snapshot)
