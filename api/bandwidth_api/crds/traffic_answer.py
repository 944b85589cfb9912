"""The answer to a ClientTrafficQuery, in its status: values ↔ JSON.

Pure; needs no more than the standard library. The answer never takes more than STATUS_MAX_BYTES: of what does not fit,
the smallest rows are left out. Nothing in an object is trusted: a field of the wrong type counts as left out.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from bandwidth_api.crds import asked, lenient, traffic_query

STATUS_MAX_BYTES = 8000  # of the JSON of the status
SILENT_MAX = 5  # names of nodes that have not answered
TROUBLES_MAX = 3
TROUBLE_MAX = 160  # characters
PORTS_MAX = 4
LIMITS_MAX = 2
WINDOWS_SECONDS = (2, 10, 60)  # that rates are averages of

ANSWERED = "Answered"  # the type of the condition, and its reason while nodes answer
WAITING = "Waiting"
TOO_MANY = "TooManyQuestions"
NO_NODE = "NoNodeSelected"
ENDED = "Ended"  # it was not renewed, and is deleted soon
OLD_PLAN = "OldPlanSchema"  # the CRD of the plan's slices is older than this

Json = dict[str, Any]


class Row(NamedTuple):
    """One client, or one network of clients; the three rates are averages over WINDOWS_SECONDS."""

    client: str
    bits_per_second: tuple[int, ...]
    error_percent: tuple[float, ...]
    since_bytes: int
    ports: tuple[str, ...] = ()  # such as TCP:993, the largest first
    nodes: int = 1
    node: str = ""  # that sends most to it
    limits: tuple[str, ...] = ()
    label: str = ""  # what the address is, where it is no client: "node worker-1"


class Total(NamedTuple):
    """All clients of all nodes together."""

    bits_per_second: tuple[int, ...] = (0, 0, 0)
    error_percent: tuple[float, ...] = (0.0, 0.0, 0.0)
    since_bytes: int = 0
    sent_bits_per_second: tuple[int, ...] = ()  # empty: not known
    clients: int = 0
    lost: int = 0


NOTHING = Total()


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The status of a question."""

    generation: int = 0
    observed_at: float = 0.0  # seconds since the epoch
    interval_seconds: int = 0
    seconds: int = 0  # that the nodes have looked
    asked: int = 0
    answered: int = 0
    silent: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()
    total: Total = NOTHING
    rows: tuple[Row, ...] = ()
    status: str = "Unknown"  # of the condition Answered
    reason: str = WAITING
    message: str = ""
    since: str = ""  # when the condition last changed, RFC 3339


def write_answer(answer: Answer) -> Json:
    """Return the `status` of the object, at most STATUS_MAX_BYTES: the smallest rows are left out."""
    at = rfc3339(answer.observed_at)
    total: Json = {
        "bitsPerSecond": list(answer.total.bits_per_second),
        "errorPercent": list(answer.total.error_percent),
        "sinceBytes": answer.total.since_bytes,
        "clients": answer.total.clients,
        "lost": answer.total.lost,
    }
    if answer.total.sent_bits_per_second:
        total["sentBitsPerSecond"] = list(answer.total.sent_bits_per_second)
    wire: Json = {
        "observedGeneration": answer.generation,
        "observedAt": at,
        "interval": answer.interval_seconds,
        "seconds": answer.seconds,
        "nodes": {
            "asked": answer.asked,
            "answered": answer.answered,
            "silent": list(answer.silent[:SILENT_MAX]),
            "troubles": [trouble[:TROUBLE_MAX] for trouble in answer.troubles[:TROUBLES_MAX]],
        },
        "total": total,
        "rows": [],
        "conditions": [
            {
                "type": ANSWERED,
                "status": answer.status,
                "reason": answer.reason,
                "message": answer.message[:512],
                "lastTransitionTime": answer.since or at,
                "observedGeneration": answer.generation,
            }
        ],
    }
    left = STATUS_MAX_BYTES - _size(wire)
    for row in answer.rows[: asked.TOP_MAX]:
        each = _write_row(row)
        left -= _size(each) + 1
        if left < 0:
            break
        wire["rows"].append(each)
    return wire


def read_answer(item: Mapping[str, Any]) -> Answer | None:
    """Read the answer in a ClientTrafficQuery; None if there is none yet."""
    wire = item.get("status")
    if not isinstance(wire, Mapping) or not wire:
        return None
    nodes, total = lenient.mapping(wire.get("nodes")), lenient.mapping(wire.get("total"))
    conditions = wire.get("conditions")
    found = [c for c in conditions if isinstance(c, Mapping)] if isinstance(conditions, list) else []
    condition = next((c for c in found if c.get("type") == ANSWERED), {})
    rows = wire.get("rows")
    return Answer(
        generation=lenient.number(wire.get("observedGeneration"), 0, 0, lenient.NUMBER_MAX),
        observed_at=lenient.seconds(wire.get("observedAt")),
        interval_seconds=lenient.number(wire.get("interval"), 0, 0, lenient.NUMBER_MAX),
        seconds=lenient.number(wire.get("seconds"), 0, 0, lenient.NUMBER_MAX),
        asked=lenient.number(nodes.get("asked"), 0, 0, lenient.NUMBER_MAX),
        answered=lenient.number(nodes.get("answered"), 0, 0, lenient.NUMBER_MAX),
        silent=lenient.texts(nodes.get("silent"), SILENT_MAX, traffic_query.NAME_MAX),
        troubles=lenient.texts(nodes.get("troubles"), TROUBLES_MAX, 256),
        total=Total(
            lenient.numbers(total.get("bitsPerSecond"), len(WINDOWS_SECONDS)),
            lenient.floats(total.get("errorPercent"), len(WINDOWS_SECONDS)),
            lenient.number(total.get("sinceBytes"), 0, 0, lenient.NUMBER_MAX),
            lenient.numbers(total["sentBitsPerSecond"], len(WINDOWS_SECONDS))
            if isinstance(total.get("sentBitsPerSecond"), list)
            else (),
            lenient.number(total.get("clients"), 0, 0, lenient.NUMBER_MAX),
            lenient.number(total.get("lost"), 0, 0, lenient.NUMBER_MAX),
        ),
        rows=tuple(_read_row(row) for row in rows[: asked.TOP_MAX] if isinstance(row, Mapping))
        if isinstance(rows, list)
        else (),
        status=lenient.text(condition.get("status"), 16) or "Unknown",
        reason=lenient.text(condition.get("reason"), 64) or WAITING,
        message=lenient.text(condition.get("message"), 512),
        since=lenient.text(condition.get("lastTransitionTime"), 64),
    )


def rfc3339(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as the API server writes times."""
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write_row(row: Row) -> Json:
    wire: Json = {
        "client": row.client,
        "bitsPerSecond": list(row.bits_per_second),
        "errorPercent": list(row.error_percent),
        "sinceBytes": row.since_bytes,
        "nodes": row.nodes,
    }
    if row.ports:
        wire["ports"] = list(row.ports[:PORTS_MAX])
    if row.node:
        wire["node"] = row.node
    if row.limits:
        wire["limits"] = list(row.limits[:LIMITS_MAX])
    if row.label:
        wire["label"] = row.label
    return wire


def _read_row(wire: Mapping[str, Any]) -> Row:
    return Row(
        client=lenient.text(wire.get("client"), asked.TEXT_MAX),
        bits_per_second=lenient.numbers(wire.get("bitsPerSecond"), len(WINDOWS_SECONDS)),
        error_percent=lenient.floats(wire.get("errorPercent"), len(WINDOWS_SECONDS)),
        since_bytes=lenient.number(wire.get("sinceBytes"), 0, 0, lenient.NUMBER_MAX),
        ports=lenient.texts(wire.get("ports"), PORTS_MAX, 16),
        nodes=lenient.number(wire.get("nodes"), 0, 0, lenient.NUMBER_MAX),
        node=lenient.text(wire.get("node"), traffic_query.NAME_MAX),
        limits=lenient.texts(wire.get("limits"), LIMITS_MAX, traffic_query.NAME_MAX),
        label=lenient.text(wire.get("label"), 270),
    )


def _size(wire: Json) -> int:
    return len(json.dumps(wire, separators=(",", ":"), ensure_ascii=False).encode())
