"""Random limits, tables and kernel states, small enough that every address can be traced."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bandwidth_agent import settings
from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.fake import fake_kernel, tracer
from bandwidth_agent.planner import classifier, desired, placement
from bandwidth_agent.planner.classifier import class_ids, sets_and_chain
from bandwidth_agent.planner.placement import programs_needed
from bandwidth_api import addresses, names, plan
from bandwidth_api.conditions import Reason
from bandwidth_api.plan import ClassKey, Mode, PlanEntry, PortRange, Prefix

unhurried = hypothesis_settings(deadline=None)  # the machine may be busy

BASES = {4: 0x0A00_0000, 6: 0xFD00 << 112}
BITS = {4: 32, 6: 128}
SPREAD = {4: 3, 6: 2}  # bits of the addresses that differ
INTERFACES = ("eth0", "eth1")
WEB, TLS, BOTH, DNS = (
    PortRange("TCP", 80, 80),
    PortRange("TCP", 443, 443),
    PortRange("TCP", 80, 443),
    PortRange("UDP", 53, 53),
)
# More ranges than one chain has room for: every other port of a few, and the ports between them.
ODD = tuple(PortRange("TCP", port, port) for port in range(81, 120, 2))
EVEN = tuple(PortRange("TCP", port, port) for port in range(80, 119, 2))
# Sets of ports that may stand beside each other in one resolution; from one to another they overlap.
PORT_SETS = (
    (),
    ((WEB,),),
    ((TLS,),),
    ((WEB,), (TLS, DNS)),
    ((BOTH,),),
    ((WEB, TLS),),
    ((BOTH,), (DNS,)),
    (ODD,),
    (EVEN, ODD),
    (ODD, (WEB, DNS)),
)
PROBES = (("TCP", 80), ("TCP", 443), ("TCP", 100), ("TCP", 101), ("UDP", 53), ("TCP", 25))
RATES = (64_000, 1_000_000, 5_000_000, 250_000_000, 1_000_000_000)
# Numbers of the limits by index, over several shards.
NUMBERS = (1, 2, 700, 701, 1500)


def hosts(family: int) -> list[int]:
    return [BASES[family] + i for i in range(1 << SPREAD[family])]


# Strategies are made once, not in each example: to make one takes longer than to draw from it.
_PREFIXES = {
    family: st.builds(
        lambda free, index, family=family: Prefix(family, (BASES[family] + index) >> free << free, BITS[family] - free),
        st.integers(0, SPREAD[family]),
        st.integers(0, (1 << SPREAD[family]) - 1),
    )
    for family in BASES
}


def prefixes(family: int) -> st.SearchStrategy[Prefix]:
    return _PREFIXES[family]


def limit(index: int, rate: int, mode: Mode = Mode.ENFORCE, burst: int | None = None) -> PlanEntry:
    """A limit of which only what a class is made of matters."""
    name = f"limit-{index}"
    return PlanEntry(name, name, 1, (), (), (), rate, burst, mode, plan.Sharing.SHARED, 0, 0.0, None, ())


_KEYS = [ClassKey(f"limit-{i}", "") for i in range(len(NUMBERS))]
_RATES_AND_MODES = st.tuples(
    *(st.tuples(st.sampled_from(RATES), st.sampled_from((Mode.ENFORCE, Mode.ENFORCE, Mode.OBSERVE))) for _ in NUMBERS)
)
_PORT_SETS = st.sampled_from(PORT_SETS)
_FAMILIES = st.sampled_from(((4,), (4,), (6,), (4, 6)))
_WITHOUT_PORTS = st.sampled_from((((),), ((),), ()))
_OWNED = {family: st.dictionaries(prefixes(family), st.sampled_from((*_KEYS, None)), max_size=5) for family in BASES}


@st.composite
def _resolutions(draw: st.DrawFn) -> plan.Resolution:
    limits = {
        key: limit(i, rate, mode)
        for i, (key, (rate, mode)) in enumerate(zip(_KEYS, draw(_RATES_AND_MODES), strict=True))
    }
    port_sets = draw(_PORT_SETS)
    tables = []
    for family in draw(_FAMILIES):
        for ports in (*draw(_WITHOUT_PORTS), *port_sets):
            entries = draw(_OWNED[family])
            if any(entries.values()):
                tables.append(plan.Table(family, ports, entries))
    named = {key for table in tables for key in table.entries.values() if key is not None}
    return plan.Resolution(tuple(tables), {k: v for k, v in limits.items() if k in named}, {})


_RESOLUTIONS = _resolutions()


def resolutions() -> st.SearchStrategy[plan.Resolution]:
    return _RESOLUTIONS


def slots(resolution: plan.Resolution) -> list[class_ids.Slot]:
    return [class_ids.slot(key, entry) for key, entry in resolution.classes.items()]


# What the limits hold from the start, so that several shards are in use.
HELD = {
    class_ids.Slot(ClassKey(f"limit-{i}", ""), observe): number + (10 if observe else 0)
    for i, number in enumerate(NUMBERS)
    for observe in (False, True)
}


@dataclasses.dataclass(frozen=True)
class Setup:
    """How a node is set up to shape."""

    classifier: settings.ClassifierSetting
    kinds: tuple[str, ...]  # placement of each of INTERFACES; where programs classify a pair is the ifb
    mask: int = 0xFFFF0000

    @property
    def placements(self) -> dict[str, placement.Placement]:
        beside = {"ifb": "pair"} if self.classifier is settings.ClassifierSetting.EBPF else {}
        return {
            name: placement.Placement(beside.get(kind, kind), Reason.CONFIGURED, "")  # type: ignore[arg-type]
            for name, kind in zip(INTERFACES, self.kinds, strict=True)
        }

    def choose(self, facts: model.Facts) -> classifier.Classifier:
        configured = settings.Settings(classifier=self.classifier, mark_mask=self.mask)
        need = programs_needed.need(configured, facts, INTERFACES, model.EMPTY, bypassed=False)
        return classifier.choose(configured, facts, self.placements, need)

    def build(
        self,
        resolution: plan.Resolution,
        numbers: Mapping[class_ids.Slot, int],
        facts: model.Facts,
        observed: model.State = model.EMPTY,
        memo: desired.Memo | None = None,
    ) -> model.State:
        return desired.build(resolution, numbers, self.choose(facts), self.placements, facts, observed, memo)


def setups(*kinds: str) -> st.SearchStrategy[Setup]:
    classifiers = st.sampled_from([*settings.ClassifierSetting][1:])
    placed = st.tuples(*(st.sampled_from(kinds or ("ifb", "interface", "none")) for _ in INTERFACES))
    return st.builds(Setup, classifiers, placed)


def node(fair: bool = False) -> model.Facts:
    root = model.RootQdisc("fq_codel" if fair else "noqueue", 0, False)
    leaf_kinds = frozenset({"fq_codel"}) if fair else frozenset()
    interfaces = (fake_kernel.interface(name, root) for name in INTERFACES)
    return fake_kernel.facts(*interfaces, leaf_kinds=leaf_kinds, ebpf="")


# ── any state that a kernel can be in ──────────────────────────────────────────────────────────────────────────

_SHAPES = st.builds(
    objects.HtbClass,
    parent=st.just(0),
    rate=st.sampled_from((8000, 625_000)),
    ceil=st.sampled_from((8000, 625_000, 50_000_000_000)),
    burst_ticks=st.sampled_from((1, 3188)),
    cburst_ticks=st.just(3188),
    quantum=st.just(1514),
    leaf=st.sampled_from((None, objects.Leaf("tbf", 1586, 15860, "bfifo"), objects.Leaf("pfifo?", 0, 0, ""))),
)
_MINORS = st.sampled_from((*NUMBERS, 3, names.OBSERVE_PARENT, names.DEFAULT_CLASS))
_CLASSES = st.dictionaries(_MINORS, _SHAPES, max_size=5)
_DEFAULTS = st.sampled_from((0, 1, names.DEFAULT_CLASS))
_FILTERS = st.sampled_from((None, objects.MarkFilter(0xFFFF0000), objects.MarkFilter(0x00FF0000)))


@st.composite
def _trees(draw: st.DrawFn) -> objects.Tree:
    classes = draw(_CLASSES)
    roots = list(classes)
    for minor in draw(st.lists(st.sampled_from(roots), unique=True, max_size=2)) if len(roots) > 1 else []:
        parent = draw(st.sampled_from([n for n in roots if n != minor]))
        if classes[parent].parent != minor:
            classes[minor] = classes[minor]._replace(parent=parent)
    for htb_class in list(classes.values()):
        if htb_class.parent:
            classes[htb_class.parent] = classes[htb_class.parent]._replace(leaf=None)
    while any(_depth(classes, n) > len(classes) for n in classes):  # a ring: no kernel has one
        classes = {n: c._replace(parent=0) for n, c in classes.items()}
    return objects.Tree(draw(_DEFAULTS), classes, draw(_FILTERS))


def _depth(classes: Mapping[int, objects.HtbClass], minor: int) -> int:
    depth = 0
    while minor and depth <= len(classes):
        minor, depth = classes[minor].parent, depth + 1
    return depth


_SET_ENTRIES = st.builds(
    objects.SetEntry,
    mark=st.sampled_from((0, 1 << 16, 0x1000)),
    mask=st.sampled_from((0xFFFF0000, 0x1000, 0)),
    priority=st.sampled_from((0, 0x7CB10001)),
    comment=st.sampled_from(("limit-1", "limit-2 until=5")),
)
_IP_SETS = {
    family: st.builds(
        objects.IpSet,
        st.just(family),
        st.dictionaries(prefixes(family), _SET_ENTRIES | st.just(sets_and_chain.HOLE), max_size=5),
        st.booleans(),
    )
    for family in BASES
}
_IFBS = st.dictionaries(st.integers(0, 3), st.builds(objects.Ifb, st.booleans()))
_TREES = _trees()
_HOOKS = st.dictionaries(
    st.sampled_from(INTERFACES),
    st.builds(
        objects.Hook,
        st.sampled_from((0xFFFF0000, 0x1000, 0)),
        st.sampled_from((25, None)),
        st.frozensets(st.integers(0, 3)),
    ),
)
_SET_NAMES = st.sets(
    st.tuples(st.sampled_from((4, 6)), st.sampled_from(((), *(ports for choice in PORT_SETS for ports in choice)))),
    max_size=3,
)
_PAIRS = st.dictionaries(st.integers(0, 1), st.builds(objects.Pair, st.booleans()))
_TABLES = {
    (family, ports): st.builds(
        objects.LookupTable,
        st.just(family),
        st.sampled_from((ports, ports[:1])),  # another table may have some of them
        st.dictionaries(prefixes(family), st.sampled_from((0, *NUMBERS)), max_size=5),
    )
    for family in BASES
    for ports in ((), *(ports for choice in PORT_SETS for ports in choice))
}
_PROGRAMS = st.dictionaries(
    st.sampled_from(INTERFACES),
    st.builds(objects.Program, st.sampled_from((0, 1, None)), st.booleans(), st.booleans()),
)
_SOME_FAMILIES = st.sets(st.sampled_from((4, 6)))
_BOOLEANS = st.booleans()


@st.composite
def _states(draw: st.DrawFn) -> model.State:
    """Anything that bears our names, in whatever disorder."""
    ifbs = draw(_IFBS)
    pairs = draw(_PAIRS)
    devices = [*map(names.ifb, ifbs), *map(names.pair, pairs), *INTERFACES]
    found_names = draw(_SET_NAMES)
    sets = {names.set_name(f, ports): draw(_IP_SETS[f]) for f, ports in found_names}
    sets |= {names.clients_set(f): draw(_IP_SETS[f]) for f in draw(_SOME_FAMILIES)}
    rules = [
        objects.Rule(names.set_name(f, ()), p, m, not m)
        for f, _ in found_names
        for p in (None, WEB)
        for m in (True, False)
    ]
    rules = [rule for rule in rules if rule.set_name in sets]
    chains = {}
    for family in draw(_SOME_FAMILIES):
        chosen = draw(st.lists(st.sampled_from(rules), max_size=3)) if rules else []
        guard = draw(st.sampled_from(("", *sets)))
        chains[family] = objects.Chain(tuple(chosen), draw(_BOOLEANS), guard)
    return model.State(
        ifbs=ifbs,
        trees=draw(st.dictionaries(st.sampled_from(devices), _TREES, max_size=4)),
        hooks=draw(_HOOKS),
        sets=sets,
        chains=chains,
        pairs=pairs,
        tables={names.set_name(f, ports): draw(_TABLES[f, ports]) for f, ports in draw(_SET_NAMES)},
        programs=draw(_PROGRAMS),
    )


_STATES = _states()


def states() -> st.SearchStrategy[model.State]:
    return _STATES


# ── elementary steps ───────────────────────────────────────────────────────────────────────────────────────────


def elementary(step: objects.Change) -> Iterator[objects.Change]:
    """The single steps in which a change may be half done when the agent dies."""
    match step:
        case objects.PutClasses(device=device, classes=classes, observed=observed):
            for minor, wanted in sorted(classes.items(), key=lambda item: (item[1].parent != 0, item[0])):
                there = {minor: observed[minor]} if minor in observed else {}
                yield objects.PutClasses(device, {minor: wanted}, there)
        case objects.PutEntries(name=name, family=family, entries=entries):
            for prefix in sorted(entries, key=lambda p: (-p.length, p.network)):
                yield objects.PutEntries(name, family, {prefix: entries[prefix]})
        case objects.DeleteEntries(name=name, family=family, prefixes=gone):
            for prefix in sorted(gone, key=lambda p: (p.length, p.network)):
                yield objects.DeleteEntries(name, family, frozenset({prefix}))
        case objects.PutTableEntries(name=name, family=family, entries=numbers):
            for prefix in sorted(numbers, key=lambda p: (-p.length, p.network)):
                yield objects.PutTableEntries(name, family, {prefix: numbers[prefix]})
        case objects.DeleteTableEntries(name=name, family=family, prefixes=gone):
            for prefix in sorted(gone, key=lambda p: (p.length, p.network)):
                yield objects.DeleteTableEntries(name, family, frozenset({prefix}))
        case _:
            yield step


Path = tuple[int, int, str, int, str]


def paths(*resolutions: plan.Resolution) -> list[Path]:
    """Every packet worth tracing: address, dialled port, interface."""
    families = {table.family for resolution in resolutions for table in resolution.tables}
    ported = any(table.ports for resolution in resolutions for table in resolution.tables)
    return [
        (family, address, protocol, port, interface)
        for family in sorted(families)
        for address in hosts(family)
        for protocol, port in (PROBES if ported else PROBES[-1:])
        for interface in INTERFACES
    ]


def speed(state: model.State, verdict: tracer.Verdict) -> float:
    """The fastest that a packet with this verdict can be served, bytes per second."""
    if isinstance(verdict, tracer.ClassAddress):
        return state.trees[verdict.device].classes[verdict.minor].ceil
    return float("inf") if verdict == "unshaped" else 0.0


# ── limits as their authors write them ─────────────────────────────────────────────────────────────────────────


_AROUND = {
    family: st.tuples(
        st.lists(prefixes(family), min_size=1, max_size=3, unique=True), st.lists(prefixes(family), max_size=1)
    )
    for family in BASES
}
_CLIENTS = st.sampled_from((4, 4, 6)).flatmap(_AROUND.__getitem__)
_REST = st.tuples(
    st.sampled_from(RATES),
    st.sampled_from((Mode.ENFORCE, Mode.OBSERVE)),
    st.sampled_from(((), (), (WEB,), (BOTH,), (TLS, DNS), ODD, EVEN[:7])),
    st.sampled_from(plan.Sharing),
    st.sampled_from((0, 0, 7)),
    st.sampled_from((1.0, 2.0)),
)
_HOW_MANY = st.integers(0, 5)


@st.composite
def plan_entries(draw: st.DrawFn, name: str) -> PlanEntry:
    clients, excepted = draw(_CLIENTS)
    rate, mode, ports, sharing, priority, created_at = draw(_REST)
    return dataclasses.replace(
        limit(0, rate, mode),
        limit=name,
        clients=tuple(clients),
        excepted=tuple(excepted),
        ports=ports,
        sharing=sharing,
        priority=priority,
        created_at=created_at,
    )


_PLAN_ENTRIES = [plan_entries(f"limit-{i}") for i in range(5)]


@st.composite
def plan_entry_lists(draw: st.DrawFn) -> list[PlanEntry]:
    return [draw(entry) for entry in _PLAN_ENTRIES[: draw(_HOW_MANY)]]


def winner(limits: Iterable[PlanEntry], family: int, address: int, protocol: str, port: int) -> ClassKey | None:
    """Who wins for a packet, in the words of the CRD: priority, then longest prefix, then age, then name."""
    claims = []
    for entry in limits:
        around = [c for c in entry.clients if contains(c, family, address)]
        ports = entry.ports
        if (
            around
            and not any(contains(prefix, family, address) for prefix in entry.excepted)
            and (not ports or any(p.protocol == protocol and p.first <= port <= p.last for p in ports))
        ):
            client = max(around, key=lambda prefix: prefix.length)
            key = ClassKey(entry.limit, addresses.write(client) if entry.sharing is plan.Sharing.PER_ENTRY else "")
            claims.append((-entry.priority, -client.length, entry.created_at, entry.limit, key))
    return min(claims)[-1] if claims else None


def contains(prefix: Prefix, family: int, address: int) -> bool:
    host_bits = BITS[family] - prefix.length
    return prefix.family == family and address >> host_bits == prefix.network >> host_bits
