"""Changes: single steps from the observed to the desired kernel state, as values.

A change can be printed, counted and applied. The order in which changes may be applied is `PHASES`; `diff.compute`
follows it, and every prefix of its list leaves a legal state: nothing points at what is not there yet, and a client
already limited is at no moment faster than its limit. Where that takes more than the phases (a class that becomes
faster, sets with ports, another classifier), `diff` and `transition` say what comes earlier or later, and why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bandwidth_agent.kernel import model
from bandwidth_api.plan import Prefix


@dataclasses.dataclass(frozen=True, slots=True)
class PutIfb:
    """Create the ifb, or set up, name and alias one that is there."""

    shard: int


@dataclasses.dataclass(frozen=True, slots=True)
class PutRoot:
    """Make our HTB the root of a device, over whatever default root it has."""

    device: str
    default_minor: int


@dataclasses.dataclass(frozen=True, slots=True)
class PutClasses:
    """Create classes with their leaves, or change them in place where `observed` has the minor."""

    device: str
    classes: Mapping[int, model.HtbClass]
    observed: Mapping[int, model.HtbClass]  # of the same minors, those that exist


@dataclasses.dataclass(frozen=True, slots=True)
class PutFilter:
    """Put (or replace) the mark → class filter of a tree."""

    device: str
    filter: model.MarkFilter


@dataclasses.dataclass(frozen=True, slots=True)
class PutHook:
    """Make the egress hook of an interface lead to the ifbs, adding a clsact qdisc if none is there.

    Only adds and replaces filters; shards that are no longer wanted stay in `hook` until `TrimHook`.
    """

    interface: str
    hook: model.Hook
    observed: model.Hook | None


@dataclasses.dataclass(frozen=True, slots=True)
class PutSet:
    """Create a set with these entries; if one of that name is there, fill a new one beside it and swap."""

    name: str
    set: model.IpSet
    replace: bool


@dataclasses.dataclass(frozen=True, slots=True)
class PutEntries:
    """Add or change entries of an existing set, longest prefix first."""

    name: str
    family: int
    entries: Mapping[Prefix, model.SetEntry]


@dataclasses.dataclass(frozen=True, slots=True)
class PutChain:
    """Write our chain whole and make the jump to it the first rule of POSTROUTING, in one transaction."""

    family: int
    chain: model.Chain


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteChain:
    family: int


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteEntries:
    """Take entries out of a set, shortest prefix first."""

    name: str
    family: int
    prefixes: frozenset[Prefix]


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteSet:
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class TrimHook:
    """Take away the redirects to shards that nothing is marked for any more."""

    interface: str
    shards: frozenset[int]


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteHook:
    """Remove our filters from an interface's egress hook, and the clsact qdisc if it was ours."""

    interface: str


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteFilter:
    device: str


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteClasses:
    device: str
    minors: frozenset[int]


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteRoot:
    """Remove our HTB from a device; the kernel puts its default root back."""

    device: str


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteIfb:
    shard: int


Change = (
    PutIfb
    | PutRoot
    | PutClasses
    | PutFilter
    | PutHook
    | PutSet
    | PutEntries
    | PutChain
    | DeleteChain
    | DeleteEntries
    | DeleteSet
    | TrimHook
    | DeleteHook
    | DeleteFilter
    | DeleteClasses
    | DeleteRoot
    | DeleteIfb
)

# Order of application, with the reason for each place.
PHASES: tuple[tuple[type, str], ...] = (
    (PutIfb, "a device must be up before anything is redirected to it"),
    (PutRoot, "classes need their HTB"),
    (PutClasses, "a class must exist before a packet can carry its number, or the packet passes unshaped"),
    (PutFilter, "the filter of a tree must know its classes"),
    (PutHook, "redirected packets must find device, class and filter ready"),
    (PutSet, "a rule can only name a set that exists"),
    (PutEntries, "longest prefix first: every address moves once, straight to its final class"),
    (PutChain, "last of all that adds: only now do packets get marks"),
    (DeleteChain, "first of all that removes: no packet gets a mark any more"),
    (DeleteEntries, "shortest prefix first, for the same reason; before the class, or its client would be unlimited"),
    (DeleteSet, "no rule names it any more"),
    (TrimHook, "no entry marks for these shards any more"),
    (DeleteHook, "before the device: a redirect to a device that is gone drops"),
    (DeleteFilter, "nothing is classified any more"),
    (DeleteClasses, "nothing leads to them any more"),
    (DeleteRoot, "on interfaces: the original root comes back"),
    (DeleteIfb, "last: nothing is redirected to it any more"),
)


_REMOVALS = (
    DeleteChain,
    DeleteEntries,
    DeleteSet,
    TrimHook,
    DeleteHook,
    DeleteFilter,
    DeleteClasses,
    DeleteRoot,
    DeleteIfb,
)


def removes(change: Change) -> bool:
    """Whether this change takes something away. Such changes wait for the first complete plan."""
    return isinstance(change, _REMOVALS)


def size(change: Change) -> int:
    """How many kernel objects this change adds, alters or removes."""
    match change:
        case PutClasses(classes=classes):
            return len(classes)
        case PutSet(set=ipset):
            return 1 + len(ipset.entries)
        case PutEntries(entries=entries):
            return len(entries)
        case DeleteEntries(prefixes=prefixes):
            return len(prefixes)
        case TrimHook(shards=shards):
            return len(shards)
        case DeleteClasses(minors=minors):
            return len(minors)
        case _:
            return 1


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a part of a change did not happen. `errno` 0 where a command failed without one."""

    errno: int
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change.

    `failure` says that the change as a whole failed; `failed_classes` and `failed_entries` name the parts that did
    while the rest was applied.
    """

    change: Change
    failure: Failure | None = None
    failed_classes: Mapping[int, Failure] = dataclasses.field(default_factory=dict)
    failed_entries: Mapping[Prefix, Failure] = dataclasses.field(default_factory=dict)
