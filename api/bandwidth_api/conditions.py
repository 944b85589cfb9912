"""What can be said about a limit: condition types, reasons, rejections, and how conditions are merged into a status.

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


class Status(enum.StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(enum.StrEnum):
    """Why something is as it is, in one word for programs."""

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
    KEPT_PREVIOUS = "KeptPrevious"  # what is written now is broken, what was accepted before stays in force
    EXPIRED = "Expired"
    DISABLED = "Disabled"
    # the installation
    RETIRED = "Retired"  # it was ended, and the nodes have removed the limit
    # other limits
    OVERRIDDEN = "Overridden"
    NO_CONFLICT = "NoConflict"
    # the node
    NO_NODE_SELECTED = "NoNodeSelected"
    NODE_NOT_REPORTING = "NodeNotReporting"
    NO_EGRESS_INTERFACE = "NoEgressInterface"
    MISSING_FEATURE = "MissingFeature"
    FOREIGN_QDISC = "ForeignQdisc"
    FOREIGN_FILTER = "ForeignFilter"
    MARK_CONFLICT = "MarkConflict"
    CONFLICTING_WRITER = "ConflictingWriter"
    KERNEL_REFUSED = "KernelRefused"
    CAPACITY_EXCEEDED = "CapacityExceeded"


class Rejection(NamedTuple):
    """Something its author must change. A value: it becomes a condition or a line of a report, and is never raised."""

    reason: Reason
    field: str  # where, like `spec.clients[2]`; "" for the whole object
    message: str  # one sentence that says what to do; does not repeat the field

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
    """The `status.conditions` to write: `conditions` laid over those `written` before.

    `lastTransitionTime` moves only when a status changes, so that a second call with the same input changes nothing.
    Conditions of other types stay; the order of what was written stays, new ones come behind.
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
    """As Kubernetes writes it: UTC, whole seconds. A moment without a time zone is a bug."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
