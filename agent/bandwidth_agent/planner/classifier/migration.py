"""Changes from one classifier or mask to another in an order in which every packet is recognised at each step.

    rules     take mark and priority both
    entries   carry their number in the observed and in the desired bits
    hooks     and filters read the desired ones
    entries   carry their number in the desired bits only

Sets that others override go first in both, so that an entry of a set with ports always overrides all of an entry of
the set without. Owns this order. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.objects import longest_prefix_match
from bandwidth_agent.planner.classifier import ownership
from bandwidth_api.plan import Prefix

Entries = Mapping[Prefix, objects.SetEntry]


def needed(desired: model.State, observed: model.State) -> bool:
    """Return whether any hook, filter or entry is to use other bits; the trees must exist already."""
    return (
        any(
            name in observed.hooks
            and (hook.mask, hook.shift) != (observed.hooks[name].mask, observed.hooks[name].shift)
            for name, hook in desired.hooks.items()
        )
        or any(
            tree.filter is not None and tree.filter != observed.trees[device].filter
            for device, tree in desired.trees.items()
        )
        or _wider(desired, observed) != observed.chains
        or _wider(observed, desired) != desired.chains
    )


def convert(
    desired: model.State, observed: model.State, hooks: Iterable[objects.Change]
) -> tuple[list[objects.Change], model.State]:
    """The changes that make everything read the desired bits, and the state that then is; `hooks` are those of the
    hooks and filters.

    Where a client is to have another class at the same time, its entry goes on carrying both, to be changed with all
    others. Two masks that have bits in common and disagree about them leave no way: those entries change after the
    hooks.
    """
    chains = _wider(desired, observed)
    changes: list[objects.Change] = [objects.PutChain(f, c) for f, c in chains.items() if c != observed.chains[f]]
    sets = dict(observed.sets)
    plain = {rule.set_name for chain in desired.chains.values() for rule in chain.rules if rule.ports is None}
    order = sorted((n for n in desired.sets if fits(desired.sets[n], sets.get(n))), key=lambda n: n not in plain)
    changes += _put(order, sets, {n: _carrying_both(desired.sets[n].entries, sets[n].entries) for n in order})
    reached = dataclasses.replace(observed, chains=chains)
    for step in hooks:
        changes.append(step)
        reached = _after(step, reached)
    changes += _put(order, sets, {n: _carrying_one(desired.sets[n].entries, sets[n].entries) for n in order})
    return changes, dataclasses.replace(reached, sets=sets)


def both_ways(desired: objects.Rule, observed: objects.Rule | None) -> objects.Rule:
    """Return the rule that takes from the set what either of these two takes."""
    if observed is None:
        return desired
    return desired._replace(
        map_mark=desired.map_mark or observed.map_mark, map_priority=desired.map_priority or observed.map_priority
    )


def fits(desired: objects.IpSet, observed: objects.IpSet | None) -> bool:
    """Return whether the entries of an observed set can be changed one by one."""
    return observed is not None and observed.healthy and observed.family == desired.family


def _wider(desired: model.State, observed: model.State) -> dict[int, objects.Chain]:
    """The observed chains, with rules that take both mark and priority where the desired ones take the other."""
    chains: dict[int, objects.Chain] = {}
    for family, standing in observed.chains.items():
        wanted = {(rule.set_name, rule.ports): rule for rule in desired.chains.get(family, standing).rules}
        rules = tuple(both_ways(rule, wanted.get((rule.set_name, rule.ports))) for rule in standing.rules)
        chains[family] = standing._replace(rules=rules)
    return chains


def _put(
    order: Iterable[str], sets: dict[str, objects.IpSet], entries: Mapping[str, Entries]
) -> Iterator[objects.PutEntries]:
    for name in order:
        if entries[name]:
            yield objects.PutEntries(name, sets[name].family, entries[name])
            sets[name] = dataclasses.replace(sets[name], entries={**sets[name].entries, **entries[name]})


def _after(step: objects.Change, state: model.State) -> model.State:
    match step:
        case objects.PutFilter(device=device, filter=mark_filter):
            tree = dataclasses.replace(state.trees[device], filter=mark_filter)
            return dataclasses.replace(state, trees={**state.trees, device: tree})
        case objects.PutHook(interface=name, hook=hook):
            kept = state.hooks[name].shards if name in state.hooks else frozenset()
            hooks = {**state.hooks, name: hook._replace(shards=hook.shards | kept)}
            return dataclasses.replace(state, hooks=hooks)
    raise TypeError(step)


def _carrying_both(desired: Entries, observed: Entries) -> dict[Prefix, objects.SetEntry]:
    after, before = longest_prefix_match.Lookup(desired), longest_prefix_match.Lookup(observed)
    both: dict[Prefix, objects.SetEntry] = {}
    for prefix in desired.keys() | observed.keys():
        here, there = before.find(prefix), after.find(prefix)
        if here is None or there is None or (here.mark ^ there.mark) & here.mask & there.mask:
            continue
        priority, comment = (here.priority, here.comment) if here.priority else (there.priority, there.comment)
        entry = objects.SetEntry(here.mark | there.mark, here.mask | there.mask, priority, comment)
        if entry != observed.get(prefix):
            both[prefix] = entry
    return both


def _carrying_one(desired: Entries, carrying_both: Entries) -> dict[Prefix, objects.SetEntry]:
    after = longest_prefix_match.Lookup(desired)
    one: dict[Prefix, objects.SetEntry] = {}
    for prefix, entry in carrying_both.items():
        wanted = after.find(prefix)
        if wanted is not None and wanted != entry and ownership.number(wanted) == ownership.number(entry):
            one[prefix] = wanted
    return one
