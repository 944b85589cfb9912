"""Builds the kernel state that a node should have from a resolution of the plan, as a `model.State`.

Pure. The result holds everything of ours that should exist, so that anything else of ours may be removed. Owns the
composition; `htb_parameters` owns the formulas.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.planner import changed_entries, placement
from bandwidth_agent.planner.classifier import Classifier, class_ids, strategy
from bandwidth_agent.planner.desired import htb_parameters
from bandwidth_api import names
from bandwidth_api.plan import ClassKey, Mode, PlanEntry, Resolution

_SHAPES_MAX = 65_536
_MTU_UNKNOWN = 1500


class _Context(NamedTuple):
    """What makes the classes of all limits look as they do."""

    classifier: Classifier
    mtu: int  # the largest of all egress interfaces
    leaf_kinds: frozenset[str]  # that the kernel has


class _Placed(NamedTuple):
    """One class of the plan with its number, in kernel units."""

    limit: PlanEntry
    slot: class_ids.Slot
    number: int
    shard: int
    entry: objects.SetEntry
    htb_class: objects.HtbClass


class _Layout(NamedTuple):
    """All classes of a resolution with their numbers."""

    context: _Context
    limits: Mapping[ClassKey, PlanEntry]
    numbers: Mapping[class_ids.Slot, int]
    placed: Mapping[ClassKey, _Placed]
    shapes: dict[tuple[Mode, int, int | None], objects.HtbClass]  # thousands of limits have one rate


@dataclasses.dataclass(slots=True)
class Memo:
    """What the last `build` made: from one call to the next usually one limit of 10,000 differs.

    It saves time only: the result is the same without it.
    """

    layout: _Layout | None = None
    matching: strategy.Memo = dataclasses.field(default_factory=strategy.Memo)


def build(
    resolution: Resolution,
    numbers: Mapping[class_ids.Slot, int],
    classifier: Classifier,
    placements: Mapping[str, placement.Placement],
    facts: model.Facts,
    observed: model.State = model.EMPTY,
    memo: Memo | None = None,
) -> model.State:
    """Return what should be in the kernel; nothing if there is no limit, or no interface to limit at.

    A class without a number leaves holes: its clients are unlimited, never in another limit's class; a caller that
    wants them to have the next best limit resolves again without it. Of `observed` two things are taken: whether an
    HTB of ours that stands on an interface has a default class, since the root that it replaced can no longer be
    asked; and what `nothing` keeps.
    """
    empty = nothing(facts, observed)
    devices = {name: chosen for name, chosen in sorted(placements.items()) if chosen.kind != "none"}
    if not devices:
        return empty
    mtu = max((facts.interfaces[name].mtu for name in devices if name in facts.interfaces), default=_MTU_UNKNOWN)
    memo = memo or Memo()
    placed = _lay_out(resolution, numbers, _Context(classifier, mtu, facts.features.leaf_kinds), memo).placed
    tables = [table for table in resolution.tables if any(key in placed for key in table.entries.values())]
    if not tables:
        return empty
    shards: dict[int, dict[int, objects.HtbClass]] = collections.defaultdict(dict)
    for _, _, number, shard, _, htb_class in placed.values():
        shards[shard][number] = htb_class
    at_root = [name for name, chosen in devices.items() if chosen.kind == "interface"]
    leading = classifier.lead({name: chosen.kind for name, chosen in devices.items()}, shards.keys())
    trees: dict[str, objects.Tree] = {}
    for made, device in ((leading.ifbs, names.ifb), (leading.pairs, names.pair)):
        for shard in sorted(made):
            trees[device(shard)] = objects.Tree(0, _with_parent(shards[shard]), classifier.filter)
    for name in at_root:
        every = {number: c for classes in shards.values() for number, c in classes.items()}
        trees[name] = _root_tree(name, every, classifier, facts, observed)
    matching = classifier.match(tables, placed, memo.matching)
    return dataclasses.replace(
        leading,
        trees=trees,
        sets=matching.sets,
        chains=matching.chains,
        tables=matching.tables,
        pairs={**empty.pairs, **leading.pairs},
    )


def nothing(facts: model.Facts, observed: model.State) -> model.State:
    """Return what is left of ours where there is nothing to do: nothing, or pairs that programs may lead to.

    A packet that is sent to a device that is gone is lost. Where this process may not see programs, those of an agent
    that could may be there: their pair stays, and without its tree it lets packets through as they are. Where programs
    are seen all are: as filters, which they are where there is no TCX, or by their names. They go, and the pair too.
    """
    unseen = facts.features.ebpf and not observed.programs
    return dataclasses.replace(model.EMPTY, pairs=observed.pairs) if unseen else model.EMPTY


def _lay_out(resolution: Resolution, numbers: Mapping[class_ids.Slot, int], context: _Context, memo: Memo) -> _Layout:
    """The classes that have a number."""
    limits = resolution.classes
    last = memo.layout if memo.layout is not None and memo.layout.context == context else None
    shapes = last.shapes if last is not None and len(last.shapes) < _SHAPES_MAX else {}
    changed = changed_entries.keys(limits, last.limits) if last is not None and last.numbers is numbers else None
    if last is not None and changed is not None:
        moved = {key: _place(key, limits[key], numbers, context, shapes) for key in changed}
        found = {key: item for key, item in moved.items() if item is not None}
        if len(found) == len(changed) and found.keys() <= last.placed.keys():
            if any(item.entry != last.placed[key].entry for key, item in found.items()):
                memo.matching.entries = {}
            memo.layout = _Layout(context, limits, numbers, {**last.placed, **found}, shapes)
            return memo.layout
    known = last.placed if last is not None else {}
    placed: dict[ClassKey, _Placed] = {}
    for key, limit in limits.items():
        item = known.get(key)
        if item is None or item.limit is not limit or numbers.get(item.slot) != item.number:
            item = _place(key, limit, numbers, context, shapes)
        if item is not None:
            placed[key] = item
    memo.matching.entries = {}
    memo.layout = _Layout(context, limits, numbers, placed, shapes)
    return memo.layout


def _place(
    key: ClassKey,
    limit: PlanEntry,
    numbers: Mapping[class_ids.Slot, int],
    context: _Context,
    shapes: dict[tuple[Mode, int, int | None], objects.HtbClass],
) -> _Placed | None:
    """One class in kernel units; None without a number."""
    slot = class_ids.slot(key, limit)
    number = numbers.get(slot)
    if number is None:
        return None
    asked = limit.mode, limit.rate_bits_per_second, limit.burst_bytes
    shape = shapes.get(asked)
    if shape is None:
        shape = shapes[asked] = _htb_class(limit, context)
    entry = context.classifier.entry(number, names.comment(key, limit.expires_at))
    return _Placed(limit, slot, number, context.classifier.shard(number), entry, shape)


def _htb_class(limit: PlanEntry, context: _Context) -> objects.HtbClass:
    if limit.mode is Mode.OBSERVE:
        return htb_parameters.observe(limit.rate_bits_per_second, limit.burst_bytes)
    return htb_parameters.enforce(limit.rate_bits_per_second, limit.burst_bytes, context.mtu, context.leaf_kinds)


def _root_tree(
    name: str,
    classes: Mapping[int, objects.HtbClass],
    classifier: Classifier,
    facts: model.Facts,
    observed: model.State,
) -> objects.Tree:
    classes = _with_parent(classes)
    standing = observed.trees.get(name)
    if standing is not None:
        default = names.DEFAULT_CLASS if standing.default_minor == names.DEFAULT_CLASS else 0
    else:
        interface = facts.interfaces.get(name)
        fair = interface is not None and placement.is_fair(interface.root)
        default = names.DEFAULT_CLASS if fair else 0
    if default:
        classes[default] = htb_parameters.default_class(facts.features.leaf_kinds)
    return objects.Tree(default, classes, classifier.filter)


def _with_parent(classes: Mapping[int, objects.HtbClass]) -> dict[int, objects.HtbClass]:
    """The classes of one device, with the parent that its Observe classes borrow from, if it has any."""
    whole = dict(classes)
    if any(c.parent == names.OBSERVE_PARENT for c in classes.values()):
        whole[names.OBSERVE_PARENT] = htb_parameters.observe_parent()
    return whole
