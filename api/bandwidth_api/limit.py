"""A ClientBandwidthLimit as its author wrote it: frozen models that hold exactly the rules of the CRD.

Owns reading and judging one object by itself. Knows nothing of other limits, of nodes or of the time now; what is
wrong comes back as rejections (`parse`), never as an exception. Unknown fields in `spec` are errors, because the one
that is not understood may be the one that mattered; `status` is the operator's and is not looked at.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.alias_generators import to_camel

from bandwidth_api import addresses, explain, names, units
from bandwidth_api.conditions import Reason, Rejection
from bandwidth_api.plan import Distribution, Mode, Sharing

NAME_MAX = 253
LABEL_NAME_MAX = 317
LABEL_VALUE_MAX = 63
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_RFC3339 = re.compile(r"(?i)\d{4}-\d{2}-\d{2}T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d{2}:\d{2})")
# Of an end: far from both ends of the calendar, where a time has no date any more in another zone.
_END_PATTERN = "^[2-8][0-9]{3}-"


def parse(document: object, *, created_at: datetime.datetime | None = None) -> Limit | tuple[Rejection, ...]:
    """The limit that this document is, or everything that is wrong with it.

    `created_at` stands in for a missing `metadata.creationTimestamp`: a file has none, but `ttlSeconds` and the age
    that decides ties count from it.
    """
    if not isinstance(document, Mapping):
        message = f"must be a {names.LIMIT_KIND} object, found {explain.describe(document)}"
        return (Rejection(Reason.INVALID, "", message),)
    try:
        parsed = Limit.model_validate({key: value for key, value in document.items() if key != "status"})
    except pydantic.ValidationError as error:
        return explain.rejections(error, Limit)
    return parsed if created_at is None else dated(parsed, created_at)


def dated(limit: Limit, created_at: datetime.datetime) -> Limit:
    """The limit with this time of creation, unless it has one."""
    if limit.metadata.creation_timestamp is not None:
        return limit
    metadata = limit.metadata.model_copy(update={"creation_timestamp": created_at})
    return limit.model_copy(update={"metadata": metadata})


# ── checks of single values; the text stays as written ─────────────────────────────────────────────────────────


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or len(text) > NAME_MAX:
        raise ValueError(
            f"{text[:60]!r} is no object name; write at most {NAME_MAX} lower-case letters, digits, '-' and '.',"
            " beginning and ending with a letter or digit"
        )
    return text


def _client(text: str) -> str:
    addresses.parse_client(text)
    return text


def _cidr(text: str) -> str:
    addresses.parse_cidr(text)
    return text


def _rate(text: str) -> str:
    units.parse_rate(text)
    return text


def _burst(text: str) -> str:
    units.parse_burst(text)
    return text


def _moment(value: object) -> datetime.datetime:
    """A point in time: RFC 3339 text, or what a YAML reader made of it."""
    hint = "write a time with its zone, such as 2030-01-31T18:00:00Z"
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; {hint}")
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a point in time, found {explain.describe(value)}; {hint}")
    try:
        if _RFC3339.fullmatch(value):
            return datetime.datetime.fromisoformat(value.upper())
    except ValueError:  # a 31st of February
        pass
    raise ValueError(f"{value[:60]!r} is no point in time; {hint}")


def _end(moment: datetime.datetime) -> datetime.datetime:
    if not 2000 <= moment.year <= 8999:
        raise ValueError(f"{moment.isoformat()} is out of range; write a year from 2000 to 8999")
    return moment


def _label_names(labels: dict[str, str]) -> dict[str, str]:
    for name in labels:
        if not 1 <= len(name) <= LABEL_NAME_MAX:
            raise ValueError(f"{name[:60]!r} is no name of a label; write 1 to {LABEL_NAME_MAX} characters")
    return labels


def _unique(items: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(items)) != len(items):
        index = next(i for i, item in enumerate(items) if item in items[:i])
        raise explain.misplaced(f"[{index}]", f"{items[index]} is written twice; remove one")
    return items


UNIQUE = AfterValidator(_unique)
AS_SET = Field(json_schema_extra={"x-kubernetes-list-type": "set"})
Text = Annotated[str, Field(strict=True)]
Integer = Annotated[int, Field(strict=True)]
Int32 = Annotated[Integer, Field(json_schema_extra={"format": "int32"})]
Moment = Annotated[datetime.datetime, BeforeValidator(_moment)]
End = Annotated[Moment, Field(json_schema_extra={"pattern": _END_PATTERN}), AfterValidator(_end)]
LabelValue = Annotated[Text, Field(max_length=LABEL_VALUE_MAX)]
Client = Annotated[Text, Field(max_length=addresses.TEXT_MAX), AfterValidator(_client)]
Cidr = Annotated[Text, Field(max_length=addresses.TEXT_MAX), AfterValidator(_cidr)]
Rate = Annotated[
    Text,
    Field(max_length=units.TEXT_MAX, json_schema_extra={"pattern": units.RATE_PATTERN}),
    AfterValidator(_rate),
]
Burst = Annotated[
    Text,
    Field(max_length=units.TEXT_MAX, json_schema_extra={"pattern": units.BURST_PATTERN}),
    AfterValidator(_burst),
]


# ── the object ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: object) -> object:
        """A field without a value is a field left out, as in the API server."""
        if isinstance(data, Mapping) and None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


class Ports(_Part):
    """One range of service ports."""

    protocol: Literal["TCP", "UDP"] | None = None  # None: TCP; the CRD says why there is no default
    port: Annotated[Int32, Field(ge=1, le=65535)]
    end_port: Annotated[Int32, Field(ge=1, le=65535)] | None = None

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Ports:
        if self.end_port is not None and self.end_port < self.port:
            raise explain.misplaced(".endPort", f"{self.end_port} is below port {self.port}; write the higher one last")
        return self


class Egress(_Part):
    rate: Rate
    burst: Burst | None = None
    sharing: Sharing = Sharing.SHARED
    distribution: Distribution = Distribution.PER_NODE
    ports: tuple[Ports, ...] = Field(default=(), max_length=7)


class Requirement(_Part):
    """One matchExpressions entry of a node selector."""

    key: Annotated[Text, Field(min_length=1, max_length=LABEL_NAME_MAX)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[LabelValue, ...] = Field(default=(), max_length=32)

    @pydantic.model_validator(mode="after")
    def _values_fit(self) -> Requirement:
        wants_values = self.operator in ("In", "NotIn")
        if wants_values and not self.values:
            raise explain.misplaced(".values", f"is required by the operator {self.operator}; write at least one value")
        if self.values and not wants_values:
            raise explain.misplaced(".values", f"must be left out with the operator {self.operator}")
        return self


class NodeSelector(_Part):
    match_labels: Annotated[dict[Text, LabelValue], AfterValidator(_label_names)] = Field(default={}, max_length=16)
    match_expressions: tuple[Requirement, ...] = Field(default=(), max_length=16)


class Spec(_Part):
    clients: Annotated[tuple[Client, ...], UNIQUE, AS_SET] = Field(min_length=1, max_length=64)
    excepted: Annotated[tuple[Cidr, ...], UNIQUE, AS_SET] = Field(default=(), max_length=16, alias="except")
    egress: Egress
    node_selector: NodeSelector | None = None
    mode: Mode = Mode.ENFORCE
    priority: Annotated[Int32, Field(ge=0, le=1000)] = 0
    expires_at: End | None = None
    ttl_seconds: Annotated[Int32, Field(ge=60, le=31536000)] | None = None
    reason: Annotated[Text, Field(max_length=256)] | None = None

    @pydantic.model_validator(mode="after")
    def _parts_agree(self) -> Spec:
        if self.expires_at is not None and self.ttl_seconds is not None:
            raise explain.misplaced(".ttlSeconds", "set at most one of expiresAt and ttlSeconds; remove one of them")
        if self.excepted:
            cidrs = [addresses.parse(client) for client in self.clients if "/" in client]
            for index, text in enumerate(self.excepted):
                if not any(addresses.covers(cidr, addresses.parse(text)) for cidr in cidrs):
                    message = f"{text} lies in none of the CIDRs of clients; remove it or add the CIDR around it"
                    raise explain.misplaced(f".except[{index}]", message)
        return self


class Metadata(_Part):
    """What of the metadata means something to us; the rest is passed over."""

    model_config = pydantic.ConfigDict(extra="ignore")

    name: Annotated[Text, AfterValidator(_name)]
    uid: Text = ""
    generation: Integer = 0
    creation_timestamp: Moment | None = None


class Limit(_Part):
    """A ClientBandwidthLimit that keeps all the rules."""

    api_version: Literal["clientbandwidth.io/v1alpha1"]
    kind: Literal["ClientBandwidthLimit"]
    metadata: Metadata
    spec: Spec

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def created_at(self) -> float | None:
        """Seconds since the epoch; None for a limit that no API server created and nobody dated."""
        created = self.metadata.creation_timestamp
        return None if created is None else created.timestamp()

    def expires_at(self, created_at: float) -> float | None:
        """Seconds since the epoch; None: it stays until it is deleted."""
        if self.spec.expires_at is not None:
            return self.spec.expires_at.timestamp()
        return None if self.spec.ttl_seconds is None else created_at + self.spec.ttl_seconds
