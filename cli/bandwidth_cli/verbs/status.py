"""`status`: how the operator, the nodes and the limits are, what is wrong, and what to do."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from bandwidth_api.crds.node_state import NodeState
from bandwidth_cli import cluster, outcome
from bandwidth_cli.kubectl import paths
from bandwidth_cli.kubectl.failures import KubectlError
from bandwidth_cli.kubectl.program import Json, Kubectl
from bandwidth_cli.objects import health
from bandwidth_cli.objects.health import Lease, State, Trouble
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.outcome import FailedError
from bandwidth_cli.text import ages, page, tables
from bandwidth_runtime import printable

LEASE = "client-bandwidth-operator"
HEADERS = ("NODE", "STATE", "LIMITS", "FAILED", "REPORTED", "VERSION")
WIDE = ("CLASSIFIER", "INTERFACES")
WHY_MAX = 100
_COLOURS = {"InForce": page.GREEN, "Failing": page.RED, "Silent": page.YELLOW, "Unknown": page.YELLOW}


def run(options: argparse.Namespace, kubectl: Kubectl) -> int:
    """Print the state of the installation; return the exit code."""
    limits = cluster.all_limits(kubectl)
    asked_states = cluster.Pending(lambda: cluster.states(kubectl))
    asked_nodes = cluster.Pending(lambda: cluster.all_nodes(kubectl))
    asked_leases = cluster.Pending(lambda: kubectl.listed(paths.LEASES, f"fieldSelector=metadata.name%3D{LEASE}"))
    asked_policies = cluster.Pending(lambda: cluster.all_policies(kubectl))
    states = asked_states.result()
    now = time.time()
    unseen: list[str] = []
    nodes = _seen(asked_nodes, "nodes", unseen)
    found = _seen(asked_leases, "leases, which tell whether an operator acts", unseen)
    leases = None if found is None else [lease(item) for item in found]
    known = _seen(asked_policies, "policies", unseen)
    troubles = [*health.troubles(limits, states, nodes, leases, now), *health.of_policies(known or ())]
    if options.output in ("json", "yaml"):
        page.show_object(as_json(limits, states, leases, troubles, unseen, now), options.output)
    else:
        page.show(lines(limits, states, leases, troubles, now, wide=options.output == "wide"))
        for each in unseen:
            page.note(f"not looked at, since you may not list them: {each}")
    return outcome.NOT_RIGHT if troubles else outcome.DONE


def lines(
    limits: Sequence[Limit],
    states: Sequence[State],
    leases: Sequence[Lease] | None,
    troubles: Sequence[Trouble],
    now: float,
    *,
    wide: bool,
) -> list[str]:
    """Return the page."""
    page_lines = [summary(limits, states, leases, now)]
    if states:
        headers = HEADERS + WIDE if wide else HEADERS
        table = tables.lines([*headers, "WHY"], [_cells(state, now, wide=wide) for state in states])
        page_lines += ["", table[0]]
        for row, state in zip(table[1:], states, strict=True):
            word = health.shown(state, now)[0]
            page_lines.append(row.replace(word, page.paint(word, _COLOURS[word]), 1) if word in _COLOURS else row)
    if troubles:
        page_lines += ["", page.paint("What is wrong, and what to do:", page.BOLD)]
        for trouble in troubles:
            page_lines += [f"- {printable.line(trouble.what)}", f"  → {printable.line(trouble.do)}"]
    else:
        page_lines += ["", page.paint("All is well.", page.GREEN)]
    return page_lines


def summary(limits: Sequence[Limit], states: Sequence[State], leases: Sequence[Lease] | None, now: float) -> str:
    """Return the first line: limits, nodes, operator."""
    live = [limit for limit in limits if limit.in_force(now)]
    ready = sum(limit.ready.status == "True" for limit in live)
    over = len(limits) - len(live)
    parts = [f"{len(live)} limits, {ready} in force" + (f" ({over} more are over or switched off)" if over else "")]
    good = sum(health.shown(state, now)[0] == "InForce" for state in states)
    parts.append(f"{len(states)} nodes, {good} as planned")
    if leases:
        newest = max(leases, key=lambda each: each.renewed_at or 0.0)
        renewed = "never" if newest.renewed_at is None else f"{ages.short(now - newest.renewed_at)} ago"
        parts.append(f"operator {printable.line(newest.holder) or 'none'} in {newest.namespace}, seen {renewed}")
    return "; ".join(parts)


def as_json(
    limits: Sequence[Limit],
    states: Sequence[State],
    leases: Sequence[Lease] | None,
    troubles: Sequence[Trouble],
    unseen: Sequence[str],
    now: float,
) -> Json:
    """Return the page for programs."""
    live = [limit for limit in limits if limit.in_force(now)]
    return {
        "limits": {
            "total": len(limits),
            "live": len(live),
            "ready": sum(limit.ready.status == "True" for limit in live),
            "notReady": [
                {"name": limit.name, "reason": limit.ready.reason, "message": limit.ready.message}
                for limit in live
                if limit.ready.status != "True"
            ],
        },
        "operators": None
        if leases is None
        else [
            {"namespace": each.namespace, "holder": each.holder, "renewedSecondsAgo": _ago(each.renewed_at, now)}
            for each in leases
        ],
        "nodes": [_node(state, now) for state in states],
        "problems": [{"what": trouble.what, "do": trouble.do} for trouble in troubles],
        "notSeen": list(unseen),
    }


def lease(item: Json) -> Lease:
    """Read a Lease."""
    spec, metadata = item.get("spec") or {}, item.get("metadata") or {}
    seconds = spec.get("leaseDurationSeconds")
    return Lease(
        str(metadata.get("namespace", "")),
        str(spec.get("holderIdentity") or ""),
        ages.seconds(spec.get("renewTime")),
        seconds if type(seconds) is int else 15,
    )


def _seen(asked: cluster.Pending[list[cluster.T]], what: str, unseen: list[str]) -> list[cluster.T] | None:
    try:
        return asked.result()
    except (KubectlError, FailedError):
        unseen.append(what)
        return None


def _cells(state: State, now: float, *, wide: bool) -> list[str]:
    word, why = health.shown(state, now)
    if isinstance(state, NodeState):
        cells = [state.node, word, f"{state.programmed}/{state.desired}", str(state.failed)]
        cells += [health.reported(state, now), state.version]
        more = [state.classifier, " ".join(f"{i.name}={i.placement}" for i in state.interfaces)]
    else:
        cells, more = [state.node, word, "?", "?", "never", ""], ["", ""]
    return [*cells, *(more if wide else ()), why if wide else tables.shortened(why, WHY_MAX)]


def _node(state: State, now: float) -> Json:
    word, why = health.shown(state, now)
    known: Json = {"name": state.node, "state": word, "why": why}
    if isinstance(state, NodeState):
        known |= {
            "desired": state.desired,
            "programmed": state.programmed,
            "failed": state.failed,
            "reportedSecondsAgo": _ago(state.reported_at, now),
            "version": state.version,
            "classifier": state.classifier,
            "interfaces": [{"name": i.name, "placement": i.placement, "reason": i.reason} for i in state.interfaces],
            "failing": [{"name": p.name, "reason": p.reason.value, "message": p.message} for p in state.failing],
        }
    return known


def _ago(seconds: float | None, now: float) -> int | None:
    return None if seconds is None else round(now - seconds)
