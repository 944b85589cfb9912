"""Computes the changes from the observed to the desired state, in an order of which every prefix is a legal state.

The order is `objects.Change`, and where one phase alone could let a client be faster than both before and after, for
a moment, it is refined:

    programs    come after their classes and before what rules do is undone, and go once rules do it and before a class
                becomes faster that they still lead to: `program_order`
    classes     made and slowed down before entries move, sped up after
    ports       sets with ports answer first; so where they gain a class they change before the set without ports,
                where they lose one they change after it, and rules come before and go after it
    guard       the set that decides which packets are looked up gains entries before all others and loses them after
    marks       if packets are to carry their numbers in other bits: `classifier.migration`

Owns the order. Pure. What is observed and not desired is deleted: `desired` must come from a complete plan, which is
the caller's duty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.objects import chain_layout, longest_prefix_match
from bandwidth_agent.planner.classifier import migration, program_order
from bandwidth_api import names
from bandwidth_api.plan import Prefix

Entries = Mapping[Prefix, objects.SetEntry]


def compute(desired: model.State, observed: model.State) -> list[objects.Change]:
    """Return the changes that turn `observed` into `desired`; none if they are equal.

    Two repairs cannot be made without a moment in which a class is missing, because HTB changes neither in place: a
    class under another parent, and a root with another default class; only another program can have made these. They
    are deleted and made again, one right after the other.
    """
    changes, standing = _devices(desired, observed)
    if migration.needed(desired, standing):
        converting, standing = migration.convert(desired, standing, list(_hooks(desired, standing)))
        changes += converting
    changes += _hooks(desired, standing)
    changes += program_order.changes(desired, standing)
    changes += _sets_and_chains(desired, standing)
    changes += program_order.removals(desired, standing)
    changes += _faster_classes(desired, standing)
    changes += _removals(desired, standing)
    return changes


# ── devices, classes, hooks ────────────────────────────────────────────────────────────────────────────────────


def _devices(desired: model.State, observed: model.State) -> tuple[list[objects.Change], model.State]:
    """Return the changes of devices, roots, classes and filters, which must exist first, and the state after them."""
    made: list[objects.Change] = [objects.PutIfb(s) for s, ifb in desired.ifbs.items() if observed.ifbs.get(s) != ifb]
    made += (objects.PutPair(s) for s, pair in desired.pairs.items() if observed.pairs.get(s) != pair)
    lost = {names.ifb(shard) for shard in desired.ifbs if shard not in observed.ifbs}
    lost |= {names.pair(shard) for shard in desired.pairs if shard not in observed.pairs}
    roots: list[objects.Change] = []
    classes: list[objects.Change] = []
    filters: list[objects.Change] = []
    trees = {device: tree for device, tree in observed.trees.items() if device not in lost}
    for device, tree in desired.trees.items():
        standing = trees.get(device)
        if standing == tree:
            continue
        if standing is None or standing.default_minor != tree.default_minor:
            if standing is not None:
                roots.append(objects.DeleteRoot(device))
            roots.append(objects.PutRoot(device, tree.default_minor))
            standing = objects.Tree(tree.default_minor, {}, None)
        slowed, trees[device] = _slower_classes(device, tree, standing)
        classes += slowed
        if standing.filter is None and tree.filter is not None:
            filters.append(objects.PutFilter(device, tree.filter))
            trees[device] = dataclasses.replace(trees[device], filter=tree.filter)
    ifbs, pairs = {**observed.ifbs, **desired.ifbs}, {**observed.pairs, **desired.pairs}
    changes = [*made, *roots, *classes, *filters]
    return changes, dataclasses.replace(observed, ifbs=ifbs, pairs=pairs, trees=trees)


def _slower_classes(
    device: str, desired: objects.Tree, observed: objects.Tree
) -> tuple[list[objects.Change], objects.Tree]:
    """Return the changes of classes that are missing or too fast, and the tree after them."""
    if desired.classes == observed.classes:
        return [], observed
    misplaced = _misplaced(desired.classes, observed.classes)
    standing = {n: c for n, c in observed.classes.items() if n not in misplaced} if misplaced else observed.classes
    wrong = {n: c for n, c in desired.classes.items() if standing.get(n) != c}
    slower = {n: c for n, c in wrong.items() if n not in standing or c.ceil <= standing[n].ceil}
    changes: list[objects.Change] = []
    if misplaced:
        changes.append(objects.DeleteClasses(device, misplaced))
    if slower:
        changes.append(objects.PutClasses(device, slower, {n: standing[n] for n in slower if n in standing}))
    return changes, dataclasses.replace(observed, classes={**standing, **slower})


def _misplaced(desired: Mapping[int, objects.HtbClass], observed: Mapping[int, objects.HtbClass]) -> frozenset[int]:
    """Return observed classes to delete first: those under another parent than desired, with all classes below."""
    found = {n for n, c in observed.items() if n in desired and c.parent != desired[n].parent}
    parents = {c.parent for c in observed.values()} - {0}
    if not found and parents <= {n for n in desired if desired[n].leaf is None}:
        return frozenset()
    childless = {n for n, c in desired.items() if c.leaf is not None}
    while True:
        under = {n for n, c in observed.items() if n not in found and c.parent in found | childless}
        if not under:
            return frozenset(found)
        found |= under


def _hooks(desired: model.State, observed: model.State) -> Iterator[objects.Change]:
    """Yield the changes of filters that read the wrong bits, and of hooks that do not lead to every ifb."""
    for device, tree in desired.trees.items():
        if tree.filter is not None and observed.trees[device].filter != tree.filter:
            yield objects.PutFilter(device, tree.filter)
    for name, hook in desired.hooks.items():
        standing = observed.hooks.get(name)
        if standing is None:
            yield objects.PutHook(name, hook, None)
        elif standing._replace(shards=hook.shards) != hook or not hook.shards <= standing.shards:
            yield objects.PutHook(name, _led_both_ways(hook, standing, observed), standing)


def _led_both_ways(hook: objects.Hook, standing: objects.Hook, observed: model.State) -> objects.Hook:
    return hook._replace(shards=hook.shards | (standing.shards & observed.ifbs.keys()))


def _faster_classes(desired: model.State, observed: model.State) -> Iterator[objects.Change]:
    for device, tree in desired.trees.items():
        standing = observed.trees[device].classes
        if tree.classes == standing:
            continue
        faster = {n: c for n, c in tree.classes.items() if standing.get(n) != c}
        if faster:
            yield objects.PutClasses(device, faster, {n: standing[n] for n in faster})


def _removals(desired: model.State, observed: model.State) -> Iterator[objects.Change]:
    """Yield the removals of objects that nothing leads to any more; a device of ours is removed with its tree."""
    for name, hook in observed.hooks.items():
        if name in desired.hooks and not hook.shards <= desired.hooks[name].shards:
            yield objects.TrimHook(name, hook.shards - desired.hooks[name].shards)
    for name in observed.hooks.keys() - desired.hooks.keys():
        yield objects.DeleteHook(name)
    kept = {device: tree for device, tree in observed.trees.items() if device in desired.trees}
    for device, tree in kept.items():
        if tree.filter is not None and desired.trees[device].filter is None:
            yield objects.DeleteFilter(device)
    for device, tree in kept.items():
        unwanted = tree.classes.keys() - desired.trees[device].classes.keys()
        if unwanted:
            yield objects.DeleteClasses(device, frozenset(unwanted))
    unwanted_ifbs = sorted(observed.ifbs.keys() - desired.ifbs.keys())
    unwanted_pairs = sorted(observed.pairs.keys() - desired.pairs.keys())
    taken_along = {*map(names.ifb, unwanted_ifbs), *map(names.pair, unwanted_pairs)}
    for device in observed.trees:
        if device not in desired.trees and device not in taken_along:
            yield objects.DeleteRoot(device)
    for shard in unwanted_ifbs:
        yield objects.DeleteIfb(shard)
    for shard in unwanted_pairs:
        yield objects.DeletePair(shard)


# ── sets and chains ────────────────────────────────────────────────────────────────────────────────────────────


def _sets_and_chains(desired: model.State, observed: model.State) -> Iterator[objects.Change]:
    plain = {r.set_name for chain in desired.chains.values() for r in chain.rules if r.ports is None}
    moves = {
        name: _moves(ipset.entries, observed.sets[name].entries, name not in plain)
        for name, ipset in desired.sets.items()
        if migration.fits(ipset, observed.sets.get(name)) and ipset.entries != observed.sets[name].entries
    }
    for name, ipset in desired.sets.items():
        if not migration.fits(ipset, observed.sets.get(name)):
            yield objects.PutSet(name, ipset, name in observed.sets)
    guards = {names.clients_set(family) for family in (4, 6)}
    for name in sorted(moves, key=lambda name: name not in guards):
        gains, _, _ = moves[name]
        if gains:
            yield objects.PutEntries(name, desired.sets[name].family, gains)
    between = {f: _both(f, c, observed.chains.get(f), observed) for f, c in desired.chains.items()}
    for family, chain in between.items():
        if chain != observed.chains.get(family):
            yield objects.PutChain(family, chain)
    for family in observed.chains.keys() - desired.chains.keys():
        yield objects.DeleteChain(family)
    for name in sorted(moves, key=lambda name: (name in guards, name not in plain)):
        _, puts, deletes = moves[name]
        if puts:
            yield objects.PutEntries(name, desired.sets[name].family, puts)
        if deletes:
            yield objects.DeleteEntries(name, desired.sets[name].family, deletes)
    for family, chain in desired.chains.items():
        if chain != between[family]:
            yield objects.PutChain(family, chain)
    for name in sorted(observed.sets.keys() - desired.sets.keys()):
        yield objects.DeleteSet(name)


def _moves(desired: Entries, observed: Entries, overrides: bool) -> tuple[Entries, Entries, frozenset[Prefix]]:
    """Return the entries to put first, those to put then, and those to delete last.

    Puts go longest prefix first, deletes shortest first, so every address moves once, straight to its final entry.
    In a set that overrides another, first come the addresses that gain a class and only then those that lose one.
    """
    puts = {prefix: entry for prefix, entry in desired.items() if observed.get(prefix) != entry}
    deletes = frozenset(observed.keys() - desired.keys())
    if not overrides:
        return {}, puts, deletes
    if not deletes and not any(entry.hole for entry in puts.values()):
        return puts, {}, deletes
    after, before = longest_prefix_match.Lookup(desired), longest_prefix_match.Lookup(observed)
    gains: dict[Prefix, objects.SetEntry] = {}
    for prefix in puts.keys() | deletes:
        entry = after.find(prefix) or before.find(prefix) or desired.get(prefix, observed.get(prefix))
        if entry is not None and entry != observed.get(prefix):
            gains[prefix] = entry
    return gains, {p: e for p, e in puts.items() if gains.get(p) != e}, deletes


def _both(family: int, desired: objects.Chain, observed: objects.Chain | None, state: model.State) -> objects.Chain:
    """Return the desired chain plus the observed rules that are not desired, each behind those that it overrides."""
    if observed is None or observed == desired:
        return desired
    there = {(rule.set_name, rule.ports): rule for rule in observed.rules}
    wanted = {(rule.set_name, rule.ports) for rule in desired.rules}
    merged = [migration.both_ways(rule, there.get((rule.set_name, rule.ports))) for rule in desired.rules]
    gone = [rule for key, rule in there.items() if key not in wanted and rule.set_name in state.sets]
    plain = [rule for rule in merged if rule.ports is None]
    rules = chain_layout.canonical((*plain, *gone, *(rule for rule in merged if rule.ports is not None)))
    return objects.Chain(rules, True, _guard(family, rules, desired, observed, state))


def _guard(
    family: int, rules: tuple[objects.Rule, ...], desired: objects.Chain, observed: objects.Chain, state: model.State
) -> str:
    """Return the name of a set with every client that is limited before and after, while entries move; "" for none."""
    clients = names.clients_set(family)
    if desired.guard == clients or (observed.guard == clients and clients in state.sets):
        return clients
    return desired.guard if all(rule.set_name == desired.guard for rule in rules) else ""
