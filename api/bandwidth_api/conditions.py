"""Condition types, reasons and problems of limits and policies, and how conditions are merged into a status.

Owns the vocabulary only: decides nothing about limits, reads no clock and writes no status.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

MESSAGE_MAX = 32768  # characters, as in every Kubernetes condition


class ConditionType(enum.StrEnum):
    ACCEPTED = "Accepted"  # the limit is well-formed and allowed
    PROGRAMMED = "Programmed"  # the kernels that should enforce it do
    READY = "Ready"  # accepted, programmed and in force
    CONFLICTED = "Conflicted"  # another limit wins over it somewhere
    STALLED = "Stalled"  # only an edit helps; there while it is so, and never False (kstatus: the object has failed)
    # of a policy, each there only while it is so
    AT_MAXIMUM = "AtMaximum"  # more clients are too much than it may limit
    CAPACITY_UNKNOWN = "CapacityUnknown"  # it needs the capacity of an uplink that nobody knows
    NOT_MEASURING = "NotMeasuring"  # nodes that it looks at do not report


class Status(enum.StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(enum.StrEnum):
    """The reasons of conditions and problems: each one CamelCase word for programs."""

    # all is well
    ACCEPTED = "Accepted"
    PROGRAMMED = "Programmed"
    READY = "Ready"
    PENDING = "Pending"
    # what its author wrote
    INVALID = "Invalid"
    UNKNOWN_FIELD = "UnknownField"
    UNREADABLE = "Unreadable"  # a file, or a document in it, that is no YAML object at all
    DUPLICATE_NAME = "DuplicateName"
    PROTECTED_ADDRESS = "ProtectedAddress"
    TOO_WIDE = "TooWide"  # it holds more addresses than one limit may
    KEPT_PREVIOUS = "KeptPrevious"  # what is written now is broken, what was accepted before stays in force
    EXPIRED = "Expired"
    DISABLED = "Disabled"
    # the installation
    RETIRED = "Retired"  # it was ended, and the nodes have removed the limit
    # other limits
    OVERRIDDEN = "Overridden"
    NO_CONFLICT = "NoConflict"
    OVERLAP_BUDGET = "OverlapBudget"  # its overlaps with others would take more table entries than there may be
    # the node
    NO_NODE_SELECTED = "NoNodeSelected"
    NODE_NOT_REPORTING = "NodeNotReporting"
    NO_EGRESS_INTERFACE = "NoEgressInterface"
    NOT_ON_THE_WAY = "NotOnTheWay"  # its client's packets pass nothing that slows them
    BYPASSED = "Bypassed"  # its packets were seen to leave past the class that should slow them
    UNVERIFIED = "Unverified"  # programmed where packets may pass by unseen, and none of its packets was seen yet
    MISSING_FEATURE = "MissingFeature"
    FOREIGN_QDISC = "ForeignQdisc"
    FOREIGN_FILTER = "ForeignFilter"
    MARK_CONFLICT = "MarkConflict"
    CONFLICTING_WRITER = "ConflictingWriter"
    KERNEL_REFUSED = "KernelRefused"
    CAPACITY_EXCEEDED = "CapacityExceeded"
    # a policy
    OBSERVING = "Observing"  # it slows nobody down, and says who would have been
    AT_MAXIMUM = "AtMaximum"
    CAPACITY_UNKNOWN = "CapacityUnknown"
    NOT_MEASURING = "NotMeasuring"
    TOO_MANY_POLICIES = "TooManyPolicies"  # nobody acts on it, since so many older ones are there
    # how an interface of a node is shaped where nothing is wrong
    CONFIGURED = "Configured"
    PREFERRED = "Preferred"

    @classmethod
    def _missing_(cls, value: object) -> Reason | None:
        """Keep the text of a reason that a newer program wrote; it is not `known`."""
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_, unknown._value_ = "", value
        return unknown

    @property
    def known(self) -> bool:
        """Whether this version of the program knows the reason."""
        return bool(self.name)


class Problem(NamedTuple):
    """Why a limit is not in force as written. A value from its cause to the status: never raised, never parsed.

    Code that knows the name or the file adds it with `_replace`; it becomes text where it leaves the program.
    """

    reason: Reason
    message: str  # one sentence with what to do; does not repeat the field
    field: str = ""  # what its author must change, like `spec.clients[2]`; "" for the whole object, or for no edit
    name: str = ""  # the limit, or in the status of one limit the node; a file where no name could be read
    file: str = ""  # the manifest that holds the field

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class Condition(NamedTuple):
    """One statement about an object. When it last changed is decided by `merge`."""

    type: ConditionType
    status: Status
    reason: Reason
    message: str = ""


def merge(
    written: Sequence[Mapping[str, object]],
    conditions: Iterable[Condition],
    *,
    observed_generation: int,
    now: datetime.datetime,
) -> list[dict[str, object]]:
    """Return the `status.conditions` to write: the `written` ones, with `conditions` in place of those of their types.

    `lastTransitionTime` changes only when a status changes, so that a second call with the same input changes nothing.
    Conditions of other types stay; the order stays, and new ones come last.
    """
    merged = {str(c.get("type")): dict(c) for c in written}
    for condition in conditions:
        before = merged.get(condition.type.value)
        if before is not None and before.get("status") == condition.status.value:
            since = before.get("lastTransitionTime", _rfc3339(now))
        else:
            since = _rfc3339(now)
        merged[condition.type.value] = {
            "type": condition.type.value,
            "status": condition.status.value,
            "observedGeneration": observed_generation,
            "lastTransitionTime": since,
            "reason": condition.reason.value,
            "message": condition.message[:MESSAGE_MAX],
        }
    return list(merged.values())


def _rfc3339(moment: datetime.datetime) -> str:
    """Return a time as Kubernetes writes it: UTC, whole seconds. Raises ValueError for a time without a time zone."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
