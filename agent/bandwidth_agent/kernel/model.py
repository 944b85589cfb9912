"""The kernel state that is ours, desired and observed in the same frozen types and in the kernel's own units.

    POSTROUTING (mangle)            egress hook of eth0              cbl0, cbl1 … (ifb)          eth0
    Chain: one rule per table  ──▶  Hook: our mark? → its ifb  ──▶   Tree: HTB class, leaf  ──▶  its own root qdisc
       looks up in an IpSet         (placement interface: no hook, the Tree is eth0's root)

Owns the types only; knows no netlink and no command. What is here is compared with ==, and what was compared is
what gets written. Observed state holds only what bears our names (`bandwidth_api.names`); whatever of ours has a
shape that we would never write is observed as a value that equals no desired one, so that it is repaired.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_api.plan import PortRange, Prefix

TICK_NS = 64  # one psched tick, in which HTB and TBF count their buffers


class Leaf(NamedTuple):
    """The queue under a class.

    kind "tbf": never delays (its rate is far above any class); with `burst_bytes` of one frame it cuts GSO packets
    into frames, with a larger one it lets them pass whole, and either can be changed into the other in place.
    kind "bfifo": where nothing may be dropped by a small queue (Observe).
    """

    kind: str
    burst_bytes: int  # tbf: the largest packet that passes uncut; 0 for bfifo
    limit_bytes: int  # the queue's bound
    inner: str  # tbf: "fq_codel" or "bfifo" inside it; "" for bfifo


class HtbClass(NamedTuple):
    """One HTB class in the kernel's units."""

    parent: int  # minor of the parent class, 0 for the root
    rate: int  # bytes per second
    ceil: int  # bytes per second
    burst_ticks: int  # 64 ns each
    cburst_ticks: int
    quantum: int  # bytes
    leaf: Leaf | None  # None: a class with children


class MarkFilter(NamedTuple):
    """The filter of a Tree that turns the mark under `mask` into a class number."""

    mask: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    """Our HTB, root of one device: an ifb of ours, or an egress interface under placement `interface`."""

    default_minor: int  # 0: what is in no class passes unshaped
    classes: Mapping[int, HtbClass]  # by minor
    filter: MarkFilter | None  # None with the classifier `priority`


class Ifb(NamedTuple):
    """An ifb of ours; up, with a transmit queue of 1000 and our alias, or `healthy` is False."""

    healthy: bool


class Hook(NamedTuple):
    """Our filters on the egress hook of one interface.

    A packet whose masked mark is 0 leaves at the first filter. Otherwise shard = (mark & mask) >> shift, and the
    packet goes to that shard's ifb; with `shift` None every packet with a non-zero masked mark goes to shard 0.
    """

    mask: int
    shift: int | None
    shards: frozenset[int]


class SetEntry(NamedTuple):
    """What a set entry puts on a packet. A hole has only `hole` set."""

    mark: int
    mask: int
    priority: int  # skb priority (tc classid), 0: leave it
    comment: str
    hole: bool = False  # ipset: nomatch


@dataclasses.dataclass(frozen=True, slots=True)
class IpSet:
    family: int
    entries: Mapping[Prefix, SetEntry]
    healthy: bool = True  # observed: has the type and the extensions that we create it with


class Rule(NamedTuple):
    """One rule of our chain: look the destination up in a set and take what its entry says."""

    set_name: str
    ports: PortRange | None  # None: every port and protocol; else the port that the client dialled (conntrack)
    map_mark: bool
    map_priority: bool


class Chain(NamedTuple):
    """Our chain in one family's mangle table. Desired: `jump_first`, the first rule of POSTROUTING leads to it."""

    rules: tuple[Rule, ...]
    jump_first: bool


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """All of ours on one node. Empty when there are no limits."""

    ifbs: Mapping[int, Ifb]  # by shard
    trees: Mapping[str, Tree]  # by device name
    hooks: Mapping[str, Hook]  # by interface name
    sets: Mapping[str, IpSet]  # by set name
    chains: Mapping[int, Chain]  # by family


EMPTY = State(ifbs={}, trees={}, hooks={}, sets={}, chains={})


# ── what is not ours: read, never written ──────────────────────────────────────────────────────────────────────


class RootQdisc(NamedTuple):
    kind: str
    handle: int  # major; 0: installed by the kernel by itself
    ours: bool
    queues: frozenset[str] = frozenset()  # mq: the kinds of qdisc that its queues have


class Interface(NamedTuple):
    """An interface that is not ours."""

    name: str
    index: int  # type: ignore[assignment]  # tuple.index is nobody's loss
    mtu: int
    up: bool
    default_route: bool  # holds a default route of either family
    root: RootQdisc
    clsact: bool
    foreign_egress_filters: tuple[str, ...]  # other programs' filters on the egress hook, for the report
    master: int = 0  # index of the bridge or bond that it is a member of
    lower: int = 0  # index of the device that sends its packets, below a VLAN or a macvlan


class Features(NamedTuple):
    """What this kernel can do, probed in a way that leaves nothing behind."""

    ifb: bool
    clsact: bool
    fq_codel: bool
    ipset: bool  # hash:net with skbinfo and comment, and the SET target


class MarkUse(NamedTuple):
    """A foreign rule that reads or writes packet marks."""

    bits: int
    where: str  # for the report: the rule as the tool prints it
    rewritten: int = 0  # of these bits, those that it writes in packets which have passed our rule


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What of the node matters to our decisions and is not ours."""

    interfaces: Mapping[str, Interface]
    addresses: frozenset[Prefix]  # the node's own, as single addresses
    gateways: frozenset[Prefix]  # next hops of default routes, as single addresses
    features: Features
    mark_uses: tuple[MarkUse, ...]
    taken_ifb_names: frozenset[str]  # links named like our ifbs that are not ours
    iptables_backend: str  # "nft" or "legacy"


class ClassCounters(NamedTuple):
    bytes: int
    packets: int
    drops: int
    overlimits: int
    backlog_bytes: int
    lended: int
    borrowed: int


@dataclasses.dataclass(frozen=True, slots=True)
class Counters:
    """A reading of all counters at one time; `classes[device][minor]`."""

    at: float  # monotonic seconds
    classes: Mapping[str, Mapping[int, ClassCounters]]
    direct_packets: Mapping[str, int]  # by device: HTB's direct_packets_stat
    rules: Mapping[int, int]  # by family: packets that found a set entry, since our chain was last written


class HookPassage(NamedTuple):
    """What one interface with our hook has counted. Bytes as on the wire; all but `left_bytes` tell GSO segments."""

    index: int  # type: ignore[assignment]  # tuple.index is nobody's loss
    left_bytes: int  # sent by the interface
    reached_bytes: int  # came to the clsact qdisc; what we redirect comes a second time, after the ifb
    redirected_bytes: int
    redirected_packets: int


@dataclasses.dataclass(frozen=True, slots=True)
class Passage:
    """Whether what our rules mark comes to our hooks: a reading of few counters, whatever the number of classes."""

    matched_packets: int  # found a set entry, of both families, whatever interface they leave by
    hooks: Mapping[str, HookPassage]  # by interface
