"""Finds what in a kernel state holds an address: set entries, the ports for which each decides, its class, its device.

Answers as the kernel does where that is surprising: the longest prefix of a set counts, a rule for ports overrides the
one without, the later of two rules wins, and a packet without a class passes unshaped. Where programs classify, their
tables are asked as rules would ask the sets. Pure; changes nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.objects import longest_prefix_match
from bandwidth_agent.planner.classifier import ownership
from bandwidth_api import addresses, names
from bandwidth_api.plan import PortRange, Prefix

_REPAIRED = "; a running agent puts it right"
PROTOCOLS = {"TCP": 6, "UDP": 17}


class Holder(NamedTuple):
    """A set entry that decides for an address: it gives its packets a class, or leaves them as they are (a hole)."""

    set_name: str
    prefix: Prefix
    entry: objects.SetEntry
    number: int  # of the class; 0 for a hole
    label: names.Label  # of a hole: of the entry around it, if there is one
    ports: tuple[PortRange, ...]  # for which it decides; empty: for every port, or every other one


@dataclasses.dataclass(frozen=True, slots=True)
class Holding:
    """All that a kernel state says about one address or network."""

    holders: tuple[Holder, ...]  # entries that hold all of it
    excepted: tuple[Holder, ...]  # holes that hold all of it, where no holder decides in their place
    inside: tuple[Holder, ...]  # of a network: entries that hold a part of it
    unasked: str = ""  # why the kernel does not look its packets up although there are entries; "": it does


def holding(state: model.State, address: Prefix, port: PortRange | None = None, *, rules_known: bool = True) -> Holding:
    """Return what holds an address or network; with `port` what holds packets from that one port.

    Where there are no rules, or `rules_known` is False, every set counts as if it were looked up for every port.
    """
    rules = _rules(state, address.family)
    asked = [rule for rule in rules if port is None or rule.ports is None or _within(port, rule.ports)]
    lookups = {
        name: longest_prefix_match.Lookup(state.sets[name].entries)
        for name in dict.fromkeys(rule.set_name for rule in asked)
        if name in state.sets
    }
    found = {name: match for name, lookup in lookups.items() if (match := lookup.match(address)) is not None}
    answering = [rule for rule in asked if rule.set_name in found and not found[rule.set_name][1].hole]
    ruled = address.family in state.chains or bool(state.programs)
    deciding = decided(answering) if ruled else {rule.set_name: () for rule in answering}
    holders = tuple(
        holder
        for name, ports in deciding.items()
        if (holder := _holder(name, *found[name], _at(port, ports))) is not None
    )
    if port is not None and any(holder.ports for holder in holders):
        holders = tuple(holder for holder in holders if holder.ports)
    holes = [name for name, (_, entry) in found.items() if entry.hole]
    ranges = _ranges(asked)
    excepted = tuple(
        Holder(name, *found[name], 0, _around(state.sets[name].entries, found[name][0]), _at(port, ranges[name]))
        for name in holes
    )
    inside = tuple(_inside(state, address, {name: _at(port, ports) for name, ports in ranges.items()}))
    unasked = _unasked(state, address, (*holders, *inside)) if rules_known else ""
    return Holding(holders, excepted, inside, unasked)


def device(state: model.State, interface: str, holder: Holder) -> tuple[str, str]:
    """Return the device whose class takes a holder's packets that leave by an interface, or "" and why none does."""
    entry, lost = holder.entry, ""
    program = state.programs.get(interface)
    if program is not None and program.shard is not None:
        return _on_pair(state, names.pair(program.shard), state.pairs.get(program.shard), holder)
    hook = state.hooks.get(interface)
    if hook is not None and entry.mark & hook.mask:
        shard = 0 if hook.shift is None else (entry.mark & hook.mask) >> hook.shift
        ifb = state.ifbs.get(shard)
        if shard in hook.shards and (ifb is None or not ifb.healthy):
            return "", f"{names.ifb(shard)} is down, altered or gone: packets to it are lost{_REPAIRED}"
        if shard in hook.shards and _classifies(state.trees.get(names.ifb(shard)), holder):
            return names.ifb(shard), ""
        lost = f"no class for it on {names.ifb(shard)}{_REPAIRED}"
    if _classifies(state.trees.get(interface), holder):
        return interface, ""
    if lost:
        return "", lost
    if hook is None and interface not in state.trees:
        return "", f"nothing of ours is on {interface}{_REPAIRED}"
    return "", f"no class for it on {interface}{_REPAIRED}"


def _on_pair(state: model.State, name: str, pair: objects.Pair | None, holder: Holder) -> tuple[str, str]:
    if pair is None or not pair.healthy:
        return "", f"{name} is down, altered or gone: packets to it are lost{_REPAIRED}"
    tree = state.trees.get(name)
    return (
        (name, "")
        if tree is not None and holder.number in tree.classes
        else ("", f"no class for it on {name}{_REPAIRED}")
    )


def _classifies(tree: objects.Tree | None, holder: Holder) -> bool:
    """Whether a tree puts the packets of a holder into the class that its entry names."""
    if tree is None or holder.number not in tree.classes:
        return False
    if holder.entry.priority:
        return True
    return tree.filter is not None and tree.filter.mask == holder.entry.mask


def _rules(state: model.State, family: int) -> Sequence[objects.Rule]:
    """The rules of a family, or what programs do in their place; where there is neither, one without ports for each
    set."""
    chain = state.chains.get(family)
    if chain is not None:
        return chain.rules
    if state.programs:
        return program_rules(state, family)
    guard = names.clients_set(family)
    named = [name for name, ipset in state.sets.items() if ipset.family == family and name != guard]
    return [objects.Rule(name, None, map_mark=True, map_priority=True) for name in named]


def program_rules(state: model.State, family: int) -> list[objects.Rule]:
    """What programs do for a family, as rules that would do the same: the table without ports first."""
    tables = sorted((bool(t.ports), name, t.ports) for name, t in state.tables.items() if t.family == family)
    return [objects.Rule(name, each, False, True) for _, name, ports in tables for each in ports or (None,)]


def _holder(name: str, prefix: Prefix, entry: objects.SetEntry, ports: tuple[PortRange, ...]) -> Holder | None:
    number = ownership.number(entry)
    return None if number is None else Holder(name, prefix, entry, number, names.parse_comment(entry.comment), ports)


def decided(rules: Sequence[objects.Rule]) -> dict[str, tuple[PortRange, ...]]:
    """By set the ports for which its rule is the last that answers; empty ports: for all that no other one has."""
    found: dict[str, list[PortRange]] = {}
    without = [rule.set_name for rule in rules if rule.ports is None]
    if without:
        found[without[-1]] = []
    for protocol in PROTOCOLS:
        of_one = [(rule.ports, rule.set_name) for rule in rules if rule.ports and rule.ports.protocol == protocol]
        borders = sorted({border for ports, _ in of_one for border in (ports.first, ports.last + 1)})
        for first, following in itertools.pairwise(borders):
            answers = [name for ports, name in of_one if ports.first <= first <= ports.last]
            if answers:
                _add(found.setdefault(answers[-1], []), PortRange(protocol, first, following - 1))
    return {name: tuple(ports) for name, ports in found.items()}


def _ranges(rules: Iterable[objects.Rule]) -> Mapping[str, tuple[PortRange, ...]]:
    """By set the ports of its rules."""
    found: dict[str, list[PortRange]] = {}
    for rule in rules:
        ports = found.setdefault(rule.set_name, [])
        if rule.ports is not None:
            _add(ports, rule.ports)
    return {name: tuple(ports) for name, ports in found.items()}


def _add(ports: list[PortRange], more: PortRange) -> None:
    if ports and ports[-1].protocol == more.protocol and ports[-1].last + 1 == more.first:
        ports[-1] = ports[-1]._replace(last=more.last)
    else:
        ports.append(more)


def _at(port: PortRange | None, ports: tuple[PortRange, ...]) -> tuple[PortRange, ...]:
    return (port,) if port is not None and ports else ports


def _within(port: PortRange, ports: PortRange) -> bool:
    return ports.protocol == port.protocol and ports.first <= port.first and port.last <= ports.last


def _around(entries: Mapping[Prefix, objects.SetEntry], hole: Prefix) -> names.Label:
    """The limit whose network a hole is cut out of."""
    around = [
        (prefix.length, entry.comment)
        for prefix, entry in entries.items()
        if not entry.hole and prefix.length < hole.length and addresses.covers(prefix, hole)
    ]
    return names.parse_comment(max(around, default=(0, ""))[1])


def _inside(state: model.State, address: Prefix, ports: Mapping[str, tuple[PortRange, ...]]) -> Iterator[Holder]:
    """Entries for parts of a network, by address."""
    if address.length == addresses.BITS[address.family]:
        return
    for name, of_set in ports.items():
        for prefix, entry in sorted(state.sets[name].entries.items()) if name in state.sets else ():
            if prefix.length > address.length and addresses.covers(address, prefix):
                holder = _holder(name, prefix, entry, of_set)
                if holder is not None:
                    yield holder


def _unasked(state: model.State, address: Prefix, found: Sequence[Holder]) -> str:
    if not found:
        return ""
    family, chain = address.family, state.chains.get(address.family)
    if chain is None and state.programs:
        return _unasked_by_programs(state, found[0])
    if chain is None:
        return f"no rule of ours looks IPv{family} packets up{_REPAIRED}"
    if not chain.jump_first:
        return f"another rule comes before ours for IPv{family} packets{_REPAIRED}"
    if not chain.guard:
        return ""
    guard = state.sets.get(chain.guard)
    if guard is None:
        return f"the set {chain.guard} is gone, which every packet is looked up in first{_REPAIRED}"
    one = Prefix(family, max(address.network, found[0].prefix.network), addresses.BITS[family])
    if longest_prefix_match.Lookup(guard.entries).find(one) is None:
        return (
            f"the set {chain.guard} lacks {addresses.write(one)}, which every packet is looked up in first{_REPAIRED}"
        )
    return ""


def _unasked_by_programs(state: model.State, first: Holder) -> str:
    late = sorted(name for name, program in state.programs.items() if not program.first)
    if late:
        return f"another program comes before ours on {late[0]}{_REPAIRED}"
    altered = sorted(name for name, program in state.programs.items() if not program.sound)
    if altered:
        return f"our program on {altered[0]} is another version's, or not kept{_REPAIRED}"
    table = state.tables.get(first.set_name)
    if table is None or table.entries.get(first.prefix) != first.number:
        return f"the table {first.set_name} lacks {addresses.write(first.prefix)}, which programs look up{_REPAIRED}"
    return ""
