"""`retire`: retires all nodes, until all have or the time is over, and prints the outcome."""

from __future__ import annotations

import threading
import time

from bandwidth_api.kinds import Kind
from bandwidth_kube import client, connection
from bandwidth_operator.commands.options import Options
from bandwidth_operator.election import lease
from bandwidth_operator.retire import intent
from bandwidth_operator.retire.hook_tool import Tool
from bandwidth_operator.retire.retired_statuses import Left
from bandwidth_operator.retire.retirement import Census, Retirement
from bandwidth_runtime import logs, result

USER_AGENT = "client-bandwidth-operator retire"
LOOK_SECONDS = 1.0  # between two looks at all nodes, at least
STATUS_SECONDS = 15.0  # statuses may be written so long, also when the nodes took all the time there was
NAMED_MAX = 20  # nodes that a message names


def main(options: Options) -> int:
    """Retire all nodes, and print which are missing; return the exit code.

    As the hook of a tool it retires only if that tool manages the installation.
    """
    logs.configure("auto", "critical", message_key="event")  # what matters of the lease this program prints itself
    api = client.Client(connection.load(options.kubeconfig), USER_AGENT)
    try:
        api.request("GET", Kind.SLICE.path, query={"limit": "1"})
    except client.RefusedError as refused:
        if refused.status == 404:
            result.show("this cluster does not have our kinds of objects: nothing to retire")
            return 0
    except client.UnreachableError:
        pass  # it may answer in time
    held = lease.Lease(api, options.namespace, lease.identity(lease.RETIRE), duration_seconds=options.stand_by_seconds)
    try:
        if options.hook_of is not None:
            lacking = intent.lacking(
                api, options.namespace, Tool(options.hook_of), time.monotonic() + options.timeout_seconds
            )
            if lacking:
                result.complain(f"nothing was retired: {lacking}")
                return 1
        work = Retirement(api, held, options.writes_per_second, result.show)
        return _retire(work, options.timeout_seconds, options.accept_missing)
    finally:
        api.close()


def _retire(work: Retirement, timeout_seconds: float, accept_missing: bool) -> int:
    until = time.monotonic() + timeout_seconds
    printed, trouble = "", ""
    seen: Census | None = None
    pause = threading.Event()
    while True:
        began = time.monotonic()
        try:
            work.publish()
            seen = work.look()
            if (text := _progress(seen)) != printed:
                result.show(text)
                printed = text
            if not seen.waiting and work.safe and (accept_missing or not seen.unreachable):
                return _ended(work, seen, until)
            if not seen.waiting and work.safe:
                return _failed(seen, "")
            trouble = ""
        except client.ApiError as error:
            if str(error) != trouble:
                result.show(f"tried again: {error}")
            trouble = str(error)
        if time.monotonic() >= until and (work.safe or not accept_missing):
            if seen is not None and not trouble and accept_missing:
                return _ended_late(work, seen, until)
            return _failed(seen, trouble)
        # A look at many nodes takes its time, and may take a third of it.
        pause.wait(max(LOOK_SECONDS, 2 * (time.monotonic() - began)))


def _ended(work: Retirement, seen: Census, until: float) -> int:
    left = work.write_statuses(seen, max(until, time.monotonic() + STATUS_SECONDS))
    work.clear(seen)
    return _retired(seen, left)


def _ended_late(work: Retirement, seen: Census, until: float) -> int:
    try:
        return _ended(work, seen, until)
    except client.ApiError as error:
        return _failed(seen, str(error))


def _progress(seen: Census) -> str:
    total = len(seen.retired) + len(seen.waiting) + len(seen.unreachable)
    text = f"{len(seen.retired)} of {total} nodes have retired"
    return text + (f"; waiting for {_named(sorted(seen.waiting))}" if seen.waiting else "")


def _retired(seen: Census, left: Left) -> int:
    if left.limits is None:
        result.show(f"limits may still say that they are in force: {left.why}")
    elif left.limits:
        result.show(f"limits that still say that they are in force: {left.limits}; {left.why}")
    for name, why in list(seen.missing.items())[:NAMED_MAX]:
        result.show(f"left as it is: {name}: {why}")
    if seen.missing:
        result.show(
            "what is ours stays in the kernels of these nodes until they boot, or bandwidth-agent cleanup is run there"
        )
    else:
        result.show("nothing of ours is left on any node")
    return 0


def _failed(seen: Census | None, trouble: str) -> int:
    if trouble or seen is None:
        result.complain(f"not every node has retired: {trouble or 'the API server gave no answer'}")
    if seen is not None and seen.missing:
        result.complain(f"{len(seen.missing)} nodes have not retired:")
        for name, why in list(seen.missing.items())[:NAMED_MAX]:
            result.complain(f"  {name}: {why}")
        if len(seen.missing) > NAMED_MAX:
            result.complain(f"  and {len(seen.missing) - NAMED_MAX} more")
    result.complain(
        "Bring them back, or look at the agents' pods there, and try again. Or go on without them:"
        " bandwidth-operator retire --accept-missing in a pod of the operator, then helm uninstall --no-hooks."
        " Or stay installed: when the lease of this has run out the operator publishes the limits again, and the nodes"
        " take them up; then helm rollback to the last revision if helm uninstalls."
    )
    return 1


def _named(nodes: list[str]) -> str:
    more = len(nodes) - NAMED_MAX
    return ", ".join(nodes[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
