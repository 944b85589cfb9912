"""NodeClientTraffic, what one node answers while somebody asks: values ↔ JSON of at most 1.5 KB.

Its rows are strings (`client_rows`). Pure. Nothing that a node writes is trusted: what is not of its form is left out,
and numbers are bounded.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bandwidth_api import addresses
from bandwidth_api.crds import asked, client_rows, watched
from bandwidth_api.crds.client_rows import NO_RATES, Found, Named, Rates, Row
from bandwidth_api.plan import Prefix

KIND = "NodeClientTraffic"
PLURAL = "nodeclienttraffics"
SCHEMA = 1
STATUS_MAX_BYTES = 1480  # of the JSON of the status, which is nearly all that is sent
ROWS_MAX = asked.TOP_MAX
NAMED_MAX = asked.CLIENTS_MAX
MESSAGE_MAX = 160
NAME_MAX = 253

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Traffic:
    """The report of one node."""

    node: str
    renewal: int = 0
    observed_at: float = 0.0  # seconds since the epoch, by the clock of the node
    interval_seconds: int = asked.INTERVAL_LEAST_SECONDS
    seconds: int = 0  # that it has looked
    total: Rates = NO_RATES
    since_bytes: float = 0.0
    sent: tuple[float, ...] = ()  # bit/s that the interfaces sent, by window; empty: not known
    clients: int = 0
    networks: int = 0
    lost: int = 0
    rows: tuple[Row, ...] = ()  # addresses and networks, each kind with the largest first
    found: tuple[Found, ...] = ()
    message: str = ""
    named: tuple[Named, ...] = ()  # clients that a question names
    watched: watched.Watched | None = None  # what is reported for policies; written by itself


def write(traffic: Traffic) -> Json:
    """Return the `status` without `watched`, at most STATUS_MAX_BYTES: the rows that count least are left out.

    Addresses and networks have half of the room each, where there are both.
    """
    wire: Json = {
        "schema": SCHEMA,
        "renewal": traffic.renewal,
        "observedAt": datetime.datetime.fromtimestamp(traffic.observed_at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "interval": traffic.interval_seconds,
        "seconds": traffic.seconds,
        "total": client_rows.amounts_text(traffic.total, traffic.since_bytes),
        "clients": traffic.clients,
        "networks": traffic.networks,
        "lost": traffic.lost,
        "message": traffic.message[:MESSAGE_MAX],  # also where it is empty: what is left out stays as it was
        "sent": " ".join(str(client_rows.whole_kbits(rate)) for rate in traffic.sent),
        "rows": [],
        "found": [],
        "named": [],
    }
    left = STATUS_MAX_BYTES - len(json.dumps(wire, separators=(",", ":"), ensure_ascii=False).encode())
    wire["named"] = _fitting([client_rows.named_text(each) for each in traffic.named[:NAMED_MAX]], left)
    left -= _size(wire["named"])
    found = [
        f"{each.place} {client_rows.amounts_text(each.rates, each.since_bytes)}"
        for each in traffic.found[: client_rows.FOUND_MAX]
    ]
    named = _fitting(found, left // 2)
    kinds = [
        [client_rows.row_text(row) for row in traffic.rows if _is_address(row.client)],
        [client_rows.row_text(row) for row in traffic.rows if not _is_address(row.client)],
    ]
    share = (left - _size(named)) // max(1, sum(bool(kind) for kind in kinds))
    wire["rows"] = [text for kind in kinds for text in _fitting(kind, share)][:ROWS_MAX]
    wire["found"] = _fitting(found, left - _size(wire["rows"]))
    return wire


def write_watched(of: watched.Watched, *, alone: bool = False) -> Json:
    """Return the part of the `status` that is reported for policies, to be merged with what else is there.

    `alone`: answers to questions are taken away.
    """
    answer: Json = dict.fromkeys(write(Traffic(""))) if alone else {}
    return answer | {"schema": SCHEMA, "watched": watched.write(of)}


def read(item: Mapping[str, Any]) -> Traffic | None:
    """Read a NodeClientTraffic; None where there is no report, or one of another schema. Odd rows are left out."""
    metadata, wire = item.get("metadata"), item.get("status")
    if not isinstance(metadata, Mapping) or not isinstance(wire, Mapping) or wire.get("schema") != SCHEMA:
        return None
    node = metadata.get("name")
    if not isinstance(node, str) or not 0 < len(node) <= NAME_MAX:
        return None
    seconds = _number(wire.get("seconds"), client_rows.SECONDS_MAX)
    total = client_rows.read_amounts(str(wire.get("total", ""))[: client_rows.ROW_MAX].split(), seconds)
    rates, since_bytes = total if total is not None else (NO_RATES, 0.0)
    message = wire.get("message")
    return Traffic(
        node=node,
        renewal=_number(wire.get("renewal"), asked.RENEWAL_MAX),
        observed_at=_seconds(wire.get("observedAt")),
        interval_seconds=max(asked.INTERVAL_LEAST_SECONDS, _number(wire.get("interval"), asked.INTERVAL_MAX_SECONDS)),
        seconds=seconds,
        total=rates,
        since_bytes=since_bytes,
        sent=_read_sent(wire.get("sent")),
        clients=_number(wire.get("clients"), client_rows.BYTES_MAX),
        networks=_number(wire.get("networks"), client_rows.BYTES_MAX),
        lost=_number(wire.get("lost"), client_rows.BYTES_MAX),
        rows=tuple(_once(client_rows.read_row(text, seconds) for text in _texts(wire.get("rows"), ROWS_MAX))),
        found=tuple(
            _once(client_rows.read_found(text, seconds) for text in _texts(wire.get("found"), client_rows.FOUND_MAX))
        ),
        named=tuple(_once(client_rows.read_named(text) for text in _texts(wire.get("named"), NAMED_MAX))),
        message=message[:MESSAGE_MAX] if isinstance(message, str) else "",
        watched=watched.read(wire.get("watched")),
    )


def _fitting(texts: Sequence[str], room_bytes: int) -> list[str]:
    """Return as many of the first texts as fit."""
    fitting: list[str] = []
    for text in texts:
        room_bytes -= len(text) + 3  # quotes and a comma
        if room_bytes < 0:
            break
        fitting.append(text)
    return fitting


def _size(texts: Sequence[str]) -> int:
    return sum(len(text) + 3 for text in texts)


def _read_sent(value: object) -> tuple[float, ...]:
    words = value[: client_rows.ROW_MAX].split() if isinstance(value, str) else []
    rates = [1000.0 * rate for word in words if (rate := client_rows.digits(word, client_rows.KBITS_MAX)) is not None]
    return tuple(rates) if len(words) == len(rates) == len(client_rows.WINDOWS_SECONDS) else ()


def _once(many: Iterable[Any]) -> list[Any]:
    """Return what could be read, each client once: the first counts."""
    known: dict[object, Any] = {}
    for each in many:
        if each is not None:
            known.setdefault(each[0], each)
    return list(known.values())


def _is_address(client: Prefix) -> bool:
    return client.length == addresses.BITS[client.family]


def _texts(value: object, most: int) -> list[str]:
    found = value[:most] if isinstance(value, list) else []
    return [each for each in found if isinstance(each, str) and len(each) <= client_rows.ROW_MAX and each.split()]


def _number(value: object, most: int) -> int:
    return min(max(value, 0), most) if type(value) is int else 0


def _seconds(value: object) -> float:
    try:
        found = datetime.datetime.fromisoformat(str(value)[:64]).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return found if math.isfinite(found) else 0.0
