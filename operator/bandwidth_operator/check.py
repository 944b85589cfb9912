"""`check`: whether the installation works, end to end: kinds, plan, acting operator, and what every node says.

Looks again and again until nothing is wrong or the time is over. Never writes.
"""

from __future__ import annotations

import sys
import threading
import time

from bandwidth_api import node_state, slices
from bandwidth_kube import client, connection
from bandwidth_operator import known, lease, rollup, settings
from bandwidth_operator.history import History
from bandwidth_operator.known import Kind
from bandwidth_operator.watch import PATHS

USER_AGENT = "client-bandwidth-operator check"
LOOK_SECONDS = 1.0
NAMED_MAX = 10


def problems(seen: known.Snapshot, agents: int | None, holder: str, now: float) -> list[str]:
    """What is not as it should be, in words; `agents` is how many nodes should report, if that is known. Pure."""
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
        if node.trouble is not None:
            found.append(f"{node.name}: {node.trouble[1]}")
        elif node.step != current:
            found.append(f"{node.name}: has not brought its kernel to the plan yet")
    return found


def notes(seen: known.Snapshot) -> list[str]:
    """What works, but not as somebody wanted it. Pure."""
    states = [s.content for s in seen.states.values() if isinstance(s.content, node_state.NodeState)]
    return [f"{s.node}: {why}" for s in states if s.failed for _, why in (node_state.summary(s),)]


def run(chosen: settings.Settings, *, timeout_seconds: float, daemonset: str | None) -> int:
    """Look until all is well or the time is over. Returns the exit code."""
    try:
        where = connection.load(chosen.kubeconfig)
    except connection.NoConnectionError as error:
        print(f"bandwidth-operator: {error}", file=sys.stderr)  # noqa: T201
        return 1
    api = client.Client(where, USER_AGENT)
    until = time.monotonic() + timeout_seconds
    pause = threading.Event()
    told: list[str] = []
    try:
        while True:
            began = time.monotonic()
            found, noted, summary = _look(api, chosen.namespace, daemonset)
            if not found:
                for line in [summary, *noted[:NAMED_MAX]]:
                    print(line, flush=True)  # noqa: T201
                return 0
            if time.monotonic() >= until:
                for line in found:
                    print(line, file=sys.stderr, flush=True)  # noqa: T201
                return 1
            if found != told:
                print(f"waiting: {found[0]}" + (f" (and {len(found) - 1} more)" if found[1:] else ""), flush=True)  # noqa: T201
                told = found
            pause.wait(max(LOOK_SECONDS, 2 * (time.monotonic() - began)))
    finally:
        api.close()


def _look(api: client.Client, namespace: str, daemonset: str | None) -> tuple[list[str], list[str], str]:
    try:
        seen = _snapshot(api)
        record = api.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease.NAME}")
        holder = str((record.get("spec") or {}).get("holderIdentity") or "")
        agents: int | None = None
        if daemonset is not None:
            found = api.request("GET", f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{daemonset}")
            agents = int((found.get("status") or {}).get("desiredNumberScheduled", 0))
    except client.ApiError as error:
        return [str(error)], [], ""
    everything = f"{len(seen.limits)} limits, {len(seen.states)} nodes, all at the plan; {holder} is acting"
    return problems(seen, agents, holder, time.time()), notes(seen), everything


def _snapshot(api: client.Client) -> known.Snapshot:
    read: dict[Kind, dict[str, known.Known]] = {}
    for kind in Kind:
        items = api.listed(PATHS[kind]).items
        read[kind] = {str(item["metadata"]["name"]): known.read(kind, item, None) for item in items}
    return known.Snapshot(
        limits={n: i for n, i in read[Kind.LIMIT].items() if isinstance(i, known.Limit)},
        nodes={n: i for n, i in read[Kind.NODE].items() if isinstance(i, known.Node)},
        slices={n: i for n, i in read[Kind.SLICE].items() if isinstance(i, known.Slice)},
        states={n: i for n, i in read[Kind.STATE].items() if isinstance(i, known.State)},
    )
