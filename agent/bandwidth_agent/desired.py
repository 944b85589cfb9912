"""The kernel state that a node should have: a resolution of the plan, with class numbers, as a `model.State`.

Pure and whole: nothing is read from the kernel but the facts handed in, and the result holds everything of ours that
should exist, so that whatever else of ours is observed may go. Owns the composition; the formulas are `shape`'s.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_agent import allocate, classify, placement, shape
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


# The last answer: from one call to the next usually one limit of 10,000 differs. Nobody can tell but by the clock.
_last: tuple[_Context | None, Mapping[ClassKey, _Placed]] = (None, {})


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
    placed = _place(resolution, numbers, _Context(classifier, mtu, facts.features.fq_codel))
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
        sets={names.set_name(t.family, t.ports): model.IpSet(t.family, _set_entries(t, placed)) for t in tables},
        chains=_chains(tables, classifier),
    )


def _place(resolution: Resolution, numbers: Mapping[allocate.Slot, int], context: _Context) -> dict[ClassKey, _Placed]:
    """The classes that have a number."""
    global _last
    known = _last[1] if _last[0] == context else {}
    placed: dict[ClassKey, _Placed] = {}
    for key, limit in resolution.classes.items():
        found = known.get(key)
        if found is None or found.limit is not limit or numbers.get(found.slot) != found.number:
            slot = allocate.slot(key, limit)
            number = numbers.get(slot)
            if number is None:
                continue
            shard = context.classifier.shard(number)
            entry = context.classifier.entry(number, names.comment(key, limit.expires_at))
            found = _Placed(limit, slot, number, shard, entry, _htb_class(limit, context))
        placed[key] = found
    _last = context, placed
    return placed


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


def _set_entries(table: Table, placed: Mapping[ClassKey, _Placed]) -> dict[Prefix, model.SetEntry]:
    """The entries of a table's set. ipset knows no prefix of length 0, so that one becomes its two halves."""
    whole: dict[Prefix, model.SetEntry] = {}
    for prefix, key in table.entries.items():
        found = placed.get(key) if key is not None else None
        whole[prefix] = HOLE if found is None else found.entry
    everything = whole.pop(Prefix(table.family, 0, 0), None)
    if everything is not None:
        bits = 32 if table.family == 4 else 128
        for network in (0, 1 << (bits - 1)):
            whole.setdefault(Prefix(table.family, network, 1), everything)
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
