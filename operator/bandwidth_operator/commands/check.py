"""`check`: tests an installation end to end: CRDs, plan, acting operator, the reports of all nodes, guard rails.

Repeats until nothing is wrong or the time is over. Never writes; the limits that it tries are dry runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from bandwidth_api import kinds
from bandwidth_api.crds import node_state, slices
from bandwidth_api.kinds import Kind
from bandwidth_kube import client, connection
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.history import History
from bandwidth_operator.commands.options import Options
from bandwidth_operator.election import lease, server_clock
from bandwidth_operator.protection import policy_trial
from bandwidth_operator.status import rollup
from bandwidth_runtime import result

USER_AGENT = "client-bandwidth-operator check"
LOOK_SECONDS = 1.0
NAMED_MAX = 10


def problems(seen: objects.Snapshot, agents: int | None, holder: str, now: float) -> list[str]:
    """Return what is wrong, as sentences; `agents` is the number of nodes that should report, if known. Pure."""
    found = []
    if not holder:
        found.append("no operator is acting: nobody holds the Lease; look at the operator's pods")
    head = seen.slices[slices.HEAD].content if slices.HEAD in seen.slices else None
    if not isinstance(head, slices.Head):
        return [*found, f"there is no plan yet: the object {slices.HEAD} of kind {slices.KIND} cannot be read"]
    if head.retire:
        return [*found, "the plan says retire: this installation is being ended"]
    present = {s.name: s.content for s in seen.slices.values() if isinstance(s.content, slices.Slice)}
    plans = History(present.values())
    found += [f"slice {name} of the plan is missing" for name in head.slices if name not in present]
    nodes = rollup.views(seen, plans, now)
    if agents is not None and len(nodes) < agents:
        found.append(f"{agents} nodes should run an agent, {len(nodes)} have reported; look at the agents' pods")
    current = plans.step_of(plans.digest)
    for node in nodes:
        if node.problem is not None:
            found.append(f"{node.name}: {node.problem.message}")
        elif node.step != current:
            found.append(f"{node.name}: has not brought its kernel to the plan yet")
    return found


def notes(seen: objects.Snapshot) -> list[str]:
    """Return what works, but not as configured, as sentences. Pure."""
    states = [s.content for s in seen.states.values() if isinstance(s.content, node_state.NodeState)]
    return [f"{s.node}: {why}" for s in states if s.failed for _, why in (node_state.summary(s),)]


def main(options: Options) -> int:
    """Repeat the check until nothing is wrong or the time is over; return the exit code."""
    where = connection.load(options.kubeconfig)
    try:
        probes = policy_trial.read(options.guard_rails)
    except ValueError as error:
        result.complain(f"bandwidth-operator: the environment variable GUARD_RAILS: {error}")
        return 1
    api = client.Client(where, USER_AGENT)
    until = time.monotonic() + options.timeout_seconds
    pause = threading.Event()
    printed: list[str] = []
    try:
        while True:
            began = time.monotonic()
            found, noted, summary = _look(api, options.namespace, options.daemonset)
            if not found:
                found = _try(api, probes)
            if not found:
                for line in [summary, *noted[:NAMED_MAX]]:
                    result.show(line)
                return 0
            if time.monotonic() >= until:
                for line in found:
                    result.complain(line)
                return 1
            if found != printed:
                result.show(f"waiting: {found[0]}" + (f" (and {len(found) - 1} more)" if found[1:] else ""))
                printed = found
            pause.wait(max(LOOK_SECONDS, 2 * (time.monotonic() - began)))
    finally:
        api.close()


def _look(api: client.Client, namespace: str, daemonset: str | None) -> tuple[list[str], list[str], str]:
    try:
        record = api.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease.NAME}")
        seen = _snapshot(api, objects.Moment(time.monotonic(), _server_time(api, namespace)))
        holder = str((record.get("spec") or {}).get("holderIdentity") or "")
        agents: int | None = None
        if daemonset is not None:
            found = api.request("GET", f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{daemonset}")
            agents = int((found.get("status") or {}).get("desiredNumberScheduled", 0))
    except client.ApiError as error:
        return [str(error)], [], ""
    noted = [*notes(seen), *_questions(api)]
    everything = f"{len(seen.limits)} limits, {len(seen.states)} nodes, all at the plan; {holder} is acting"
    return problems(seen, agents, holder, time.monotonic()), noted, everything


def _questions(api: client.Client) -> list[str]:
    """Return why nobody can ask about traffic, if that is so; limits do not need it."""
    try:
        for path in (kinds.QUERIES_PATH, kinds.TRAFFIC_PATH):
            api.request("GET", path, query={"limit": "1"})
    except client.RefusedError as refused:
        why = {404: "the CRDs for it are not installed", 403: "the operator has no right to read questions"}
        if refused.status in why:
            return [f"nobody can ask about traffic (kubectl cbl top): {why[refused.status]}"]
    except client.UnreachableError:
        pass  # the next look tells
    return []


def _try(api: client.Client, probes: Sequence[policy_trial.Probe]) -> list[str]:
    """Return which guard rails are not in force, or cannot be shown to be."""
    found = []
    for probe in probes:
        try:
            found.append(policy_trial.tried(api, probe).message)
        except client.ApiError as error:
            return [f"guard rail {probe.rule} could not be tried: {error}"]
    return [message for message in found if message]


def _server_time(api: client.Client, namespace: str) -> float | None:
    try:
        return server_clock.now(api, namespace)
    except client.RefusedError:
        return None  # a webhook may refuse a try; then no report counts as old


def _snapshot(api: client.Client, moment: objects.Moment) -> objects.Snapshot:
    read: dict[Kind, dict[str, objects.Known]] = {}
    for kind in Kind:
        found = [objects.read(kind, item, None, moment) for item in api.listed(kind.path).items]
        read[kind] = {each.name: each for each in found if not isinstance(each, objects.Unreadable)}
    return objects.Snapshot(
        limits={n: i for n, i in read[Kind.LIMIT].items() if isinstance(i, objects.Limit)},
        nodes={n: i for n, i in read[Kind.NODE].items() if isinstance(i, objects.Node)},
        slices={n: i for n, i in read[Kind.SLICE].items() if isinstance(i, objects.Slice)},
        states={n: i for n, i in read[Kind.STATE].items() if isinstance(i, objects.State)},
    )
