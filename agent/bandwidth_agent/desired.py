"""The kernel state that a node should have: a resolution of the plan, with class numbers, as a `model.State`.

Pure and whole: nothing is read from the kernel but the facts handed in, and the result holds everything of ours that
should exist, so that whatever else of ours is observed may go. Owns the composition; the formulas are `shape`'s.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_agent import allocate, classify, placement, same, shape
from bandwidth_agent.kernel import model
from bandwidth_api import names
from bandwidth_api.plan import ClassKey, Mode, PlanEntry, Prefix, Resolution, Table

HOLE = model.SetEntry(0, 0, 0, "", True)
_MTU_UNKNOWN = 1500


class _Context(NamedTuple):
    """What makes the classes of all limits look as they do."""

    classifier: classify.Classifier
    mtu: int  # the largest of all egress interfaces
    fq_codel: bool


class _Placed(NamedTuple):
    """One class of the plan with its number, in kernel units."""

    limit: PlanEntry
    slot: allocate.Slot
    number: int
    shard: int
    entry: model.SetEntry
    htb_class: model.HtbClass


class _Layout(NamedTuple):
    """All classes of a resolution with their numbers, and the sets made of them so far."""

    context: _Context
    limits: Mapping[ClassKey, PlanEntry]
    numbers: Mapping[allocate.Slot, int]
    placed: Mapping[ClassKey, _Placed]
    sets: dict[int, tuple[Table, Mapping[Prefix, model.SetEntry]]]  # by id of the table


# The last layout: from one call to the next usually one limit of 10,000 differs. Nobody can tell but by the clock.
_last: _Layout | None = None


def build(
    resolution: Resolution,
    numbers: Mapping[allocate.Slot, int],
    classifier: classify.Classifier,
    placements: Mapping[str, placement.Placement],
    facts: model.Facts,
    observed: model.State = model.EMPTY,
) -> model.State:
    """What should be in the kernel; EMPTY where there is nothing to limit or nowhere to limit it.

    A class without a number leaves holes: its clients are nobody's rather than somebody else's; a caller who wants
    them to have the next best limit resolves again without it. Of `observed` only one thing is taken: whether an HTB
    of ours that stands on an interface has a default class, since the root that it replaced can no longer be asked.
    """
    devices = {name: chosen for name, chosen in sorted(placements.items()) if chosen.kind != "none"}
    if not devices:
        return model.EMPTY
    mtu = max((facts.interfaces[name].mtu for name in devices if name in facts.interfaces), default=_MTU_UNKNOWN)
    layout = _lay_out(resolution, numbers, _Context(classifier, mtu, facts.features.fq_codel))
    placed = layout.placed
    tables = [table for table in resolution.tables if any(key in placed for key in table.entries.values())]
    if not tables:
        return model.EMPTY
    shards: dict[int, dict[int, model.HtbClass]] = collections.defaultdict(dict)
    for _, _, number, shard, _, htb_class in placed.values():
        shards[shard][number] = htb_class
    through_ifb = [name for name, chosen in devices.items() if chosen.kind == "ifb"]
    at_root = [name for name, chosen in devices.items() if chosen.kind == "interface"]
    trees: dict[str, model.Tree] = {}
    if through_ifb:
        for shard, classes in sorted(shards.items()):
            trees[names.ifb(shard)] = model.Tree(0, _with_parent(classes), classifier.filter)
    for name in at_root:
        every = {number: c for classes in shards.values() for number, c in classes.items()}
        trees[name] = _root_tree(name, every, classifier, facts, observed)
    return model.State(
        ifbs={shard: model.Ifb(True) for shard in sorted(shards)} if through_ifb else {},
        trees=trees,
        hooks={name: classifier.hook(shards) for name in through_ifb},
        sets={names.set_name(t.family, t.ports): model.IpSet(t.family, _set_entries(t, layout)) for t in tables},
        chains=_chains(tables, classifier),
    )


def _lay_out(resolution: Resolution, numbers: Mapping[allocate.Slot, int], context: _Context) -> _Layout:
    """The classes that have a number."""
    global _last
    limits, last = resolution.classes, _last if _last is not None and _last.context == context else None
    if last is not None and last.numbers is numbers and (differing := same.differing(limits, last.limits)) is not None:
        moved = {key: _place(key, limits[key], numbers, context) for key in differing}
        found = {key: item for key, item in moved.items() if item is not None}
        if len(found) == len(differing) and found.keys() <= last.placed.keys():
            as_before = all(item.entry == last.placed[key].entry for key, item in found.items())
            sets = last.sets if as_before else {}
            _last = _Layout(context, limits, numbers, {**last.placed, **found}, sets)
            return _last
    known = last.placed if last is not None else {}
    placed: dict[ClassKey, _Placed] = {}
    for key, limit in limits.items():
        item = known.get(key)
        if item is None or item.limit is not limit or numbers.get(item.slot) != item.number:
            item = _place(key, limit, numbers, context)
        if item is not None:
            placed[key] = item
    _last = _Layout(context, limits, numbers, placed, {})
    return _last


def _place(key: ClassKey, limit: PlanEntry, numbers: Mapping[allocate.Slot, int], context: _Context) -> _Placed | None:
    """One class in kernel units; None without a number."""
    slot = allocate.slot(key, limit)
    number = numbers.get(slot)
    if number is None:
        return None
    entry = context.classifier.entry(number, names.comment(key, limit.expires_at))
    return _Placed(limit, slot, number, context.classifier.shard(number), entry, _htb_class(limit, context))


def _htb_class(limit: PlanEntry, context: _Context) -> model.HtbClass:
    if limit.mode is Mode.OBSERVE:
        return shape.observe(limit.rate_bits_per_second, limit.burst_bytes)
    return shape.enforce(limit.rate_bits_per_second, limit.burst_bytes, context.mtu, context.fq_codel)


def _root_tree(
    name: str,
    classes: Mapping[int, model.HtbClass],
    classifier: classify.Classifier,
    facts: model.Facts,
    observed: model.State,
) -> model.Tree:
    classes = _with_parent(classes)
    standing = observed.trees.get(name)
    if standing is not None:
        default = names.DEFAULT_CLASS if standing.default_minor == names.DEFAULT_CLASS else 0
    else:
        interface = facts.interfaces.get(name)
        fair = interface is not None and placement.is_fair(interface.root)
        default = names.DEFAULT_CLASS if fair else 0
    if default:
        classes[default] = shape.default_class(facts.features.fq_codel)
    return model.Tree(default, classes, classifier.filter)


def _with_parent(classes: Mapping[int, model.HtbClass]) -> dict[int, model.HtbClass]:
    """The classes of one device, with the parent that its Observe classes borrow from, if it has any."""
    whole = dict(classes)
    if any(c.parent == names.OBSERVE_PARENT for c in classes.values()):
        whole[names.OBSERVE_PARENT] = shape.observe_parent()
    return whole


def _set_entries(table: Table, layout: _Layout) -> Mapping[Prefix, model.SetEntry]:
    """The entries of a table's set. ipset knows no prefix of length 0, so that one becomes its two halves."""
    known = layout.sets.get(id(table))
    if known is not None:
        return known[1]
    whole: dict[Prefix, model.SetEntry] = {}
    for prefix, key in table.entries.items():
        found = layout.placed.get(key) if key is not None else None
        whole[prefix] = HOLE if found is None else found.entry
    everything = whole.pop(Prefix(table.family, 0, 0), None)
    if everything is not None:
        bits = 32 if table.family == 4 else 128
        for network in (0, 1 << (bits - 1)):
            whole.setdefault(Prefix(table.family, network, 1), everything)
    layout.sets[id(table)] = table, whole  # which keeps the table, and with it the id
    return whole


def _chains(tables: list[Table], classifier: classify.Classifier) -> dict[int, model.Chain]:
    """One chain per family that has tables; the table without ports first, those with ports override it."""
    chains: dict[int, model.Chain] = {}
    for family in sorted({table.family for table in tables}):
        own = sorted((t for t in tables if t.family == family), key=lambda t: (bool(t.ports), t.ports))
        rules = tuple(
            model.Rule(names.set_name(family, t.ports), ports, classifier.map_mark, classifier.map_priority)
            for t in own
            for ports in t.ports or (None,)
        )
        chains[family] = model.Chain(rules, True)
    return chains
