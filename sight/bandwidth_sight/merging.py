"""Adds snapshots of several nodes, groups clients into networks, and folds what is too small. Pure.

Each of these keeps the sum: what went to all clients together is the same before and after.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from bandwidth_api import address_text
from bandwidth_api.plan import PortRange, Prefix
from bandwidth_sight import rows
from bandwidth_sight.rows import Folded, Hold, MadeBy, Port, Rate, Rates, Row, Snapshot

HoldPorts = tuple[PortRange, ...] | None  # as in rows.Hold
LEAST_SAMPLES = 4  # of a row: with fewer the error is above 50 %
GROUP_LENGTH = {4: 24, 6: 64}


def merge(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return what several nodes sent together; the order of the snapshots does not matter. At least one is needed."""
    capacities = [s.capacity_bits_per_second for s in snapshots]
    sent = [s.sent for s in snapshots if s.sent is not None]
    known = len(sent) == len(snapshots)
    return Snapshot(
        at=max(s.at for s in snapshots),
        seconds=max(s.seconds for s in snapshots),
        rows=_together((row for s in snapshots for row in s.rows), lambda client: client),
        folded=_folded([s.folded for s in snapshots]),
        interfaces=tuple(sorted({name for s in snapshots for name in s.interfaces})),
        nodes=tuple(sorted({name for s in snapshots for name in s.nodes})),
        nodes_asked=sum(s.nodes_asked for s in snapshots),
        sent=(sum(x[0] for x in sent), sum(x[1] for x in sent), sum(x[2] for x in sent)) if known else None,
        capacity_bits_per_second=None if None in capacities else sum(c for c in capacities if c is not None),
        lost_samples=sum(s.lost_samples for s in snapshots),
        grouped=any(s.grouped for s in snapshots),
        notes=tuple(dict.fromkeys(note for s in sorted(snapshots, key=_by_nodes) for note in s.notes)),
    )


def group(snapshot: Snapshot, networks: Iterable[Prefix] = ()) -> Snapshot:
    """Return the rows by network: the longest of `networks` around a client, else its /24 or its /64.

    What is labelled (another node) stays alone. Clients without a row count in the rows of the largest networks.
    """
    by_length: dict[tuple[int, int], set[int]] = {}
    for network in networks:
        by_length.setdefault((network.family, network.length), set()).add(network.network)
    lengths = sorted(by_length, reverse=True)
    labelled = {row.client for row in snapshot.rows if row.label}

    def network_of(client: Prefix) -> Prefix:
        if client in labelled:
            return client
        bits = address_text.BITS[client.family]
        for family, length in lengths:
            if family == client.family and length <= client.length:
                cut = client.network >> bits - length << bits - length
                if cut in by_length[family, length]:
                    return Prefix(family, cut, length)
        length = min(client.length, GROUP_LENGTH[client.family])
        return Prefix(client.family, client.network >> bits - length << bits - length, length)

    hidden = tuple(_without_rows(snapshot))
    made = _together((*snapshot.rows, *hidden), network_of)
    folded = _less(snapshot.folded, hidden) if hidden else snapshot.folded
    return dataclasses.replace(snapshot, rows=made, folded=folded, networks=(), grouped=True)


def _without_rows(snapshot: Snapshot) -> Iterator[Row]:
    """Yield of each network what is sent to those of its clients that have no row."""
    members: dict[Prefix, list[Row]] = {}
    for row in snapshot.rows:
        length = GROUP_LENGTH[row.client.family]
        if row.client.length >= length:
            free = address_text.BITS[row.client.family] - length
            network = Prefix(row.client.family, row.client.network >> free << free, length)
            members.setdefault(network, []).append(row)
    for whole in snapshot.networks:
        of = members.get(whole.client, [])
        rates = _difference(whole.rates, rows.total([row.rates for row in of]))
        if rates[-1].samples > 0:
            since_bytes = max(0.0, whole.since_bytes - sum(row.since_bytes for row in of))
            yield Row(whole.client, rates, since_bytes)


def _less(folded: Folded, hidden: Sequence[Row]) -> Folded:
    """Return what has still no row, when these have one."""
    rates = _difference(folded.rates, rows.total([row.rates for row in hidden]))
    since_bytes = max(0.0, folded.since_bytes - sum(row.since_bytes for row in hidden))
    return Folded(folded.clients if rates[-1].samples else 0, rates, since_bytes)


def _difference(one: Rates, other: Rates) -> Rates:
    first, second, third = (
        Rate(max(0.0, a[0] - b[0]), max(0, a[1] - b[1]), max(0.0, a[2] - b[2])) for a, b in zip(one, other, strict=True)
    )
    return first, second, third


def fold(
    snapshot: Snapshot,
    *,
    top: int | None = None,
    window: int | None = rows.SHARE_WINDOW,
    least_samples: int = LEAST_SAMPLES,
) -> Snapshot:
    """Return the snapshot without the rows that have few samples, and with no more than the `top` largest rows.

    `window`: by what they are the largest, as in `order`; the rows are in that order.
    """
    ordered = sorted(snapshot.rows, key=order(window))
    kept = [row for row in ordered if row.samples >= least_samples][:top]
    chosen = {row.client for row in kept}
    rest = [row for row in ordered if row.client not in chosen]
    if not rest:
        return dataclasses.replace(snapshot, rows=tuple(kept))
    here = Folded(len(rest), rows.total([row.rates for row in rest]), sum(row.since_bytes for row in rest))
    return dataclasses.replace(snapshot, rows=tuple(kept), folded=_folded([snapshot.folded, here]))


def order(window: int | None) -> Callable[[Row], tuple[float, Prefix]]:
    """Return the key by which rows are sorted, the largest first: by the rate of a window, or (None) by `since`.

    Equal ones are in the order of their addresses, so that they stay where they are.
    """
    if window is None:
        return lambda row: (-row.since_bytes, row.client)
    return lambda row: (-row.rates[window].bits_per_second, row.client)


def _together(many: Iterable[Row], key: Callable[[Prefix], Prefix]) -> tuple[Row, ...]:
    """Return one row for each key, in the order of `order(SHARE_WINDOW)`."""
    found: dict[Prefix, list[Row]] = {}
    for row in many:
        found.setdefault(key(row.client), []).append(row)
    made = [_sum(client, parts) for client, parts in found.items()]
    return tuple(sorted(made, key=order(rows.SHARE_WINDOW)))


def _sum(client: Prefix, parts: list[Row]) -> Row:
    if len(parts) == 1:
        return parts[0] if parts[0].client == client else dataclasses.replace(parts[0], client=client)
    return Row(
        client=client,
        rates=rows.total([row.rates for row in parts]),
        since_bytes=sum(row.since_bytes for row in parts),
        ports=_ports(port for row in parts for port in row.ports),
        holds=_holds([row.holds for row in parts]),
        label=min((row.label for row in parts if row.label), key=_vagueness, default=""),
        nodes=tuple(sorted({node for row in parts for node in row.nodes})),
    )


def _vagueness(label: str) -> tuple[bool, str]:
    """Return a key for sorting that puts `node NAME`, which a cluster knows, before labels of one node's own."""
    return not label.startswith("node "), label


def _ports(many: Iterable[Port]) -> tuple[Port, ...]:
    found: dict[tuple[str, int], float] = {}
    for port in many:
        found[port.protocol, port.number] = found.get((port.protocol, port.number), 0.0) + port.bits_per_second
    ports = (Port(protocol, number, amount) for (protocol, number), amount in found.items())
    return tuple(sorted(ports, key=lambda port: (-port.bits_per_second, port)))


def _holds(many: Sequence[tuple[Hold, ...] | None]) -> tuple[Hold, ...] | None:
    """Return each limit once. At its limit anywhere is at its limit; where no part is known, nothing is."""
    known = [holds for holds in many if holds is not None]
    if not known:
        return None
    found: dict[str, Hold] = {}
    for hold in sorted((hold for holds in known for hold in holds), key=_by_rate):
        before = found.get(hold.limit)
        if before is None:
            found[hold.limit] = hold
        else:
            found[hold.limit] = before._replace(
                at_limit=before.at_limit or hold.at_limit,
                observes=before.observes and hold.observes,
                ports=_all_ports(before.ports, hold.ports),
                made_by=_one_maker(before.made_by, hold.made_by),
            )
    return tuple(found.values())


def _one_maker(one: MadeBy | None, other: MadeBy | None) -> MadeBy | None:
    """Return the policy that made a limit, as far as anybody knows; in any order the same."""
    known = [each for each in (one, other) if each is not None]
    return min(known, key=lambda each: (each.policy, each.step, each.steps or 0, each.steps is None), default=None)


def _all_ports(one: HoldPorts, other: HoldPorts) -> HoldPorts:
    """Return the ports for which a limit holds one client or the other."""
    if one == () or other == ():
        return ()
    return None if one is None or other is None else tuple(sorted({*one, *other}))


def _by_rate(hold: Hold) -> tuple[str, int]:
    rate = hold.rate_bits_per_second
    return hold.limit, (1 << 62) if rate is None else rate


def _by_nodes(snapshot: Snapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return snapshot.nodes, snapshot.notes


def _folded(many: Sequence[Folded]) -> Folded:
    return Folded(
        sum(folded.clients for folded in many),
        rows.total([folded.rates for folded in many]),
        sum(folded.since_bytes for folded in many),
    )
