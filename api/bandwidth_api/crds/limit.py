"""A ClientBandwidthLimit: frozen models with exactly the rules of the CRD, which hold values and no longer their text.

Owns reading and checking one object by itself, without other limits, nodes or the current time. Errors are returned
(`parse`), never raised. Unknown fields in `spec` are errors, because the field that is not understood may be the one
that matters; `status` belongs to the operator and is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from bandwidth_api import addresses, names
from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.crds import explain, forms
from bandwidth_api.plan import Distribution, Mode, Sharing


def parse(document: object) -> Limit | tuple[Problem, ...]:
    """The limit that this document is, or everything that is wrong with it."""
    if not isinstance(document, Mapping):
        message = f"must be a {names.LIMIT_KIND} object, found {explain.describe(document)}"
        return (Problem(Reason.INVALID, message),)
    try:
        return Limit.model_validate({key: value for key, value in document.items() if key != "status"})
    except pydantic.ValidationError as error:
        return explain.problems(error, Limit)


class Egress(forms.Part):
    rate: forms.Rate
    burst: forms.Burst | None = None
    sharing: Sharing = Sharing.SHARED
    distribution: Distribution = Distribution.PER_NODE
    ports: forms.PortList = Field(default=(), max_length=7)


class Spec(forms.Part):
    clients: Annotated[tuple[forms.Client, ...], forms.UNIQUE, forms.AS_SET] = Field(min_length=1, max_length=64)
    excepted: Annotated[tuple[forms.Cidr, ...], forms.UNIQUE, forms.AS_SET] = Field(
        default=(), max_length=16, alias="except"
    )
    egress: Egress
    node_selector: forms.NodeTerms = ()
    mode: Mode = Mode.ENFORCE
    priority: Annotated[forms.Int32, Field(ge=0, le=1000)] = 0
    expires_at: forms.End | None = None
    ttl_seconds: Annotated[forms.Int32, Field(ge=60, le=31536000)] | None = None
    reason: Annotated[forms.Text, Field(max_length=256)] | None = None

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _parts_agree(cls, written: Any, parse: pydantic.ModelWrapValidatorHandler[Spec]) -> Spec:
        spec = parse(written)
        if spec.expires_at is not None and spec.ttl_seconds is not None:
            raise explain.misplaced(".ttlSeconds", "set at most one of expiresAt and ttlSeconds; remove one of them")
        if spec.excepted:  # which lies in a network that is written as one: a single address has no part
            cidrs = [client for client, text in zip(spec.clients, written["clients"], strict=True) if "/" in text]
            for index, excepted in enumerate(spec.excepted):
                if not any(addresses.covers(cidr, excepted) for cidr in cidrs):
                    text = addresses.write_cidr(excepted)
                    message = f"{text} lies in none of the CIDRs of clients; remove it or add the CIDR around it"
                    raise explain.misplaced(f".except[{index}]", message)
        return spec


def policy_of(labels: object) -> str:
    found = labels.get(names.POLICY) if isinstance(labels, Mapping) else None
    return found if isinstance(found, str) else ""


def _step(annotations: object) -> int:
    found = annotations.get(names.POLICY_STEP) if isinstance(annotations, Mapping) else None
    return int(found) if isinstance(found, str) and found in ("1", "2", "3", "4", "5") else 1


def _owner(references: object) -> str:
    for each in references if isinstance(references, Sequence) else ():
        if isinstance(each, Mapping) and each.get("kind") == names.POLICY_KIND and isinstance(each.get("uid"), str):
            return str(each["uid"])
    return ""


class Metadata(forms.Metadata):
    """Of a limit that a policy made, also which one and in which step; whatever else is there is no error."""

    policy: Annotated[str, BeforeValidator(policy_of)] = Field(default="", alias="labels")  # "": a person wrote it
    policy_step: Annotated[int, BeforeValidator(_step)] = Field(default=1, alias="annotations")  # counted from 1
    policy_uid: Annotated[str, BeforeValidator(_owner)] = Field(default="", alias="ownerReferences")  # "": no owner


class Limit(forms.Part):
    """A ClientBandwidthLimit that has passed all checks."""

    api_version: Literal["clientbandwidth.io/v1alpha1"]
    kind: Literal["ClientBandwidthLimit"]
    metadata: Metadata
    spec: Spec

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def created_at(self) -> float | None:
        """Seconds since the epoch; None for a limit that no API server created."""
        return self.metadata.creation_timestamp

    def expires_at(self, created_at: float) -> float | None:
        """Seconds since the epoch; None: it stays until it is deleted."""
        if self.spec.expires_at is not None:
            return self.spec.expires_at
        return None if self.spec.ttl_seconds is None else created_at + self.spec.ttl_seconds
