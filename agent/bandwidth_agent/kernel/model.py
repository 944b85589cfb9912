"""The state of one node's network namespace: what is ours in it, and what is not but matters to our decisions.

Owns the types of what is read: `State` is ours and also written, by changes of `objects`; facts, routes and counters
are only read. Knows no netlink and no command. Observed state holds only what bears our names (`bandwidth_api.names`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import objects
from bandwidth_api.plan import Prefix


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """All of ours on one node. Empty when there are no limits."""

    ifbs: Mapping[int, objects.Ifb]  # by shard
    trees: Mapping[str, objects.Tree]  # by device name
    hooks: Mapping[str, objects.Hook]  # by interface name
    sets: Mapping[str, objects.IpSet]  # by set name
    chains: Mapping[int, objects.Chain]  # by family
    pairs: Mapping[int, objects.Pair] = dataclasses.field(default_factory=dict)  # by shard
    tables: Mapping[str, objects.LookupTable] = dataclasses.field(default_factory=dict)  # by the name of their set
    programs: Mapping[str, objects.Program] = dataclasses.field(default_factory=dict)  # by interface name


EMPTY = State(ifbs={}, trees={}, hooks={}, sets={}, chains={})


# ── what is not ours: read, never written ──────────────────────────────────────────────────────────────────────


class RootQdisc(NamedTuple):
    kind: str
    handle: int  # major; 0: installed by the kernel by itself
    ours: bool
    queues: frozenset[str] = frozenset()  # mq: the kinds of qdisc that its queues have
    sorts: str = ""  # the kind of qdisc, itself or inside it, that sorts packets by their priority
    filters: tuple[str, ...] = ()  # other programs' filters in it, for the report
    marks: int = 0  # bits of the mark that these filters, or it itself, look at


class EbpfProgram(NamedTuple):
    """An eBPF program of another program at an interface."""

    place: str  # "xdp", "tcx" or "filter": on arrival, on the way out before all filters, a filter of the egress hook
    name: str = ""  # of a filter, if it has one


class Interface(NamedTuple):
    """An interface that is not ours."""

    name: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nothing here uses
    mtu: int
    up: bool
    default_route: bool  # holds a default route of either family
    root: RootQdisc
    clsact: bool
    foreign_egress_filters: tuple[str, ...]  # other programs' filters on the egress hook, for the report
    master: int = 0  # index of the bridge or bond that it is a member of
    lower: int = 0  # index of the device that sends its packets, below a VLAN or a macvlan
    kind: str = ""  # what `ip -d link` calls it; "" for a physical device
    hook_marks: int = 0  # bits of the mark that other programs' filters on the egress hook look at
    link_header: bool = True  # its packets begin with that of Ethernet; not those of a tunnel without one
    programs: tuple[EbpfProgram, ...] = ()  # eBPF that its packets meet, as far as this process may ask for it


class Features(NamedTuple):
    """What this kernel can do, found by probes that leave nothing behind; `missing` names what it cannot."""

    ifb: bool
    clsact: bool
    ipset: bool  # hash:net with skbinfo and comment, and the SET target
    skbedit: bool = False  # the action that changes a packet's mark
    leaf_kinds: frozenset[str] = frozenset()  # of `objects.LEAF_KINDS`
    denied: frozenset[str] = frozenset()  # names of the above that this process may not ask about
    ebpf: str = "the agent has no directory for eBPF objects"  # why our programs cannot be loaded; "": they can
    programs_elsewhere: tuple[str, ...] = ()  # directories that hold names of programs of ours, but are not used
    tcx: bool = False  # programs attach at TCX, which comes before the filters of the egress hook

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of what the kernel lacks."""
        had = {name for name in ("ifb", "clsact", "ipset", "skbedit") if getattr(self, name)} | self.leaf_kinds
        named = ("ifb", "clsact", *sorted(objects.LEAF_KINDS), "ipset", "skbedit")
        return tuple(name for name in named if name not in had | self.denied)


class MarkUse(NamedTuple):
    """A foreign rule that reads or writes packet marks, or writes priorities."""

    bits: int
    where: str  # for the report: the rule as the tool prints it
    rewritten: int = 0  # of these bits, those that it writes in packets which have passed our rule
    read: int = 0  # of these bits, those that it compares or copies in packets which have passed our rule
    arriving: bool = False  # it only asks for the way back of arriving packets, which have not come to our rule yet
    priority: bool = False  # it writes the priority of packets which have passed our rule


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
    idle: Mapping[int, str] = dataclasses.field(default_factory=dict)  # by family: why no packet comes to our rules
    spared: Mapping[Prefix, str] = dataclasses.field(default_factory=dict)  # what it cannot do without, and why
    unclear_routes: bool = False  # a default route is there whose interface the kernel names in no form that we know


class Way(NamedTuple):
    """By which interfaces packets to one part of a network leave.

    `table`: 0 where every packet goes that way; else the routing table that some packets are sent to, by a rule or a
    VRF, and in which this part has a route of its own. `picked`: only those that bear a mark, a port and the like.
    """

    part: Prefix
    interfaces: frozenset[str]
    table: int = 0
    picked: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Ways:
    """How packets to networks leave, as the kernel looks it up. What is not in it is not known, or never leaves."""

    of: Mapping[Prefix, tuple[Way, ...]]  # by network that was asked for
    defaults: Mapping[int, frozenset[str]]  # by table that rules send some packets to: interfaces of its default route


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
    rules: Mapping[int, int]  # by family: packets that found a set entry, since our chain was made or the agent was


class UplinkCounters(NamedTuple):
    """What one interface has sent, and what waits before it."""

    sent_bytes: int  # with link headers
    backlog_bytes: int  # in its root qdisc, whoever made that


class Uplink(NamedTuple):
    """What one interface has sent, and how fast it is."""

    sent_bytes: int  # with link headers
    speed_bits_per_second: int | None  # as its device says; None: it does not, or has no wire to speak of


@dataclasses.dataclass(frozen=True, slots=True)
class QueueReading:
    """What has come out of our classes, and what waits in them and before the interfaces, at one time."""

    at: float  # monotonic seconds, when the reading began
    classes: Mapping[str, Mapping[int, ClassCounters]]  # by device and minor; `drops` are those of the class alone
    uplinks: Mapping[str, UplinkCounters]  # by interface


class HookCounters(NamedTuple):
    """What one interface with our hook has counted. Bytes as on the wire; all but `left_bytes` count GSO segments."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nothing here uses
    left_bytes: int  # sent by the interface
    reached_bytes: int  # came to the clsact qdisc; what we redirect comes a second time, after the ifb
    redirected_bytes: int
    redirected_packets: int


@dataclasses.dataclass(frozen=True, slots=True)
class HookReading:
    """Whether what our rules mark comes to our hooks: a reading of few counters, whatever the number of classes."""

    matched_packets: int  # found a set entry, of both families, whatever interface they leave by
    hooks: Mapping[str, HookCounters]  # by interface
