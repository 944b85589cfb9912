"""Makes the report of a node about its traffic from what was seen. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from bandwidth_api import addresses
from bandwidth_api.crds import asked, client_rows
from bandwidth_api.crds.asked import Asked
from bandwidth_api.crds.client_rows import Amount, Found, Named, Port, Rates, Row
from bandwidth_api.crds.client_traffic import Traffic
from bandwidth_api.plan import Prefix
from bandwidth_sight import merging, rows
from bandwidth_sight.rows import Snapshot


def made(
    node: str,
    question: Asked,
    seen: Snapshot | None,
    message: str = "",
    named: Mapping[Prefix, Snapshot] = MappingProxyType({}),
) -> Traffic:
    """Return the report. `seen`: the rows of single clients; None: nothing was seen yet, `message` may say why.

    `named`: what was seen of the clients that a question names.
    """
    if seen is None:
        return Traffic(node, question.renewal, interval_seconds=question.interval_seconds, message=message)
    networks = merging.group(seen)
    chosen: list[Row] = []
    for group, of in ((asked.ADDRESS, seen), (asked.NETWORK, networks)):
        if group in question.groups:
            chosen += [_row(row) for row in _largest(of.rows)[: question.top]]
    return Traffic(
        node=node,
        renewal=question.renewal,
        observed_at=seen.at,
        interval_seconds=question.interval_seconds,
        seconds=max(1, round(seen.seconds)),
        total=_rates(seen.totals),
        since_bytes=sum(row.since_bytes for row in seen.rows) + seen.folded.since_bytes,
        sent=seen.sent or (),
        clients=seen.clients,
        networks=networks.clients,
        lost=seen.lost_samples,
        rows=tuple(chosen),
        found=tuple(_found(question.candidates, seen, networks, {row.client for row in chosen})),
        named=tuple(_named(client, of) for client, of in named.items()),
        message=message,
    )


def _named(client: Prefix, of: Snapshot) -> Named:
    since_bytes = sum(row.since_bytes for row in of.rows) + of.folded.since_bytes
    return Named(client, _rates(of.totals), since_bytes, max(1, round(of.seconds)))


def _found(candidates: Sequence[str], seen: Snapshot, networks: Snapshot, shown: set[Prefix]) -> list[Found]:
    """Return what was seen of the clients that are asked for by name, the largest first."""
    if not candidates:
        return []
    known = {row.client: row for row in (*networks.rows, *seen.rows)}
    found = []
    for place, text in enumerate(candidates):
        client = _parsed(text)
        row = known.get(client) if client is not None and client not in shown else None
        if row is not None:
            found.append(Found(place, _rates(row.rates), row.since_bytes))
    return sorted(found, key=lambda each: -each.rates[rows.SHARE_WINDOW].bits_per_second)


def _parsed(text: str) -> Prefix | None:
    try:
        return addresses.network(text)
    except ValueError:
        return None


def _largest(many: Sequence[rows.Row]) -> list[rows.Row]:
    return sorted((row for row in many if row.samples), key=merging.order(rows.SHARE_WINDOW))


def _row(row: rows.Row) -> Row:
    everything = row.rates[rows.SHARE_WINDOW].bits_per_second
    ports = tuple(
        Port(port.protocol, port.number, port.bits_per_second / everything)
        for port in row.ports
        if everything > 0 and port.protocol in ("TCP", "UDP") and port.number >= 0
    )
    return Row(row.client, _rates(row.rates), row.since_bytes, ports[: client_rows.PORTS_MAX])


def _rates(rates: rows.Rates) -> Rates:
    first, second, third = (Amount(rate.bits_per_second, rate.variance) for rate in rates)
    return first, second, third
