"""What the nodes of a cluster are asked for all the time, and what of their answers a policy is told. Pure.

policies, whom they limit ──▶ asked() ──▶ head of the plan ──▶ agents ──▶ NodeClientTraffic ──▶ reports() ──▶ rounds
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from bandwidth_api import addresses
from bandwidth_api.crds import asked as questions
from bandwidth_api.crds import watched, watching
from bandwidth_api.crds.policy import Policy, Scope, Spec
from bandwidth_api.crds.watching import Watch, Watching
from bandwidth_api.plan import Mode, Prefix, SelectorTerm
from bandwidth_api.policy import limitable, status
from bandwidth_api.policy import reports as values
from bandwidth_api.policy.reports import Amount, Report

INTERVALS_OF_A_WINDOW = 60  # what a decision waits for is a sixtieth of its window
INTERVAL_USUAL_MAX_SECONDS = 10
SILENCE_USUAL_MAX_SECONDS = 300


def asked(policies: Iterable[Policy], limited: Iterable[Prefix], nodes: int) -> Watching | None:
    """Return what the nodes are asked for; None: nothing, and none of them looks at anything.

    `limited`: `books.limited`; `nodes`: how many run an agent. All of them together write no more than
    `asked.REPORTS_PER_SECOND` reports.
    """
    looking = [each for each in policies if each.spec.then.mode is not Mode.DISABLED]
    if not looking:
        return None
    spread = -(-nodes // questions.REPORTS_PER_SECOND)
    silent = math.floor(min(map(status.silent_seconds, looking)) / 3)
    silence = min(max(silent, watching.SILENCE_LEAST_SECONDS), SILENCE_USUAL_MAX_SECONDS)
    interval = min(max(interval_seconds(looking), spread), watching.INTERVAL_MAX_SECONDS)
    return Watching(
        interval,
        max(silence, interval),
        watches(looking, nodes),
        tuple(addresses.write(client) for client in sorted(limited)[: watching.LIMITED_MAX]),
    )


def interval_seconds(policies: Iterable[Policy]) -> int:
    """Return how often these policies, at least one, have to be told something.

    A client is named only where samples of that time say well enough what it gets: the longer, the smaller may be its
    part of what all get.
    """
    shortest = min(itertools.chain.from_iterable(_windows(each.spec) for each in policies))
    return min(max(shortest // INTERVALS_OF_A_WINDOW, watching.INTERVAL_LEAST_SECONDS), INTERVAL_USUAL_MAX_SECONDS)


def watches(policies: Iterable[Policy], nodes: int) -> tuple[Watch, ...]:
    """Return what these policies look for, those of the same nodes together; none of a policy that is switched off.

    `nodes`: how many there are.
    """
    by_nodes: dict[tuple[SelectorTerm, ...], list[Spec]] = {}
    for policy in policies:
        if policy.spec.then.mode is not Mode.DISABLED:
            by_nodes.setdefault(policy.spec.watch.node_selector, []).append(policy.spec)
    if len(by_nodes) > watching.WATCHES_MAX:
        by_nodes = {(): list(itertools.chain.from_iterable(by_nodes.values()))}
    return tuple(_watch(selector, specs, nodes) for selector, specs in sorted(by_nodes.items()))


def _watch(selector: tuple[SelectorTerm, ...], specs: Sequence[Spec], nodes: int) -> Watch:
    """Half of each threshold: a client below counts as one that gets nothing. All that is written must hold.

    Where what all nodes send counts, a client may be too much that gets no more than its part from each.
    """
    floors: list[int] = []
    shares: list[int] = []
    for spec in specs:
        when = spec.when
        part = 2 * (max(1, nodes) if spec.watch.scope is Scope.CLUSTER else 1)
        if when.rate is not None:
            floors.append(when.rate.above // part)
        elif when.share is not None:
            shares.append(when.share.above_percent // part)
        elif when.volume is not None:
            floors.append(int(values.BITS * when.volume.above / when.volume.within_seconds / part))
    return Watch(
        min(min(floors), watching.FLOOR_MAX) if floors else None,
        min(shares, default=None),
        max(spec.watch.group_by.ipv4 for spec in specs),
        max(spec.watch.group_by.ipv6 for spec in specs),
        any(spec.watch.ports for spec in specs),
        selector,
        limitable.watched(specs),
        limitable.exempt(specs),
    )


def _windows(spec: Spec) -> list[int]:
    """The times whose end a decision may wait for."""
    when = spec.when
    return [spec.lift.for_seconds, *(w.for_seconds for w in (when.rate, when.share, when.uplink) if w is not None)]


def reports(node: str, of: watched.Watched, ended_at: float) -> tuple[Report, ...]:
    """Return what a report that came at `ended_at` (`Now.steady`) says: of its time, and of the time before it.

    The first one after a start may be old: whoever reads takes it for none. None comes of a node that cannot look.
    """
    if of.trouble:
        return ()
    told = []
    if of.before.seconds > 0:
        began, sent = ended_at - of.span.seconds, of.before.sent_bytes
        told.append(Report(node, began, of.before.seconds, (), sent, of.capacity_bits_per_second))
    if of.span.seconds > 0:
        amounts = tuple(map(_amount, (*of.limited, *of.candidates)))
        span = of.span
        told.append(Report(node, ended_at, span.seconds, amounts, span.sent_bytes, of.capacity_bits_per_second))
    return tuple(told)


def _amount(of: watched.Client) -> Amount:
    ports = tuple(values.Port(*port) for port in of.ports)
    return Amount(of.client, of.bytes, ports, of.over_limits)
