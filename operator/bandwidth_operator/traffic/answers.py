"""Adds the reports of the nodes and makes the answers to questions from them. Pure.

A node is believed for what it sends itself, and for no more: its rows are named after it, and each of its numbers is
bounded (`client_traffic`). Reports of nodes that are not asked, and old ones, do not count.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_api import addresses
from bandwidth_api.crds import asked, client_rows, lenient, traffic_answer
from bandwidth_api.crds.asked import Asked
from bandwidth_api.crds.client_rows import NO_RATES, Rates
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.crds.traffic_answer import Answer, Row, Total
from bandwidth_api.crds.traffic_query import Query
from bandwidth_api.plan import Prefix

MISSED = 2.5  # so many intervals without a report, and the grace, and a node is silent
GRACE_SECONDS = 4.0
OTHERS_PART = 4  # one part of so many of the rows is left to other nodes than the one that has most of them
RANKED_BY = 1  # the window, of 10 seconds, by which rows are sorted


class Heard(NamedTuple):
    """A report, and when it came, monotonic seconds by our own clock."""

    traffic: Traffic
    at: float


@dataclasses.dataclass(slots=True)
class _Sum:
    rates: Rates = NO_RATES
    since_bytes: float = 0.0
    ports: dict[tuple[str, int], float] = dataclasses.field(default_factory=dict)  # bit/s
    nodes: int = 0
    node: str = ""
    most: float = -1.0  # of one node, bit/s

    def add(self, node: str, rates: Rates, since_bytes: float, ports: Sequence[client_rows.Port] = ()) -> None:
        self.rates = client_rows.add(self.rates, rates)
        self.since_bytes += since_bytes
        self.nodes += 1
        rate = rates[RANKED_BY].bits_per_second
        if rate > self.most:
            self.node, self.most = node, rate
        for port in ports:
            key = (port.protocol, port.number)
            self.ports[key] = self.ports.get(key, 0.0) + port.share * rate


@dataclasses.dataclass(frozen=True, slots=True)
class Merged:
    """What some nodes answered together, for one kind of row."""

    sums: Mapping[Prefix, _Sum]
    named: Mapping[Prefix, _Sum]  # the clients that the question names
    ranked: tuple[Prefix, ...]  # the largest first
    rates: Rates
    since_bytes: float
    sent: tuple[float, ...]
    clients: int
    lost: int
    seconds: int
    answered: frozenset[str]
    troubles: tuple[str, ...]


def is_fresh(heard: Heard, interval_seconds: int, now: float) -> bool:
    """Return whether a report is of the time since the last one or two were due."""
    return now - heard.at <= MISSED * max(interval_seconds, asked.INTERVAL_LEAST_SECONDS) + GRACE_SECONDS


def merge(
    reports: Iterable[Heard],
    nodes: Collection[str],
    group: str,
    interval_seconds: int,
    now: float,
    candidates: Mapping[int, Sequence[str]] | None = None,
    clients: Collection[Prefix] = (),
) -> Merged:
    """Add what these nodes report. `candidates`: by renewal, the clients that nodes were asked for by their place.

    `clients`: those that the question names.
    """
    sums: dict[Prefix, _Sum] = {}
    named = {client: _Sum() for client in clients}
    fresh = [h.traffic for h in reports if h.traffic.node in nodes and is_fresh(h, interval_seconds, now)]
    rates, sent, since_bytes, count = NO_RATES, [0.0, 0.0, 0.0], 0.0, 0
    known = {renewal: [_parsed(text) for text in texts] for renewal, texts in (candidates or {}).items()}
    for traffic in sorted(fresh, key=lambda each: each.node):
        rates = client_rows.add(rates, traffic.total)
        since_bytes += traffic.since_bytes
        count += traffic.clients if group == asked.ADDRESS else traffic.networks
        for window, rate in enumerate(traffic.sent):
            sent[window] += rate
        mine: set[Prefix] = set()
        for row in traffic.rows:
            if _is_of(row.client, group):
                mine.add(row.client)
                sums.setdefault(row.client, _Sum()).add(traffic.node, row.rates, row.since_bytes, row.ports)
        for client, total in named.items():
            _add_named(total, client, traffic)
        places = known.get(traffic.renewal, ())
        for found in traffic.found:
            place = places[found.place] if found.place < len(places) else None
            if place is not None and place not in mine and _is_of(place, group):
                mine.add(place)
                sums.setdefault(place, _Sum()).add(traffic.node, found.rates, found.since_bytes)
    return Merged(
        sums,
        named,
        tuple(sorted(sums, key=lambda client: (-sums[client].rates[RANKED_BY].bits_per_second, client))),
        rates,
        since_bytes,
        tuple(sent) if fresh and all(traffic.sent for traffic in fresh) else (),
        max(count if len(fresh) == 1 else 0, len(sums), max((_count(t, group) for t in fresh), default=0)),
        min(sum(traffic.lost for traffic in fresh), lenient.NUMBER_MAX),
        max((traffic.seconds for traffic in fresh), default=0),
        frozenset(traffic.node for traffic in fresh if not traffic.message),
        tuple(f"{traffic.node}: {traffic.message}" for traffic in fresh if traffic.message),
    )


def _add_named(total: _Sum, client: Prefix, traffic: Traffic) -> None:
    """Add what a node sends to a client that is named; of a node that looks for nobody by name, what it has rows of."""
    for each in traffic.named:
        if each.client == client:
            if each.since_bytes > 0:
                total.add(traffic.node, each.rates, each.since_bytes)
            return
    inside = [row for row in traffic.rows if _is_of(row.client, asked.ADDRESS) and addresses.covers(client, row.client)]
    if inside:
        rates = functools.reduce(client_rows.add, (row.rates for row in inside))
        total.add(traffic.node, rates, math.fsum(row.since_bytes for row in inside))


def candidates_of(merged: Merged) -> tuple[str, ...]:
    """Return the clients that every node should be asked for by name: the largest that any node has a row for."""
    return tuple(sorted(addresses.write(client) for client in _largest(merged, asked.CANDIDATES_MAX)))


def _largest(merged: Merged, most: int) -> tuple[Prefix, ...]:
    """Return the largest clients, the largest first; where others have rows, no node has all but a part of them.

    One node that says too much, in error or as a lie, so hides the clients of the others from nobody.
    """
    first = merged.ranked[:most]
    node, count = (
        collections.Counter(merged.sums[client].node for client in first).most_common(1)[0] if first else ("", 0)
    )
    others = [client for client in merged.ranked[most:] if merged.sums[client].node != node]
    given = others[: max(0, count - (most - most // OTHERS_PART))]
    if not given:
        return first
    own = [client for client in first if merged.sums[client].node == node]
    left_out = frozenset(own[len(own) - len(given) :])
    return (*(client for client in first if client not in left_out), *given)


def shown(query: Query, merged: Merged) -> tuple[Prefix, ...]:
    """Return the clients that have a row in the answer to a question, the largest first."""
    if not query.spec.clients:
        return _largest(merged, query.spec.top)
    return tuple(
        sorted(merged.named, key=lambda client: (-merged.named[client].rates[RANKED_BY].bits_per_second, client))
    )


def named(query: Query) -> tuple[Prefix, ...]:
    """Return the clients that a question names."""
    return tuple(dict.fromkeys(client for text in query.spec.clients if (client := _parsed(text)) is not None))


def answer(
    query: Query,
    nodes: Collection[str],
    merged: Merged,
    stream: Asked,
    labels: Mapping[Prefix, str],
    limits: Mapping[Prefix, Sequence[str]],
) -> Answer:
    """Return the answer to one question, without its times. `limits`: of each client, where any hold it."""
    silent = sorted(frozenset(nodes) - merged.answered)
    status, reason, message = _condition(query, len(nodes), len(merged.answered), merged.troubles)
    return Answer(
        generation=query.generation,
        interval_seconds=stream.interval_seconds,
        seconds=merged.seconds,
        asked=len(nodes),
        answered=len(merged.answered),
        silent=tuple(silent[: traffic_answer.SILENT_MAX]),
        troubles=merged.troubles[: traffic_answer.TROUBLES_MAX],
        total=Total(
            _numbers(merged.rates),
            _errors(merged.rates),
            _bounded(merged.since_bytes),
            tuple(_bounded(rate) for rate in merged.sent),
            merged.clients,
            merged.lost,
        ),
        rows=tuple(
            _row(
                client,
                (merged.named if query.spec.clients else merged.sums)[client],
                labels.get(client, ""),
                limits.get(client, ()),
            )
            for client in shown(query, merged)
        ),
        status=status,
        reason=reason,
        message=message,
    )


def refused(query: Query, reason: str, message: str) -> Answer:
    """Return the answer to a question that is not answered, with the reason of the condition."""
    return Answer(generation=query.generation, status="False", reason=reason, message=message)


def _condition(query: Query, nodes: int, answered: int, troubles: Sequence[str]) -> tuple[str, str, str]:
    if not nodes:
        which = f"none of the nodes {', '.join(query.spec.nodes)[:200]} runs" if query.spec.nodes else "no node runs"
        return "False", traffic_answer.NO_NODE, f"{which} an agent; look at: kubectl get nodebandwidthstates"
    if not answered:
        why = f"; {troubles[0]}" if troubles else ""
        return "Unknown", traffic_answer.WAITING, f"none of {nodes} nodes has answered yet{why}"
    return "True", traffic_answer.ANSWERED, f"{answered} of {nodes} nodes answer"


def _row(client: Prefix, total: _Sum, label: str, limits: Sequence[str]) -> Row:
    ports = sorted(total.ports.items(), key=lambda port: (-port[1], port[0]))[: traffic_answer.PORTS_MAX]
    return Row(
        client=addresses.write(client),
        bits_per_second=_numbers(total.rates),
        error_percent=_errors(total.rates),
        since_bytes=_bounded(total.since_bytes),
        ports=tuple(f"{protocol}:{number}" for (protocol, number), _ in ports),
        nodes=total.nodes,
        node=total.node,
        limits=tuple(limits[: traffic_answer.LIMITS_MAX]),
        label=label,
    )


def _count(traffic: Traffic, group: str) -> int:
    return traffic.clients if group == asked.ADDRESS else traffic.networks


def _is_of(client: Prefix, group: str) -> bool:
    return (client.length == addresses.BITS[client.family]) == (group == asked.ADDRESS)


def _parsed(text: str) -> Prefix | None:
    try:
        return addresses.network(text)
    except ValueError:
        return None


def _numbers(rates: Rates) -> tuple[int, ...]:
    return tuple(_bounded(rate.bits_per_second) for rate in rates)


def _errors(rates: Rates) -> tuple[float, ...]:
    return tuple(
        round(min(100.0 * math.sqrt(rate.variance) / rate.bits_per_second, 999.0), 1)
        if rate.bits_per_second > 0
        else 0.0
        for rate in rates
    )


def _bounded(number: float) -> int:
    return min(max(0, round(number)), lenient.NUMBER_MAX)
