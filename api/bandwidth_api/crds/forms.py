"""How single values of a spec are written and what they are parsed to, and the parts that several kinds of object have.

Pure. Errors are ValueErrors, or errors of pydantic, whose message says what to write.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, WrapValidator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from bandwidth_api import addresses, units
from bandwidth_api.crds import explain
from bandwidth_api.plan import PortRange, Prefix, SelectorTerm

NAME_MAX = 253
LABEL_NAME_MAX = 317
LABEL_VALUE_MAX = 63
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_RFC3339 = re.compile(r"(?i)\d{4}-\d{2}-\d{2}T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d{2}:\d{2})")
# Of an end: far from both ends of the calendar, where a time has no date any more in another zone.
_END_PATTERN = "^[2-8][0-9]{3}-"


# ── single values: how each is written, and what it is parsed to ───────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """An annotation: the value is written in the type `form`, and held as what `parse` makes of that.

    The JSON schema is that of the form.
    """

    form: Any
    parse: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, _held: object, handler: pydantic.GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.parse, handler.generate_schema(self.form))


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or len(text) > NAME_MAX:
        raise ValueError(
            f"{text[:60]!r} is no object name; write at most {NAME_MAX} lower-case letters, digits, '-' and '.',"
            " beginning and ending with a letter or digit"
        )
    return text


def _moment(value: object) -> datetime.datetime:
    """Parse a point in time: RFC 3339 text, or the value that a YAML reader made of it."""
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


def _end(moment: datetime.datetime) -> float:
    if not 2000 <= moment.year <= 8999:
        raise ValueError(f"{moment.isoformat()} is out of range; write a year from 2000 to 8999")
    return moment.timestamp()


def _label_names(labels: dict[str, str]) -> dict[str, str]:
    for name in labels:
        if not 1 <= len(name) <= LABEL_NAME_MAX:
            raise ValueError(f"{name[:60]!r} is no name of a label; write 1 to {LABEL_NAME_MAX} characters")
    return labels


def _unique(written: Any, parse: pydantic.ValidatorFunctionWrapHandler) -> Any:
    """Refuse a text that is written twice, as the API server does; two texts may have one meaning."""
    parsed = parse(written)
    if len(set(written)) != len(written):
        index = next(i for i, item in enumerate(written) if item in written[:i])
        raise explain.misplaced(f"[{index}]", f"{written[index]} is written twice; remove one")
    return parsed


UNIQUE = WrapValidator(_unique)
AS_SET = Field(json_schema_extra={"x-kubernetes-list-type": "set"})
Text = Annotated[str, Field(strict=True)]
Integer = Annotated[int, Field(strict=True)]
Int32 = Annotated[Integer, Field(json_schema_extra={"format": "int32"})]
LabelValue = Annotated[Text, Field(max_length=LABEL_VALUE_MAX)]

_MomentText = Annotated[datetime.datetime, BeforeValidator(_moment)]
_EndText = Annotated[_MomentText, Field(json_schema_extra={"pattern": _END_PATTERN})]
_AddressText = Annotated[Text, Field(max_length=addresses.TEXT_MAX)]
_RateText = Annotated[Text, Field(max_length=units.TEXT_MAX, json_schema_extra={"pattern": units.RATE_PATTERN})]
_BurstText = Annotated[Text, Field(max_length=units.TEXT_MAX, json_schema_extra={"pattern": units.BURST_PATTERN})]

Moment = Annotated[float, Written(_MomentText, datetime.datetime.timestamp)]  # seconds since the epoch
End = Annotated[float, Written(_EndText, _end)]
Client = Annotated[Prefix, Written(_AddressText, addresses.parse_client)]
Cidr = Annotated[Prefix, Written(_AddressText, addresses.parse_cidr)]
Rate = Annotated[int, Written(_RateText, units.parse_rate)]  # bits per second
Burst = Annotated[int, Written(_BurstText, units.parse_burst)]  # bytes


# ── parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: object) -> object:
        """Remove fields without a value, which count as left out, as in the API server."""
        if isinstance(data, Mapping) and None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


class Ports(Part):
    """One range of service ports, as it is written."""

    protocol: Literal["TCP", "UDP"] | None = None  # None: TCP; the CRD explains why there is no default
    port: Annotated[Int32, Field(ge=1, le=65535)]
    end_port: Annotated[Int32, Field(ge=1, le=65535)] | None = None

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Ports:
        if self.end_port is not None and self.end_port < self.port:
            raise explain.misplaced(".endPort", f"{self.end_port} is below port {self.port}; write the higher one last")
        return self

    def parsed(self) -> PortRange:
        return PortRange(self.protocol or "TCP", self.port, self.end_port or self.port)


class Requirement(Part):
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


class NodeSelector(Part):
    match_labels: Annotated[dict[Text, LabelValue], AfterValidator(_label_names)] = Field(default={}, max_length=16)
    match_expressions: tuple[Requirement, ...] = Field(default=(), max_length=16)

    def parsed(self) -> tuple[SelectorTerm, ...]:
        labels = (SelectorTerm(key, "In", (value,)) for key, value in sorted(self.match_labels.items()))
        expressions = (SelectorTerm(e.key, e.operator, e.values) for e in self.match_expressions)
        return (*labels, *expressions)


PortList = tuple[Annotated[PortRange, Written(Ports, Ports.parsed)], ...]
# Terms that must all hold; none selects every node.
NodeTerms = Annotated[tuple[SelectorTerm, ...], Written(NodeSelector, NodeSelector.parsed)]


class Metadata(Part):
    """The part of the metadata that we use; other fields are ignored."""

    model_config = pydantic.ConfigDict(extra="ignore")

    name: Annotated[Text, AfterValidator(_name)]
    uid: Text = ""
    generation: Integer = 0
    creation_timestamp: Moment | None = None
