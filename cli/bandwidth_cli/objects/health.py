"""What is wrong with an installation, from its objects, and what to do about each. Pure: the time is a parameter."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bandwidth_api.crds import node_state
from bandwidth_api.crds.node_state import NodeState, UnreadableState
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.objects.nodes import Node
from bandwidth_cli.objects.policies import DISABLED, Policy
from bandwidth_cli.text import ages

State = NodeState | UnreadableState

SKEW_SECONDS = 60.0  # by which the clock here and those of the cluster may differ
NAMED = 5  # things of one kind that are named


class Trouble(NamedTuple):
    """One thing that is wrong."""

    what: str
    do: str


class Lease(NamedTuple):
    """The Lease of the operators."""

    namespace: str
    holder: str
    renewed_at: float | None  # seconds since the epoch
    seconds: int  # for so long it holds after a renewal


def troubles(
    limits: Sequence[Limit],
    states: Sequence[State],
    nodes: Sequence[Node] | None,
    leases: Sequence[Lease] | None,
    now: float,
) -> list[Trouble]:
    """Return all that is wrong, the operator first. None: it may not be read, and counts as well."""
    return [
        *_operator(leases, limits, now),
        *_silent(states, nodes, now),
        *_failing(states),
        *_versions(states),
        *_limits(limits, now),
    ]


def reported(state: State, now: float) -> str:
    """Return how long ago a node reported, for a cell."""
    return "never" if isinstance(state, UnreadableState) else ages.short(now - state.reported_at)


def is_silent(state: NodeState, now: float) -> bool:
    """Return whether a node has not reported for longer than it should."""
    return now - state.reported_at > 2.5 * min(state.report_interval_seconds, 3600) + 30 + SKEW_SECONDS


def shown(state: State, now: float) -> tuple[str, str]:
    """Return the state of a node in one word, and why."""
    if isinstance(state, UnreadableState):
        return "Unknown", state.message
    if is_silent(state, now):
        return "Silent", f"no report for {ages.short(now - state.reported_at)}; what it set up stays as it is"
    return node_state.summary(state)


def _operator(leases: Sequence[Lease] | None, limits: Sequence[Limit], now: float) -> list[Trouble]:
    unseen = [limit.name for limit in limits if not limit.ready.reason or limit.ready.message.startswith("no operator")]
    if leases is not None:
        alive = [
            lease
            for lease in leases
            if lease.holder and lease.renewed_at is not None and now - lease.renewed_at < lease.seconds + SKEW_SECONDS
        ]
        if len(alive) > 1:
            where = ", ".join(lease.namespace for lease in alive)
            return [Trouble(f"operators act in several namespaces: {where}", "uninstall all but one of them")]
        if not alive:
            what = "no operator acts: nothing new takes effect, and what is in force stays so"
            if not leases:
                return [
                    Trouble(
                        what, "none has ever acted here: kubectl get deploy -A | grep client-bandwidth; else install it"
                    )
                ]
            where = leases[0].namespace
            return [
                Trouble(what, f"kubectl -n {where} get pods; kubectl -n {where} logs deploy/client-bandwidth-operator")
            ]
    if unseen:
        return [
            Trouble(
                f"no operator has looked at {_names(unseen)}",
                "look at the Deployment client-bandwidth-operator, and at its log",
            )
        ]
    return []


def _silent(states: Sequence[State], nodes: Sequence[Node] | None, now: float) -> Iterable[Trouble]:
    known = {node.name: node for node in nodes or ()}
    silent = [s.node for s in states if isinstance(s, NodeState) and is_silent(s, now) and not s.retired]
    down = [name for name in silent if name in known and not known[name].ready]
    if down:
        yield Trouble(
            f"not Ready in the cluster, and silent: {_names(down)}", "kubectl describe node; limits there stay"
        )
    if rest := [name for name in silent if name not in down]:
        yield Trouble(
            f"no report lately from {_names(rest)}",
            "see its pod: kubectl get pods -A -l app.kubernetes.io/name=client-bandwidth-agent -o wide",
        )
    for state in states:
        if isinstance(state, UnreadableState):
            yield Trouble(f"the report of {state.node}: {state.message}", "bring agent and plugin to one version")
    missing = sorted(known.keys() - {state.node for state in states})
    if missing and nodes is not None:
        yield Trouble(
            f"no agent reports from {_names(missing)}: nobody is slowed there",
            "see whether the DaemonSet client-bandwidth-agent has a pod there (taints, nodeSelector)",
        )


def _failing(states: Sequence[State]) -> Iterable[Trouble]:
    by_reason: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for state in states:
        if isinstance(state, NodeState) and not state.retired:
            for problem in state.failing:
                by_reason[problem.reason.value].append((state.node, f"{problem.name}: {problem.message}"))
            if state.message:
                by_reason[""].append((state.node, state.message))
    for reason, found in sorted(by_reason.items()):
        names = sorted({node for node, _ in found})
        what = f"{reason} on {_names(names)}" if reason else f"on {_names(names)}"
        yield Trouble(
            f"{what}: {found[0][1]}", f"docs/is-it-working.md says what {reason or 'it'} means and what to do"
        )


def _versions(states: Sequence[State]) -> Iterable[Trouble]:
    by_version: dict[str, list[str]] = collections.defaultdict(list)
    for state in states:
        if isinstance(state, NodeState) and state.version:
            by_version[state.version].append(state.node)
    if len(by_version) > 1:
        counts = ", ".join(f"{version} on {len(names)}" for version, names in sorted(by_version.items()))
        yield Trouble(f"agents of several versions: {counts}", "normal during an upgrade; else finish it")


def _limits(limits: Sequence[Limit], now: float) -> Iterable[Trouble]:
    by_reason: dict[str, list[Limit]] = collections.defaultdict(list)
    for limit in limits:
        if limit.in_force(now) and limit.ready.status != "True" and limit.ready.reason:
            by_reason[limit.ready.reason].append(limit)
    for reason, found in sorted(by_reason.items()):
        names = _names([limit.name for limit in found])
        message = found[0].ready.message
        if message.startswith("no operator"):
            continue
        first = next((node for node in found[0].failing), None)
        where = f" ({first.name}: {first.message})" if first is not None and first.message not in message else ""
        yield Trouble(f"{reason}: {names}: {message}{where}", _DO.get(reason, "kubectl cbl list --not-ready -o wide"))


def of_policies(policies: Iterable[Policy]) -> list[Trouble]:
    """Return which policies do not do what they say, and those that would do more than they may."""
    found = []
    for policy in policies:
        status, reason, message = policy.ready
        told = [f"{reason}: {message}"] if status == "False" and policy.mode != DISABLED else []
        # What keeps a policy from being Ready is a condition of its own too.
        told += [each for each in policy.warnings if each not in told]
        found += [Trouble(f"policy {policy.name}: {each}", "kubectl cbl why; docs/policies.md") for each in told]
    return found


# What to do that the message of a condition does not say itself.
_DO = {
    "Pending": "wait some seconds; if it lasts, look at the nodes above",
    "NodeNotReporting": "look at the nodes above",
    "NoNodeSelected": "kubectl get nodes --show-labels; change spec.nodeSelector of the limit",
    "ProtectedAddress": "a limit must not hold addresses of nodes, gateways or services: change spec.clients",
    "Unverified": "send or await traffic of that client, then look again; kubectl cbl who ADDRESS",
    "Bypassed": "packets leave past the limit: docs/is-it-working.md says which setting of the CNI does that",
    "Overridden": "another limit wins over it: kubectl cbl who ADDRESS",
}


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
