"""NodeClientTraffic, what one node answers while somebody asks: values ↔ JSON of at most 1.5 KB.

A row is one string, so that twenty of them fit:

    192.0.2.100 119200 118700 118650/29000 741000 T993:80,T443:20
    client      kbit/s in the last 2, 10, 60 s    kB since    ports: protocol, number, per cent
                            and samples in 60 s   it looks

`samples` is the number of equal samples that would have the same error: the relative standard error is 1 ÷ √samples.
In a shorter time there were as many fewer as there were fewer bytes. Rates of several nodes are added with their
variances.

Pure. Nothing that a node writes is trusted: what is not of this form is left out, and numbers are bounded.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bandwidth_api import addresses
from bandwidth_api.crds import asked
from bandwidth_api.plan import Prefix

KIND = "NodeClientTraffic"
PLURAL = "nodeclienttraffics"
SCHEMA = 1
STATUS_MAX_BYTES = 1480  # of the JSON of the status, which is nearly all that is sent
ROWS_MAX = asked.TOP_MAX
FOUND_MAX = asked.CANDIDATES_MAX
ROW_MAX = 128  # characters
PORTS_MAX = 3
MESSAGE_MAX = 160
NAME_MAX = 253
KBITS_MAX = 10_000_000_000  # 10 Tbit/s: no node sends more, whatever it reports
SAMPLES_MAX = 1_000_000_000
BYTES_MAX = 1 << 53
SECONDS_MAX = 1 << 31
WINDOWS_SECONDS = (2, 10, 60)

Json = dict[str, Any]


class Amount(NamedTuple):
    """A rate as it was estimated. `variance`: of bits_per_second; both are added."""

    bits_per_second: float
    variance: float


NOTHING = Amount(0.0, 0.0)
Rates = tuple[Amount, Amount, Amount]
NO_RATES: Rates = (NOTHING, NOTHING, NOTHING)


class Port(NamedTuple):
    protocol: str  # TCP or UDP
    number: int
    share: float  # of the row, 0 to 1


class Row(NamedTuple):
    """One client, or one network of clients."""

    client: Prefix
    rates: Rates
    since_bytes: float
    ports: tuple[Port, ...] = ()


class Found(NamedTuple):
    """A client that was asked for by name; `place` in the list of candidates."""

    place: int
    rates: Rates
    since_bytes: float


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


def write(traffic: Traffic) -> Json:
    """Return the `status` of the object, at most STATUS_MAX_BYTES: the rows that count least are left out.

    Addresses and networks have half of the room each, where there are both.
    """
    wire: Json = {
        "schema": SCHEMA,
        "renewal": traffic.renewal,
        "observedAt": datetime.datetime.fromtimestamp(traffic.observed_at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "interval": traffic.interval_seconds,
        "seconds": traffic.seconds,
        "total": _amounts(traffic.total, traffic.since_bytes),
        "clients": traffic.clients,
        "networks": traffic.networks,
        "lost": traffic.lost,
        "message": traffic.message[:MESSAGE_MAX],  # also where it is empty: what is left out stays as it was
        "sent": " ".join(str(_kbits(rate)) for rate in traffic.sent),
        "rows": [],
        "found": [],
    }
    left = STATUS_MAX_BYTES - len(json.dumps(wire, separators=(",", ":"), ensure_ascii=False).encode())
    found = [f"{each.place} {_amounts(each.rates, each.since_bytes)}" for each in traffic.found[:FOUND_MAX]]
    named = _fitting(found, left // 2)
    kinds = [
        [_row(row) for row in traffic.rows if _is_address(row.client)],
        [_row(row) for row in traffic.rows if not _is_address(row.client)],
    ]
    share = (left - _size(named)) // max(1, sum(bool(kind) for kind in kinds))
    wire["rows"] = [text for kind in kinds for text in _fitting(kind, share)][:ROWS_MAX]
    wire["found"] = _fitting(found, left - _size(wire["rows"]))
    return wire


def read(item: Mapping[str, Any]) -> Traffic | None:
    """Read a NodeClientTraffic; None where there is no report, or one of another schema. Odd rows are left out."""
    metadata, wire = item.get("metadata"), item.get("status")
    if not isinstance(metadata, Mapping) or not isinstance(wire, Mapping) or wire.get("schema") != SCHEMA:
        return None
    node = metadata.get("name")
    if not isinstance(node, str) or not 0 < len(node) <= NAME_MAX:
        return None
    seconds = _number(wire.get("seconds"), SECONDS_MAX)
    total = _read_amounts(str(wire.get("total", ""))[:ROW_MAX].split(), seconds)
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
        clients=_number(wire.get("clients"), BYTES_MAX),
        networks=_number(wire.get("networks"), BYTES_MAX),
        lost=_number(wire.get("lost"), BYTES_MAX),
        rows=tuple(_once(_read_row(text, seconds) for text in _texts(wire.get("rows"), ROWS_MAX))),
        found=tuple(_once(_read_found(text, seconds) for text in _texts(wire.get("found"), FOUND_MAX))),
        message=message[:MESSAGE_MAX] if isinstance(message, str) else "",
    )


def samples(amount: Amount) -> int:
    """Return how many equal samples have the error of this amount."""
    if amount.bits_per_second <= 0 or amount.variance <= 0:
        return 0
    return min(round(amount.bits_per_second**2 / amount.variance), SAMPLES_MAX)


def add(one: Rates, other: Rates) -> Rates:
    """Return the rates of two nodes, or of two clients, together."""
    first, second, third = (
        Amount(a.bits_per_second + b.bits_per_second, a.variance + b.variance) for a, b in zip(one, other, strict=True)
    )
    return first, second, third


# ── text ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(row: Row) -> str:
    ports = ",".join(f"{p.protocol[:1]}{p.number}:{round(100 * min(p.share, 1.0))}" for p in row.ports[:PORTS_MAX])
    text = f"{addresses.write(row.client)} {_amounts(row.rates, row.since_bytes)}"
    return f"{text} {ports}" if ports else text


def _amounts(rates: Sequence[Amount], since_bytes: float) -> str:
    kbits = " ".join(str(_kbits(rate.bits_per_second)) for rate in rates)
    return f"{kbits}/{samples(rates[-1])} {min(max(0, round(since_bytes / 1000)), BYTES_MAX // 1000)}"


def _kbits(bits_per_second: float) -> int:
    """Return a rate in kbit/s; what is not nothing is at least 1."""
    if not bits_per_second > 0:
        return 0
    return min(max(1, round(bits_per_second / 1000)), KBITS_MAX)


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


def _read_row(text: str, seconds: int) -> Row | None:
    client, *words = text.split()
    amounts = _read_amounts(words[:4], seconds)
    if amounts is None or len(words) > 5:
        return None
    try:
        return Row(addresses.parse(client), *amounts, _read_ports(words[4:]))
    except ValueError:
        return None


def _read_found(text: str, seconds: int) -> Found | None:
    place, *words = text.split()
    amounts = _read_amounts(words, seconds)
    number = _digits(place, FOUND_MAX - 1)
    return None if amounts is None or number is None else Found(number, *amounts)


def _read_amounts(words: Sequence[str], seconds: int) -> tuple[Rates, float] | None:
    """Parse three rates, the samples of the last one, and the bytes."""
    if len(words) != 4:
        return None
    last, _, count = words[2].partition("/")
    kbits = [_digits(word, KBITS_MAX) for word in (words[0], words[1], last)]
    number, since = _digits(count, SAMPLES_MAX), _digits(words[3], BYTES_MAX // 1000)
    if None in kbits or number is None or since is None:
        return None
    rates = [1000.0 * each for each in kbits if each is not None]
    times = [min(window, max(1, seconds)) for window in WINDOWS_SECONDS]
    per_sample = rates[-1] * times[-1] / number if number else 0.0  # bits
    first, second, third = (Amount(r, r * per_sample / t) for r, t in zip(rates, times, strict=True))
    return (first, second, third), since * 1000.0


def _read_ports(words: Sequence[str]) -> tuple[Port, ...]:
    found = []
    for word in ",".join(words).split(",")[:PORTS_MAX]:
        name, _, percent = word.partition(":")
        protocol = {"T": "TCP", "U": "UDP"}.get(name[:1])
        number, share = _digits(name[1:], 65535), _digits(percent, 100)
        if protocol is not None and number is not None and share is not None:
            found.append(Port(protocol, number, share / 100))
    return tuple(found)


def _read_sent(value: object) -> tuple[float, ...]:
    words = value[:ROW_MAX].split() if isinstance(value, str) else []
    rates = [1000.0 * rate for word in words if (rate := _digits(word, KBITS_MAX)) is not None]
    return tuple(rates) if len(words) == len(rates) == len(WINDOWS_SECONDS) else ()


def _digits(word: str, most: int) -> int | None:
    return min(int(word), most) if word.isascii() and word.isdigit() and len(word) <= 20 else None


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
    return [each for each in found if isinstance(each, str) and len(each) <= ROW_MAX and each.split()]


def _number(value: object, most: int) -> int:
    return min(max(value, 0), most) if type(value) is int else 0


def _seconds(value: object) -> float:
    try:
        found = datetime.datetime.fromisoformat(str(value)[:64]).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return found if math.isfinite(found) else 0.0
