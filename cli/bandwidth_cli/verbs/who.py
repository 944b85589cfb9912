"""`who`: which limits hold a client, which of them wins, on which nodes, and how fast the client is there now."""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from bandwidth_api import address_text, addresses, units
from bandwidth_api.crds.node_state import NodeState
from bandwidth_api.plan import ClassKey, Mode, Prefix
from bandwidth_cli import cluster, outcome
from bandwidth_cli.kubectl.failures import KubectlError
from bandwidth_cli.kubectl.program import Json, Kubectl
from bandwidth_cli.objects import health, limits, nodes, overlaps, policies, rates
from bandwidth_cli.objects.health import State
from bandwidth_cli.objects.limits import Limit
from bandwidth_cli.objects.nodes import Holding, Node
from bandwidth_cli.objects.overlaps import Won
from bandwidth_cli.objects.rates import Now
from bandwidth_cli.text import page, tables
from bandwidth_cli.verbs import list_limits, looking
from bandwidth_runtime import printable

NODE_HEADERS = ("NODE", "CLASS", "STATE", "RATE NOW", "LIMIT", "HELD", "WHY")
NODES_SHOWN = 50
WHY_MAX = 100


@dataclasses.dataclass(frozen=True, slots=True)
class OnNode:
    """What one node does with the client."""

    node: str
    won: tuple[Won, ...]
    state: str  # InForce, NotInForce, Unknown, NotLimited
    why: str
    limit_bits_per_second: int = 0  # of all that holds it at all ports; 0: nothing does
    now: Now | None = None  # None: not known

    @property
    def held(self) -> str:
        """Whether its rate is within the limit, in one word; "" where it cannot be said."""
        return rates.held(self.now, self.limit_bits_per_second) if self.now is not None else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """All that is known of a client."""

    address: Prefix
    limits: tuple[Limit, ...]  # that touch it, in force or not
    on_nodes: tuple[OnNode, ...]
    notes: tuple[str, ...]


def run(options: argparse.Namespace, kubectl: Kubectl) -> int:
    """Print what holds a client; return the exit code."""
    existing = cluster.all_limits(kubectl)
    asked_states = cluster.Pending(lambda: cluster.states(kubectl))
    asked_nodes = cluster.Pending(lambda: cluster.all_nodes(kubectl))
    now = time.time()
    notes: list[str] = []
    speeds: Mapping[str, Now] = {}
    states = asked_states.result()
    known: list[Node] = []
    try:
        known = asked_nodes.result()
        notes += nodes.belonging(known, [options.address])[:3]
    except KubectlError:
        notes.append("you may not list nodes: node selectors are taken to select every node")
    if not options.no_traffic and states:
        speeds, why_not = looking.rates_now(kubectl, options.address, [state.node for state in states])
        notes += why_not
    found = gather(options.address, existing, states, known, now, notes, speeds)
    if options.output != "text":
        page.show_object(as_json(found, now), options.output)
    else:
        page.show(lines(found, now))
    return outcome.DONE


def gather(
    address: Prefix,
    existing: Sequence[Limit],
    states: Sequence[State],
    known: Sequence[Node],
    now: float,
    notes: Sequence[str] = (),
    speeds: Mapping[str, Now] = MappingProxyType({}),
) -> Found:
    """Return what holds a client, from the objects of the cluster."""
    touching = overlaps.naming(existing, [address])
    labels = {node.name: node.labels for node in known}
    on_nodes = tuple(
        dataclasses.replace(_on_node(address, touching, state, labels.get(state.node), now), now=speeds.get(state.node))
        for state in states
    )
    return Found(address, tuple(touching), on_nodes, tuple(notes))


def _on_node(
    address: Prefix, touching: Sequence[Limit], state: State, labels: Mapping[str, str] | None, now: float
) -> OnNode:
    # Whoever may not read nodes knows no labels; then every limit counts.
    chosen = touching if labels is not None else [dataclasses.replace(each, node_selector=()) for each in touching]
    won = overlaps.held(_first(address), chosen, labels or {}, now)
    if not won:
        return OnNode(state.node, (), "NotLimited", "no limit holds it on this node")
    by_name = {limit.name: limit for limit in touching}
    each = [nodes.holding(by_name[name], state) for name in dict.fromkeys(w.key.limit for w in won)]
    worst = min(each, key=lambda holding: ("NotInForce", "Unknown", "InForce").index(holding.state))
    if isinstance(state, NodeState) and health.is_silent(state, now) and worst.state == "InForce":
        worst = Holding("Unknown", "the node has not reported lately; what it set up stays as it is")
    whole = [by_name[w.key.limit] for w in won if not w.ports and by_name[w.key.limit].mode is Mode.ENFORCE]
    rate = whole[0].per_node_bits_per_second if whole else 0
    return OnNode(state.node, won, worst.state, worst.why, rate)


def lines(found: Found, now: float) -> list[str]:
    """Return the page."""
    made = [sentence(found, now)]
    made += [printable.line(note) for note in found.notes]
    if found.limits:
        made += ["", *list_limits.table(found.limits, now)]
    if found.on_nodes and (found.limits or any(each.now is not None for each in found.on_nodes)):
        rows = [
            (
                each.node,
                show_classes(each.won) or "-",
                each.state,
                show_now(each.now),
                units.show_rate(each.limit_bits_per_second) if each.limit_bits_per_second else "-",
                each.held or "-",
                tables.shortened(each.why, WHY_MAX) or "-",
            )
            for each in found.on_nodes[:NODES_SHOWN]
        ]
        made += ["", *tables.lines(NODE_HEADERS, rows)]
        if len(found.on_nodes) > NODES_SHOWN:
            made.append(f"… {len(found.on_nodes) - NODES_SHOWN} more nodes; -o json has all of them")
    return made


def sentence(found: Found, now: float) -> str:
    """Return the answer in one sentence."""
    text = addresses.write(found.address)
    live = [limit for limit in found.limits if limit.in_force(now)]
    seen = [each.now for each in found.on_nodes if each.now is not None]
    total = math.fsum(each.bits_per_second for each in seen if not each.at_most)
    rate_now = f"; it gets {units.show_rate(total)} now" if seen else ""
    if not live:
        over = f" ({len(found.limits)} that name it are over or switched off)" if found.limits else ""
        return f"{text} is held by no limit{over}{rate_now}"
    winners = dict.fromkeys(won.key.limit for each in found.on_nodes for won in each.won)
    names = [limit.name for limit in live if limit.name in winners] or [limit.name for limit in live]
    chosen = [limit for limit in live if limit.name in names]
    by = ", ".join(f"{_rate(limit)} by {limit.name}{_maker(limit)}" for limit in chosen[:3]) + (
        " …" if len(chosen) > 3 else ""
    )
    enforced = [limit for limit in chosen if limit.mode is Mode.ENFORCE]
    verb = "is slowed to" if enforced else "is counted, and not slowed, at"
    if not winners:
        return f"{text} {verb} {by}; no node reports{rate_now}"
    good = sum(each.state == "InForce" for each in found.on_nodes)
    there = sum(bool(each.won) for each in found.on_nodes)
    return f"{text} {verb} {by}; in force on {good} of {there} nodes{rate_now}"


def show_classes(won: Sequence[Won]) -> str:
    """Return the classes that hold a client on a node: limit, its client where each has a class, ports."""
    return ", ".join(_class(each.key) + (f" ({limits.show_ports(each.ports)})" if each.ports else "") for each in won)


def show_now(now: Now | None) -> str:
    """Return a rate with its error, for a cell."""
    if now is None:
        return "?"
    if now.at_most:
        return f"< {units.show_rate(now.bits_per_second)}"
    error = f" ± {now.error:.0%}" if now.error else ""
    return units.show_rate(now.bits_per_second) + error


def _class(key: ClassKey) -> str:
    return f"{key.limit} client={key.client}" if key.client else key.limit


def _rate(limit: Limit) -> str:
    per_node = limit.per_node_bits_per_second
    if per_node and per_node != limit.rate_bits_per_second:
        return f"{limit.rate} ({units.show_rate(per_node)} a node)"
    return limit.rate


def _maker(limit: Limit) -> str:
    """Return in words which policy made it; "" for a limit that a person wrote."""
    maker = policies.maker(limit)
    return f" (made by the policy {maker}; kubectl cbl why {limit.name})" if maker else ""


def as_json(found: Found, now: float) -> Json:
    """Return the page for programs."""
    return {
        "address": addresses.write(found.address),
        "held": any(each.won for each in found.on_nodes),
        "limits": [
            {
                "name": limit.name,
                "clients": [addresses.write(client) for client in limit.clients],
                "ports": [f"{p.protocol}:{p.first}-{p.last}" for p in limit.ports],
                "rateBitsPerSecond": limit.rate_bits_per_second,
                "perNodeRateBitsPerSecond": limit.per_node_bits_per_second,
                "mode": limit.mode.value,
                "sharing": limit.sharing.value,
                "priority": limit.priority,
                "live": limit.in_force(now),
                "ready": limit.ready.status,
                "reason": limit.ready.reason,
                "message": limit.ready.message,
                "why": limit.reason,
                "policy": policies.maker(limit) or None,
            }
            for limit in found.limits
        ],
        "nodes": [
            {
                "name": each.node,
                "state": each.state,
                "why": each.why,
                "limitBitsPerSecond": each.limit_bits_per_second or None,
                "rate": None
                if each.now is None
                else {
                    "bitsPerSecond": round(each.now.bits_per_second),
                    "error": each.now.error,
                    "atMost": each.now.at_most,
                },
                "held": each.held,
                "classes": [
                    {
                        "limit": won.key.limit,
                        "client": won.key.client,
                        "ports": [f"{p.protocol}:{p.first}-{p.last}" for p in won.ports],
                    }
                    for won in each.won
                ],
            }
            for each in found.on_nodes
        ],
        "notes": list(found.notes),
    }


def _first(address: Prefix) -> Prefix:
    """Return the first address of a network: what holds it stands for the network."""
    return Prefix(address.family, address.network, address_text.BITS[address.family])
