"""The answer to a question about traffic, as snapshots that a screen shows. Pure.

An answer has the rate and the relative error of each row; a snapshot has variances, which can be added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bandwidth_api import addresses
from bandwidth_api.crds import asked, traffic_answer, traffic_query
from bandwidth_api.crds.traffic_answer import Answer
from bandwidth_api.plan import Mode, PortRange, Prefix
from bandwidth_cli.objects.limits import Limit
from bandwidth_sight import rows
from bandwidth_sight.rows import Folded, Hold, Port, Rate, Rates, Row, Snapshot

AT_LIMIT = 0.9  # of its rate; a class at its limit sends a little less than that


def snapshot(
    answer: Answer, known: Mapping[str, Limit] | None, nodes: Sequence[str], *, grouped: bool, notes: Sequence[str] = ()
) -> Snapshot:
    """Return an answer as a snapshot. `known`: limits by name, None: not known; `nodes`: names of those asked."""
    made = [row for each in answer.rows if (row := _row(each, known)) is not None]
    totals = _rates(answer.total.bits_per_second, answer.total.error_percent)
    sent = answer.total.sent_bits_per_second
    return Snapshot(
        at=answer.observed_at,
        seconds=float(answer.seconds),
        rows=tuple(made),
        folded=_folded(answer, totals, made),
        nodes=answered(nodes, answer),
        nodes_asked=answer.asked,
        sent=(float(sent[0]), float(sent[1]), float(sent[2])) if len(sent) == len(rows.WINDOWS_SECONDS) else None,
        lost_samples=answer.total.lost,
        grouped=grouped,
        notes=(*notes, *told(answer)),
    )


def answered(nodes: Sequence[str], answer: Answer) -> tuple[str, ...]:
    """Return the names of the nodes that answered, as far as they are known; as many as did."""
    speaking = [name for name in sorted(nodes) if name not in answer.silent][: answer.answered]
    unknown = [f"?{number}" for number in range(1, answer.answered - len(speaking) + 1)]
    return (*speaking, *unknown)


def told(answer: Answer) -> list[str]:
    """Return what the reader of an answer should know."""
    notes = list(answer.troubles)
    missing = answer.asked - answer.answered
    if missing > 0 and answer.silent:
        more = f" and {missing - len(answer.silent)} more" if missing > len(answer.silent) else ""
        notes.append(f"no answer from {', '.join(answer.silent)}{more}")
    if answer.status == "False" and answer.message:
        notes.append(answer.message)
    return notes


def node_counts(answer: Answer) -> Mapping[Prefix, int]:
    """Return from how many nodes each client of an answer gets something."""
    return {client: row.nodes for row in answer.rows if (client := _client(row.client)) is not None}


def _row(row: traffic_answer.Row, known: Mapping[str, Limit] | None) -> Row | None:
    client = _client(row.client)
    if client is None:
        return None
    rates = _rates(row.bits_per_second, row.error_percent)
    more = (f"{row.nodes - 1} more",) if row.nodes > 1 else ()
    return Row(
        client=client,
        rates=rates,
        since_bytes=float(row.since_bytes),
        ports=tuple(port for text in row.ports if (port := _port(text)) is not None),
        holds=_holds(row, known, rates[0].bits_per_second),
        label=row.label,
        nodes=(row.node, *more) if row.node else (),
    )


def _client(text: str) -> Prefix | None:
    try:
        return addresses.network(text)
    except ValueError:
        return None


def _holds(row: traffic_answer.Row, known: Mapping[str, Limit] | None, bits_per_second: float) -> tuple[Hold, ...]:
    found: list[Hold] = []
    for name in row.limits:
        limit = (known or {}).get(name)
        if limit is None:
            found.append(Hold(name, None, at_limit=False, observes=False))
            continue
        rate = limit.per_node_bits_per_second or limit.rate_bits_per_second
        # What a client gets at other ports is not told apart, and says nothing about this limit.
        is_all = not limit.ports or (row.ports and all(_within(text, limit.ports) for text in row.ports))
        at_limit = bool(is_all) and rate > 0 and bits_per_second >= AT_LIMIT * rate * max(1, row.nodes)
        observes = limit.mode is Mode.OBSERVE
        found.append(Hold(name, limit.rate_bits_per_second or None, at_limit, observes, limit.ports))
    return tuple(found)


def _within(text: str, ports: Sequence[PortRange]) -> bool:
    port = _port(text)
    return port is not None and any(
        each.protocol == port.protocol and each.first <= port.number <= each.last for each in ports
    )


def _rates(bits_per_second: Sequence[int], error_percent: Sequence[float]) -> Rates:
    """Return rates with the variances and the numbers of samples that have these errors."""
    made = [
        _rate(bits_per_second[window] if window < len(bits_per_second) else 0, _at(error_percent, window))
        for window in range(len(rows.WINDOWS_SECONDS))
    ]
    return made[0], made[1], made[2]


def _rate(bits_per_second: int, error_percent: float) -> Rate:
    error = error_percent / 100
    samples = round(1 / error**2) if error > 0 else 0
    return Rate(float(bits_per_second), samples, (bits_per_second * error) ** 2)


def _at(numbers: Sequence[float], place: int) -> float:
    return numbers[place] if place < len(numbers) else 0.0


def _port(text: str) -> Port | None:
    protocol, _, number = text.partition(":")
    if protocol not in ("TCP", "UDP") or not number.isdecimal() or int(number) > 65535:
        return None
    return Port(protocol, int(number), 0.0)


def _folded(answer: Answer, totals: Rates, made: Sequence[Row]) -> Folded:
    """Return what has no row: the total, which may be of another moment, less all rows."""
    shown = rows.total([row.rates for row in made])
    rest = [
        Rate(
            max(0.0, all_.bits_per_second - part.bits_per_second),
            max(0, all_.samples - part.samples),
            max(0.0, all_.variance - part.variance),
        )
        for all_, part in zip(totals, shown, strict=True)
    ]
    since = max(0.0, answer.total.since_bytes - sum(row.since_bytes for row in made))
    return Folded(max(0, answer.total.clients - len(made)), (rest[0], rest[1], rest[2]), since)


def spec(
    *, top: int, nodes: Sequence[str] = (), exact: bool = False, grouped: bool = False, clients: Sequence[Prefix] = ()
) -> traffic_query.Spec:
    """Return what is asked. `clients`: those that alone are asked for."""
    return traffic_query.Spec(
        top=top,
        nodes=tuple(nodes),
        exact=exact,
        group=asked.NETWORK if grouped else asked.ADDRESS,
        clients=tuple(map(addresses.write, clients)),
    )
