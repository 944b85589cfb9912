"""A ClientBandwidthPolicy: frozen models with the rules of the CRD, which hold values and no longer their text.

Owns reading and checking one object by itself. Errors are returned (`parse`), never raised. Unknown fields in `spec`
are errors; `status` belongs to the operator and is ignored.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, Field

from bandwidth_api import addresses, names, units
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import explain, forms
from bandwidth_api.plan import Mode, Prefix

PLURAL = "clientbandwidthpolicies"
NAME_MAX = 40  # characters: a limit that it makes is called NAME-HASH, and a label's value has 63
LABELS_MAX = 8
LIFT_PERCENT_MAX = 90
EVERYBODY = ("0.0.0.0/0", "::/0")
_LABEL_NAME = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
)
_LABEL_VALUE_PATTERN = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_LABEL_VALUE = re.compile(_LABEL_VALUE_PATTERN.strip("^$"))
_SLOWS_NOBODY = "every step's rate must be below when.rate.above: a limit that slows nobody is no limit"
_EXAMPLES = {
    "kind": "kind: ClientBandwidthPolicy",
    "metadata": "metadata: {name: fair-use}",
    "name": "name: fair-use",
    "spec": "spec: {when: {rate: {above: 40Mbit}}, then: {steps: [{rate: 10Mbit, ttlSeconds: 600}]}}",
    "when": "when: {rate: {above: 40Mbit}}",
    "then": "then: {steps: [{rate: 10Mbit, ttlSeconds: 600}]}",
    "steps": "steps: [{rate: 10Mbit, ttlSeconds: 600}]",
    "ttlSeconds": "ttlSeconds: 600",
}


def parse(document: object) -> Policy | tuple[Problem, ...]:
    """The policy that this document is, or everything that is wrong with it."""
    if not isinstance(document, Mapping):
        message = f"must be a {names.POLICY_KIND} object, found {explain.describe(document)}"
        return (Problem(Reason.INVALID, message),)
    try:
        return Policy.model_validate({key: value for key, value in document.items() if key != "status"})
    except pydantic.ValidationError as error:
        return explain.problems(error, Policy, _EXAMPLES)


# ── who is watched, and what is too much ───────────────────────────────────────────────────────────────────────────


class Scope(enum.StrEnum):
    """Whether each node is looked at by itself, or what all of them sent a client together."""

    NODE = "Node"
    CLUSTER = "Cluster"


class GroupBy(forms.Part):
    """How many leading bits of an address are one client."""

    ipv4: Annotated[forms.Int32, Field(ge=24, le=32)] = 32
    ipv6: Annotated[forms.Int32, Field(ge=48, le=128)] = 64


def _everybody() -> tuple[Prefix, ...]:
    return tuple(map(addresses.parse, EVERYBODY))


_EVERYBODY = Field(json_schema_extra={"x-kubernetes-list-type": "set", "default": list(EVERYBODY)})


class Watch(forms.Part):
    clients: Annotated[tuple[forms.Cidr, ...], forms.UNIQUE, _EVERYBODY] = Field(
        default_factory=_everybody, min_length=1, max_length=32
    )
    ports: forms.PortList = Field(default=(), max_length=7)
    node_selector: forms.NodeTerms = ()
    group_by: GroupBy = Field(default_factory=GroupBy)
    scope: Scope = Scope.NODE


class RateAbove(forms.Part):
    above: forms.Rate
    for_seconds: Annotated[forms.Int32, Field(ge=5, le=3600)] = 300


class VolumeAbove(forms.Part):
    above: Annotated[
        int,
        forms.Written(
            Annotated[
                forms.Text, Field(max_length=units.TEXT_MAX, json_schema_extra={"pattern": units.VOLUME_PATTERN})
            ],
            units.parse_volume,
        ),
    ]  # bytes
    within_seconds: Annotated[forms.Int32, Field(ge=60, le=2678400)]


class ShareAbove(forms.Part):
    above_percent: Annotated[forms.Int32, Field(ge=5, le=100)]
    for_seconds: Annotated[forms.Int32, Field(ge=5, le=3600)] = 300


class UplinkAbove(forms.Part):
    above_percent: Annotated[forms.Int32, Field(ge=10, le=100)]
    capacity: forms.Rate | None = None
    for_seconds: Annotated[forms.Int32, Field(ge=5, le=3600)] = 30


class When(forms.Part):
    rate: RateAbove | None = None
    volume: VolumeAbove | None = None
    share: ShareAbove | None = None
    uplink: UplinkAbove | None = None

    @pydantic.model_validator(mode="after")
    def _names_a_client(self) -> When:
        if self.rate is None and self.volume is None and self.share is None:
            raise explain.misplaced("", "needs rate, volume or share: uplink alone does not say which client")
        return self


# ── what follows, when it ends, and what bounds it ─────────────────────────────────────────────────────────────────


class Step(forms.Part):
    rate: forms.Rate
    ttl_seconds: Annotated[forms.Int32, Field(ge=60, le=2678400)]


def _label_names(labels: dict[str, str]) -> dict[str, str]:
    for name in labels:
        prefix, slash, rest = name.rpartition("/")
        if not _LABEL_NAME.fullmatch(name) or len(rest) > forms.LABEL_VALUE_MAX or len(prefix) > forms.NAME_MAX:
            raise ValueError(f"{name[:60]!r} is no name of a label, such as team or example.com/team")
        if slash and (prefix == names.GROUP or prefix.endswith(f".{names.GROUP}")):
            raise ValueError(f"{name[:60]!r}: labels of {names.GROUP} are written by the policy itself")
    return labels


def _label_value(value: str) -> str:
    if not _LABEL_VALUE.fullmatch(value):
        raise ValueError(f"{value[:60]!r} is no value of a label: write letters, digits, '-', '_' and '.'")
    return value


_LabelText = Annotated[
    forms.LabelValue, Field(json_schema_extra={"pattern": _LABEL_VALUE_PATTERN}), AfterValidator(_label_value)
]


class Then(forms.Part):
    mode: Mode = Mode.OBSERVE
    steps: tuple[Step, ...] = Field(min_length=1, max_length=5)
    memory_seconds: Annotated[forms.Int32, Field(ge=0, le=2678400)] = 86400
    reason: Annotated[forms.Text, Field(max_length=160)] | None = None
    labels: Annotated[dict[forms.Text, _LabelText], AfterValidator(_label_names)] = Field(
        default={}, max_length=LABELS_MAX
    )

    @pydantic.model_validator(mode="after")
    def _slower_and_longer(self) -> Then:
        for index, (before, after) in enumerate(zip(self.steps, self.steps[1:], strict=False), 1):
            if after.rate > before.rate or after.ttl_seconds < before.ttl_seconds:
                message = "steps get slower and last longer: no step may be faster or shorter than the one before it"
                raise explain.misplaced(f".steps[{index}]", message)
        return self


class Lift(forms.Part):
    when_below_percent: Annotated[forms.Int32, Field(ge=0, le=100)] = 50
    for_seconds: Annotated[forms.Int32, Field(ge=30, le=86400)] = 300

    @pydantic.model_validator(mode="after")
    def _not_at_once(self) -> Lift:
        if self.when_below_percent > LIFT_PERCENT_MAX:
            message = (
                f"must be at most {LIFT_PERCENT_MAX}: a slowed client that sends at its limit would be lifted and"
                " slowed again"
            )
            raise explain.misplaced(".whenBelowPercent", message)
        return self


class Safety(forms.Part):
    max_limits: Annotated[forms.Int32, Field(ge=1, le=500)] = 10
    max_new_per_minute: Annotated[forms.Int32, Field(ge=1, le=100)] = 5
    exempt: Annotated[tuple[forms.Cidr, ...], forms.UNIQUE, forms.AS_SET] = Field(default=(), max_length=64)


class Spec(forms.Part):
    priority: Annotated[forms.Int32, Field(ge=0, le=1000)] = 0
    watch: Watch = Field(default_factory=Watch)
    when: When
    then: Then
    lift: Lift = Field(default_factory=Lift)
    safety: Safety = Field(default_factory=Safety)

    @pydantic.model_validator(mode="after")
    def _slows_somebody(self) -> Spec:
        if self.when.rate is not None:
            for index, step in enumerate(self.then.steps):
                if step.rate >= self.when.rate.above:
                    raise explain.misplaced(f".then.steps[{index}].rate", _SLOWS_NOBODY)
        return self


class Metadata(forms.Metadata):
    @pydantic.field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if len(name) > NAME_MAX:
            raise ValueError(
                f"{name[:60]!r} must have at most {NAME_MAX} characters: the limits that it makes are called NAME-HASH"
            )
        return name


class Policy(forms.Part):
    """A ClientBandwidthPolicy that has passed all checks."""

    api_version: Literal["clientbandwidth.io/v1alpha1"]
    kind: Literal["ClientBandwidthPolicy"]
    metadata: Metadata
    spec: Spec

    @property
    def name(self) -> str:
        return self.metadata.name
