"""What a node reports for policies, as a NodeClientTraffic carries it beside the answers to questions: values ↔ JSON.

    198.51.100.7 741000 h12 T993:80,T443:20
    client       kB     how often its class held a packet back; left out where that is not known; ports and per cent

Each report is of the time since the one before: its bytes and its seconds. So one that is lost makes less of a client,
never more. A report of the last seconds alone says beside them for how long there was nothing to say before.

Pure. Nothing that a node writes is trusted: what is not of its form is left out, and numbers are bounded.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bandwidth_api import addresses
from bandwidth_api.crds import client_rows
from bandwidth_api.crds.client_rows import BYTES_MAX, PORTS_MAX, ROW_MAX, Port
from bandwidth_api.plan import Prefix

CANDIDATES_MAX = 10
MAX_BYTES = 600  # of the JSON, candidates and all but the clients that are limited
LIMITED_MAX_BYTES = 4096  # of these
ROWS_MAX = 256
COUNT_MAX = 1 << 31
SECONDS_MAX = 86_400
CAPACITY_MAX = 10_000_000_000_000_000
TROUBLE_MAX = 160
_KB = 1000


class Client(NamedTuple):
    """What a node sent one client."""

    client: Prefix
    bytes: float
    over_limits: int | None = None  # how often its class held a packet back; None: it has none, or that is not known
    ports: tuple[Port, ...] = ()


class Span(NamedTuple):
    """A stretch of time, and what the uplinks sent in it; None: not known."""

    seconds: float = 0.0
    sent_bytes: float | None = None


NO_TIME = Span()


@dataclasses.dataclass(frozen=True, slots=True)
class Watched:
    """One report. `limited` and `candidates` are of `span`; in `before`, the time before it, there was no candidate."""

    number: int  # another one is another report
    span: Span = NO_TIME
    before: Span = NO_TIME
    capacity_bits_per_second: int | None = None  # of the uplinks together
    limited: tuple[Client, ...] = ()  # clients that were asked for, with 0 bytes too
    candidates: tuple[Client, ...] = ()  # the largest first
    trouble: str = ""  # what keeps the node from looking; then nothing else is said


def write(watched: Watched) -> dict[str, Any]:
    """Return the JSON object, with all fields: in a merge nothing stays of the one before."""
    wire: dict[str, Any] = {
        "number": watched.number,
        "span": _span_text(watched.span),
        "before": _span_text(watched.before),
        "capacity": watched.capacity_bits_per_second or 0,
        "limited": _fitting(watched.limited, LIMITED_MAX_BYTES, ROWS_MAX),
        "candidates": [],
        "trouble": watched.trouble[:TROUBLE_MAX],
    }
    own = {**wire, "limited": []}
    room = MAX_BYTES - len(json.dumps(own, separators=(",", ":"), ensure_ascii=False).encode())
    wire["candidates"] = _fitting(watched.candidates, room, CANDIDATES_MAX)
    return wire


def read(wire: object) -> Watched | None:
    """Read such an object; None where there is none. Odd rows are left out, and of two of one client the second."""
    if not isinstance(wire, Mapping) or type(wire.get("number")) is not int:
        return None
    capacity, trouble = wire.get("capacity"), wire.get("trouble")
    limited = _rows(wire.get("limited"), ROWS_MAX)
    candidates = _rows(wire.get("candidates"), CANDIDATES_MAX)
    return Watched(
        wire["number"],
        _read_span(wire.get("span")),
        _read_span(wire.get("before")),
        min(capacity, CAPACITY_MAX) if type(capacity) is int and capacity > 0 else None,
        tuple(limited.values()),
        tuple(each for client, each in candidates.items() if client not in limited),
        trouble[:TROUBLE_MAX] if isinstance(trouble, str) else "",
    )


def _span_text(span: Span) -> str:
    """Seconds with three decimals, and kB where they are known."""
    text = f"{min(max(0.0, span.seconds), SECONDS_MAX):.3f}"
    return text if span.sent_bytes is None else f"{text} {_kilobytes(span.sent_bytes)}"


def _read_span(value: object) -> Span:
    words = value[:ROW_MAX].split() if isinstance(value, str) else []
    if not 1 <= len(words) <= 2:
        return NO_TIME
    whole, _, rest = words[0].partition(".")
    numbers = client_rows.digits(whole, SECONDS_MAX), client_rows.digits(rest or "0", 999)
    if None in numbers or len(rest) not in (0, 3):
        return NO_TIME
    sent = client_rows.digits(words[1], BYTES_MAX // _KB) if len(words) == 2 else None
    return Span((numbers[0] or 0) + (numbers[1] or 0) / 1000, None if sent is None else float(sent * _KB))


def row_text(client: Client) -> str:
    """Return a client as text."""
    words = [addresses.write(client.client), str(_kilobytes(client.bytes))]
    if client.over_limits is not None:
        words.append(f"h{min(max(0, client.over_limits), COUNT_MAX)}")
    if client.ports:
        of = client.ports[:PORTS_MAX]
        words.append(",".join(f"{p.protocol[:1]}{p.number}:{round(100 * min(max(0.0, p.share), 1.0))}" for p in of))
    return " ".join(words)


def _kilobytes(number_bytes: float) -> int:
    """What is not nothing is at least 1."""
    if not (number_bytes > 0 and math.isfinite(number_bytes)):
        return 0
    return min(max(1, round(number_bytes / _KB)), BYTES_MAX // _KB)


def _fitting(clients: Sequence[Client], room_bytes: int, most: int) -> list[str]:
    fitting: list[str] = []
    for text in map(row_text, clients[:most]):
        room_bytes -= len(text) + 3  # quotes and a comma
        if room_bytes < 0:
            break
        fitting.append(text)
    return fitting


def _rows(value: object, most: int) -> dict[Prefix, Client]:
    found: dict[Prefix, Client] = {}
    for text in value[:most] if isinstance(value, list) else []:
        row = _read_row(text) if isinstance(text, str) and len(text) <= ROW_MAX else None
        if row is not None:
            found.setdefault(row.client, row)
    return found


def _read_row(text: str) -> Client | None:
    words = text.split()
    if not 2 <= len(words) <= 4:
        return None
    kilobytes = client_rows.digits(words[1], BYTES_MAX // _KB)
    held = client_rows.digits(words[2][1:], COUNT_MAX) if len(words) > 2 and words[2].startswith("h") else None
    ports = client_rows.read_ports(words[3 if held is not None else 2 :])
    if kilobytes is None:
        return None
    try:
        return Client(addresses.parse(words[0]), float(kilobytes * _KB), held, ports)
    except ValueError:
        return None
