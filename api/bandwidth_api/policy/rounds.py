"""One round of decisions: all policies, all their clients. Pure: book, reports, surroundings, time → book, decisions.

Whoever calls it does what the decisions say has to be written, and hands in complete surroundings. A book that is
empty, as after a start, takes over the limits that policies have made; `memory` adds whose limits ended before.

Policies decide by priority, then by name; clients that are limited come first, since they may leave room; of the others
the hottest first. Nobody is exchanged for somebody hotter.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from bandwidth_api.compiler import selector
from bandwidth_api.crds.policy import Policy
from bandwidth_api.plan import Mode, Prefix
from bandwidth_api.policy import books, grouping, machine, made_limit, obstacles, traffic
from bandwidth_api.policy.books import Book, Entry
from bandwidth_api.policy.decision import Block, Decision, What, Write
from bandwidth_api.policy.machine import Phase, State
from bandwidth_api.policy.made_limit import Made
from bandwidth_api.policy.reports import Now, Report
from bandwidth_api.policy.surroundings import Surroundings
from bandwidth_api.policy.traffic import Figures

DELETED_SECONDS = 30.0  # after which a limit that should be gone is deleted once more
FORGOTTEN_SECONDS = 600.0  # a node that is silent for longer has no say any more
_PRUNE_SECONDS = 60.0


def decide(
    book: Book,
    policies: Sequence[Policy],
    reports: Iterable[Report],
    around: Surroundings,
    now: Now,
    unread: Collection[str] = (),
) -> tuple[Book, tuple[Decision, ...]]:
    """Return the book after this round, and what was decided. `policies`: all there are, a complete reading.

    `unread`: names of policies that are there and that nobody can act on. Nothing is decided of them: what they know is
    kept, and their limits stay until they end.
    """
    told = [each for each in reports if each.sound]
    decisions: list[Decision] = []
    deleted = {
        name: at for name, at in book.deleted.items() if name in around.made and now.steady - at < DELETED_SECONDS
    }
    ordered = sorted(policies, key=lambda each: (-each.spec.priority, each.name))
    entries = {name: entry for name, entry in book.entries.items() if name in unread}
    for policy in ordered:
        entries[policy.name] = _entry(book.entries.get(policy.name), policy, around, deleted, now)
    decisions += _removed(around, {p.name: p for p in ordered}, unread, deleted, now)
    held = {made.client: made.policy for made in around.made.values() if made.policy in unread}
    for policy in ordered:
        if policy.spec.then.mode is Mode.DISABLED:
            entries[policy.name] = _pruned(entries[policy.name], now)
            continue
        taken = held | _taken(entries, policy)
        entry, heard = _heard(entries[policy.name], policy, told, around)
        entries[policy.name], made = _decided(entry, policy, heard, around, taken, now)
        decisions += made
    for each in decisions:
        if each.write is not None:
            if each.write is Write.DELETE:
                deleted[each.limit] = now.steady
            else:
                deleted.pop(each.limit, None)
    return Book(entries, deleted), tuple(decisions)


# ── what is there at the beginning of a round ──────────────────────────────────────────────────────────────────


def _entry(before: Entry | None, policy: Policy, around: Surroundings, deleted: Mapping[str, float], now: Now) -> Entry:
    """Return what is known under a policy, with the limits that it has made and that nobody knows of yet."""
    mode, metadata = policy.spec.then.mode, policy.metadata
    if before is None or before.uid != metadata.uid:
        before = Entry(metadata.uid, metadata.generation, mode, now.steady)
    elif before.mode is not mode:
        before = Entry(metadata.uid, metadata.generation, mode, now.steady, _pardons(before, policy, around, now))
    clients = dict(before.clients)
    nodes = {name: node for name, node in before.nodes.items() if name in around.nodes}
    starts = tuple(at for at in before.starts if now.steady - at < obstacles.MINUTE_SECONDS)
    if before.generation != metadata.generation:  # its windows may be others
        clients = {client: dataclasses.replace(state, seen={}) for client, state in clients.items()}
        nodes = {}
    if mode is Mode.ENFORCE:
        for client, state in clients.items():
            refused_change = state.confirmed and state.phase is not Phase.LIMITED
            if refused_change and made_limit.name(policy.name, client) not in around.made:
                clients[client] = machine.pardoned(policy, state.step, now.steady, now)
        for made in around.made.values():
            if not made.is_of(policy) or made.name in deleted:
                continue
            known = clients.get(made.client)
            if known is None or (known.phase is not Phase.LIMITED and now.steady >= known.refused_until):
                clients[made.client] = adopted(policy, made, known, now)
                if 0 <= now.wall - made.created_at < obstacles.MINUTE_SECONDS:
                    starts = (*starts, now.steady - (now.wall - made.created_at))
    return dataclasses.replace(before, generation=metadata.generation, clients=clients, nodes=nodes, starts=starts)


def _pardons(before: Entry, policy: Policy, around: Surroundings, now: Now) -> dict[Prefix, State]:
    """Return what a change of the mode leaves of an entry: whose limits persons deleted, up to this moment."""
    found: dict[Prefix, State] = {}
    for client, state in before.clients.items():
        if state.pardoned and state.memory(now):
            found[client] = dataclasses.replace(state, phase=Phase.WATCHED, seen={}, block=None, text="")
        elif (
            state.phase is Phase.LIMITED
            and before.mode is Mode.ENFORCE
            and (state.confirmed or state.written_at < math.inf)
            and made_limit.name(policy.name, client) not in around.made
        ):
            found[client] = machine.pardoned(policy, state.step, state.until, now)
    return found


def adopted(policy: Policy, made: Made, known: State | None, now: Now) -> State:
    """Return the state of a client whose limit is there: it ends when that says, and after no more than its step."""
    number = min(made.step, len(policy.spec.then.steps))
    longest = policy.spec.then.steps[number - 1].ttl_seconds
    left = min(max(0.0, made.expires_at - now.wall), longest)
    if now.wall < made.created_at - obstacles.MINUTE_SECONDS:  # the clock was set back since
        left = 0.0
    return State(
        phase=Phase.LIMITED,
        seen=known.seen if known is not None else {},
        step=number,
        rate_bits_per_second=made.rate_bits_per_second,
        until=now.steady + left,
        expires_at=now.wall + left,
        high_at=now.steady,
        confirmed=True,
        made_at=now.steady,
        generation=policy.metadata.generation,
        text=made.figures,
    )


def _removed(
    around: Surroundings,
    policies: Mapping[str, Policy],
    unread: Collection[str],
    deleted: Mapping[str, float],
    now: Now,
) -> list[Decision]:
    """Delete the limits of policies that are gone or no longer in Enforce."""
    found = []
    for made in sorted(around.made.values(), key=lambda each: each.name):
        policy = policies.get(made.policy)
        there = policy is not None and made.is_of(policy)
        if (
            made.name in deleted
            or made.policy in unread
            or (there and policy is not None and policy.spec.then.mode is Mode.ENFORCE)
        ):
            continue
        why = f"the policy is in mode {policy.spec.then.mode}" if there and policy is not None else "the policy is gone"
        found.append(
            Decision(
                now.wall,
                made.policy,
                made.client,
                What.REMOVED,
                why,
                True,
                made.name,
                made.step,
                made.rate_bits_per_second,
                made.expires_at,
            )
        )
    return found


def _taken(entries: Mapping[str, Entry], policy: Policy) -> dict[Prefix, str]:
    """Return whom other policies limit. What one in Observe would do stands in the way of others in Observe alone."""
    enforces = policy.spec.then.mode is Mode.ENFORCE
    return {
        client: name
        for name, entry in entries.items()
        if name != policy.name and (entry.mode is Mode.ENFORCE or not enforces)
        for client, state in entry.clients.items()
        if state.phase is Phase.LIMITED
    }


# ── what was reported ──────────────────────────────────────────────────────────────────────────────────────────


def _heard(
    entry: Entry, policy: Policy, reports: Iterable[Report], around: Surroundings
) -> tuple[Entry, frozenset[Prefix]]:
    """Return what is known after these reports, and the clients that they name."""
    spec, clients, nodes, named = policy.spec, dict(entry.clients), dict(entry.nodes), set()
    for report in reports:
        labels = around.nodes.get(report.node)
        if labels is None or not selector.selects(spec.watch.node_selector, labels):
            continue
        nodes[report.node] = traffic.heard(nodes.get(report.node), spec, report)
        sums: dict[Prefix, tuple[float, int | None]] = {}
        for amount in report.amounts:
            client = grouping.client_of(spec, amount.client)
            if client is not None:
                held, more = sums.get(client, (0.0, None)), amount.over_limits
                over = held[1] if more is None else more + (held[1] or 0)
                sums[client] = held[0] + grouping.counted_bytes(spec, amount), over
        for client, (number_bytes, over_limits) in sums.items():
            state = clients.get(client)
            if state is None and (number_bytes <= 0 or len(clients) >= 2 * books.CLIENTS_MAX):
                continue
            state = state or State()
            if number_bytes > 0 or report.node in state.seen or not state.seen:
                clients[client] = machine.heard(policy, state, report, number_bytes, over_limits)
                named.add(client)
    return dataclasses.replace(entry, clients=clients, nodes=nodes), frozenset(named)


# ── decisions ──────────────────────────────────────────────────────────────────────────────────────────────────


def _decided(
    entry: Entry,
    policy: Policy,
    heard: frozenset[Prefix],
    around: Surroundings,
    taken: Mapping[Prefix, str],
    now: Now,
) -> tuple[Entry, list[Decision]]:
    clients, starts, decisions = dict(entry.clients), list(entry.starts), []
    count = sum(state.phase is Phase.LIMITED for state in clients.values())

    def find(client: Prefix, state: State) -> Block | None:
        lasting = obstacles.lasting(policy, client, around, taken)
        return lasting or (None if state.phase is Phase.LIMITED else obstacles.bound(policy, count, starts, now.steady))

    for client, hot in _order(entry, policy, heard, now):
        before = clients[client]
        after, decision = machine.step(
            policy,
            client,
            before,
            entry.nodes,
            made=around.made.get(made_limit.name(policy.name, client)),
            hot=hot,
            find=lambda state, client=client: find(client, state),  # type: ignore[misc]
            now=now,
        )
        clients[client] = after
        count += (after.phase is Phase.LIMITED) - (before.phase is Phase.LIMITED)
        if decision is not None:
            decisions.append(decision)
            if decision.what is What.LIMITED:
                starts.append(now.steady)
    entry = dataclasses.replace(entry, clients=clients, starts=tuple(starts))
    return _pruned(entry, now), decisions


def _order(entry: Entry, policy: Policy, heard: frozenset[Prefix], now: Now) -> list[tuple[Prefix, Figures | None]]:
    """Return whom to decide about: those with a limit, those that are hot no more, then the hottest first."""
    first: list[tuple[Prefix, Figures | None]] = []
    hot: list[tuple[Prefix, Figures]] = []
    for client, state in sorted(entry.clients.items()):
        if state.phase is Phase.LIMITED:
            first.append((client, None))
        elif state.phase is Phase.HOT or client in heard:
            found = machine.figures(policy, state, entry.nodes, now)
            if found is not None:
                hot.append((client, found))
            elif state.phase is Phase.HOT:
                first.append((client, None))
    return [*first, *sorted(hot, key=lambda each: -each[1].excess)]


def _pruned(entry: Entry, now: Now) -> Entry:
    """Forget, once a minute, nodes that are silent for long, and clients of whom nothing is known or remembered."""
    if now.steady - entry.pruned_at < _PRUNE_SECONDS and len(entry.clients) < 2 * books.CLIENTS_MAX:
        return entry
    nodes = {name: node for name, node in entry.nodes.items() if now.steady - node.ended_at < FORGOTTEN_SECONDS}
    clients: dict[Prefix, State] = {}
    for client, state in entry.clients.items():
        held = state.phase is Phase.LIMITED  # of which it is known, too, that it gets nothing
        seen = {
            name: each
            for name, each in state.seen.items()
            if name in nodes and (held or traffic.lives(each, now.steady))
        }
        if seen or held or now.steady < max(state.remembered_until, state.refused_until):
            clients[client] = dataclasses.replace(state, seen=seen)
    if len(clients) > books.CLIENTS_MAX:
        watched = [c for c, state in clients.items() if state.phase is Phase.WATCHED and not state.memory(now)]
        watched.sort(key=lambda client: (traffic.lately(clients[client].seen, now.steady), client))
        for client in watched[: len(clients) - books.CLIENTS_MAX]:
            del clients[client]
    return dataclasses.replace(entry, clients=clients, nodes=nodes, pruned_at=now.steady)
