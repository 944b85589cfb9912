"""ClientTrafficQuery, the question who gets how much: its spec and the answer in its status, values ↔ JSON.

Pure; needs no more than the standard library. The answer never takes more than STATUS_MAX_BYTES: of what does not fit,
the smallest rows are left out. Nothing in an object is trusted: a field of the wrong type counts as left out.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from bandwidth_api.crds import asked

KIND = "ClientTrafficQuery"
PLURAL = "clienttrafficqueries"
STATUS_MAX_BYTES = 8000  # of the JSON of the status
SECONDS = (5, 60)  # the least and the most, of what `spec.seconds` may be; likewise the others
INTERVAL = (2, 60)
TOP = (1, asked.TOP_MAX)
DEFAULT_SECONDS, DEFAULT_INTERVAL, DEFAULT_TOP = 60, 2, 20
NODES_MAX = 64
SILENT_MAX = 5  # names of nodes that have not answered
TROUBLES_MAX = 3
TROUBLE_MAX = 160  # characters
PORTS_MAX = 4
LIMITS_MAX = 2
NAME_MAX = 253
NUMBER_MAX = 1 << 53
WINDOWS_SECONDS = (2, 10, 60)  # that rates are averages of

ANSWERED = "Answered"  # the type of the condition, and its reason while nodes answer
WAITING = "Waiting"
TOO_MANY = "TooManyQuestions"
NO_NODE = "NoNodeSelected"
ENDED = "Ended"  # it was not renewed, and is deleted soon
OLD_PLAN = "OldPlanSchema"  # the CRD of the plan's slices is older than this

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """What is asked."""

    seconds: int = DEFAULT_SECONDS
    interval_seconds: int = DEFAULT_INTERVAL
    top: int = DEFAULT_TOP
    group: str = asked.ADDRESS
    nodes: tuple[str, ...] = ()  # empty: all
    exact: bool = False
    renewal: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """One question. Each change of its spec, which raises `generation`, renews it."""

    name: str
    uid: str
    generation: int
    spec: Spec
    created: str = ""  # RFC 3339, by the API server
    version: str = ""
    renewed_at: float | None = None  # seconds since the epoch, by the API server's clock; None: not known


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


def write_spec(spec: Spec) -> Json:
    """Return the `spec` of the object; what is at its default is left out."""
    default = Spec()
    wire: Json = {"renewal": spec.renewal}
    for key, value, usual in (
        ("seconds", spec.seconds, default.seconds),
        ("interval", spec.interval_seconds, default.interval_seconds),
        ("top", spec.top, default.top),
        ("group", spec.group, default.group),
        ("nodes", list(spec.nodes), []),
        ("exact", spec.exact, default.exact),
    ):
        if value != usual:
            wire[key] = value
    return wire


def read(item: Mapping[str, Any]) -> Query:
    """Read a ClientTrafficQuery; a number out of its bounds is brought into them."""
    metadata, wire = _mapping(item.get("metadata")), _mapping(item.get("spec"))
    group = wire.get("group")
    return Query(
        name=_text(metadata.get("name"), NAME_MAX),
        uid=_text(metadata.get("uid"), 64),
        generation=_number(metadata.get("generation"), 0, 0, NUMBER_MAX),
        created=_text(metadata.get("creationTimestamp"), 64),
        version=_text(metadata.get("resourceVersion"), 64),
        renewed_at=_renewed_at(metadata),
        spec=Spec(
            seconds=_number(wire.get("seconds"), DEFAULT_SECONDS, *SECONDS),
            interval_seconds=_number(wire.get("interval"), DEFAULT_INTERVAL, *INTERVAL),
            top=_number(wire.get("top"), DEFAULT_TOP, *TOP),
            group=group if isinstance(group, str) and group in asked.GROUPS else asked.ADDRESS,
            nodes=_texts(wire.get("nodes"), NODES_MAX, NAME_MAX),
            exact=wire.get("exact") is True,
            renewal=_number(wire.get("renewal"), 0, 0, NUMBER_MAX),
        ),
    )


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
    nodes, total = _mapping(wire.get("nodes")), _mapping(wire.get("total"))
    conditions = wire.get("conditions")
    found = [c for c in conditions if isinstance(c, Mapping)] if isinstance(conditions, list) else []
    condition = next((c for c in found if c.get("type") == ANSWERED), {})
    rows = wire.get("rows")
    return Answer(
        generation=_number(wire.get("observedGeneration"), 0, 0, NUMBER_MAX),
        observed_at=_seconds(wire.get("observedAt")),
        interval_seconds=_number(wire.get("interval"), 0, 0, NUMBER_MAX),
        seconds=_number(wire.get("seconds"), 0, 0, NUMBER_MAX),
        asked=_number(nodes.get("asked"), 0, 0, NUMBER_MAX),
        answered=_number(nodes.get("answered"), 0, 0, NUMBER_MAX),
        silent=_texts(nodes.get("silent"), SILENT_MAX, NAME_MAX),
        troubles=_texts(nodes.get("troubles"), TROUBLES_MAX, 256),
        total=Total(
            _numbers(total.get("bitsPerSecond")),
            _floats(total.get("errorPercent")),
            _number(total.get("sinceBytes"), 0, 0, NUMBER_MAX),
            _numbers(total["sentBitsPerSecond"]) if isinstance(total.get("sentBitsPerSecond"), list) else (),
            _number(total.get("clients"), 0, 0, NUMBER_MAX),
            _number(total.get("lost"), 0, 0, NUMBER_MAX),
        ),
        rows=tuple(_read_row(row) for row in rows[: asked.TOP_MAX] if isinstance(row, Mapping))
        if isinstance(rows, list)
        else (),
        status=_text(condition.get("status"), 16) or "Unknown",
        reason=_text(condition.get("reason"), 64) or WAITING,
        message=_text(condition.get("message"), 512),
        since=_text(condition.get("lastTransitionTime"), 64),
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
        client=_text(wire.get("client"), asked.TEXT_MAX),
        bits_per_second=_numbers(wire.get("bitsPerSecond")),
        error_percent=_floats(wire.get("errorPercent")),
        since_bytes=_number(wire.get("sinceBytes"), 0, 0, NUMBER_MAX),
        ports=_texts(wire.get("ports"), PORTS_MAX, 16),
        nodes=_number(wire.get("nodes"), 0, 0, NUMBER_MAX),
        node=_text(wire.get("node"), NAME_MAX),
        limits=_texts(wire.get("limits"), LIMITS_MAX, NAME_MAX),
        label=_text(wire.get("label"), 270),
    )


def _size(wire: Json) -> int:
    return len(json.dumps(wire, separators=(",", ":"), ensure_ascii=False).encode())


def _renewed_at(metadata: Mapping[str, Any]) -> float | None:
    """Return when anything but the status was last written; the API server dates each write."""
    fields = metadata.get("managedFields")
    listed = fields if isinstance(fields, list) else []
    written = [f.get("time") for f in listed if isinstance(f, Mapping) and not f.get("subresource")]
    times = [_seconds(each) for each in (*written, metadata.get("creationTimestamp"))]
    return max(times) or None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object, most: int) -> str:
    return value[:most] if isinstance(value, str) else ""


def _texts(value: object, most: int, longest: int) -> tuple[str, ...]:
    found = value if isinstance(value, list) else []
    return tuple(each for each in found[:most] if isinstance(each, str) and 0 < len(each) <= longest)


def _number(value: object, otherwise: int, least: int, most: int) -> int:
    return min(max(value, least), most) if type(value) is int else otherwise


def _numbers(value: object) -> tuple[int, ...]:
    found = value if isinstance(value, list) else []
    made = [_number(each, 0, 0, NUMBER_MAX) for each in found[: len(WINDOWS_SECONDS)]]
    return tuple(made + [0] * (len(WINDOWS_SECONDS) - len(made)))


def _floats(value: object) -> tuple[float, ...]:
    found = value if isinstance(value, list) else []
    made = [
        min(max(float(each), 0.0), 1e6) if type(each) in (int, float) and each == each else 0.0
        for each in found[: len(WINDOWS_SECONDS)]
    ]
    return tuple(made + [0.0] * (len(WINDOWS_SECONDS) - len(made)))


def _seconds(value: object) -> float:
    try:
        return datetime.datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
