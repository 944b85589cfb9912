"""The plan: what was compiled from all limits, as pure data.

A `PlanEntry` is one limit with its rates in bits per second, its addresses as integers and its rank among
overlapping limits. Which entries are in force on one node at one time, and which of them wins where they
overlap, is decided by `overlap.resolve`, on the node: node selectors and expiry differ from node to node and
from second to second, so the winner does too.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import NamedTuple


class Prefix(NamedTuple):
    """An IPv4 or IPv6 network; `network` has no host bits. A single address has length 32 or 128."""

    family: int  # 4 or 6
    network: int
    length: int


class PortRange(NamedTuple):
    """Service ports as the client dialled them, before any DNAT. `last` is included."""

    protocol: str  # "TCP" or "UDP"
    first: int
    last: int


class Mode(enum.StrEnum):
    ENFORCE = "Enforce"
    OBSERVE = "Observe"
    DISABLED = "Disabled"


class Sharing(enum.StrEnum):
    SHARED = "Shared"
    PER_ENTRY = "PerEntry"


class Distribution(enum.StrEnum):
    PER_NODE = "PerNode"
    SPLIT_EVENLY = "SplitEvenly"


class SelectorTerm(NamedTuple):
    """One requirement on a node's labels; all of them must hold. `operator` as in Kubernetes label selectors."""

    key: str
    operator: str  # In, NotIn, Exists, DoesNotExist
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class PlanEntry:
    """One accepted limit, in the units of the plan."""

    limit: str
    uid: str
    generation: int
    clients: tuple[Prefix, ...]
    excepted: tuple[Prefix, ...]
    ports: tuple[PortRange, ...]  # empty: every port and protocol
    rate_bits_per_second: int  # what one node enforces
    burst_bytes: int | None  # None: the agent computes it from the rate
    mode: Mode  # never DISABLED in a plan
    sharing: Sharing
    priority: int
    created_at: float  # seconds since the epoch; older wins a tie
    expires_at: float | None  # seconds since the epoch
    node_selector: tuple[SelectorTerm, ...]  # empty: every node


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """All accepted limits, by name."""

    entries: Mapping[str, PlanEntry]


class ClassKey(NamedTuple):
    """What has one rate of its own: a limit, or one `clients` entry of a PerEntry limit (canonical text)."""

    limit: str
    client: str  # "" when all clients of the limit share one rate


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A longest-prefix-match table for one family and one set of ports.

    `entries[prefix]` is the class that an address in this prefix (and in no longer one of the table) belongs to;
    None means: in this table nobody's, an explicit hole in a shorter prefix.
    """

    family: int
    ports: tuple[PortRange, ...]  # empty: every port and protocol
    entries: Mapping[Prefix, ClassKey | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Resolution:
    """Who wins where, on one node at one time.

    A packet is looked up in the table without ports of its family first, then in the tables with ports; their port
    sets are pairwise disjoint, so at most one applies; where that one finds a class it replaces the first answer,
    where it finds nothing or a hole the first answer stays.
    """

    tables: tuple[Table, ...]
    classes: Mapping[ClassKey, PlanEntry]  # only classes that at least one table entry names
    overridden: Mapping[str, tuple[str, ...]]  # limit → limits that win over it somewhere, sorted; not more than a few
