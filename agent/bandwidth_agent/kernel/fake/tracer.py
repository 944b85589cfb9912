"""Follows one packet through a given kernel state: guard → chains → sets → program → egress hook → tree. Pure.

So tests can assert which client has which limit instead of comparing rules. It does as the kernel does where that is
surprising: later rules override earlier ones, a redirect to an ifb that is down or gone drops the packet, HTB uses the
skb priority before its filters, and a packet without a class passes unshaped. A packet that passes the classes of a
pair and those of an ifb is queued in the first of them for good: the second one sees no more than that lets out.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.objects import chain_layout, longest_prefix_match
from bandwidth_api import names
from bandwidth_api.plan import PortRange, Prefix


class ClassAddress(NamedTuple):
    """One class of one device."""

    device: str
    minor: int


Verdict = ClassAddress | Literal["unshaped", "dropped"]

_laid_out = functools.lru_cache(32)(chain_layout.laid_out)  # from one state to the next few rules change


class Tracer:
    """Follows packets through one state; keeps its look-ups, so that many packets are fast."""

    def __init__(self, state: model.State, astray: Collection[tuple[str, int]] = ()) -> None:
        """`astray`: redirects, by interface and shard, whose ifb was deleted under them, even if it is there again."""
        self._state = state
        self._astray = astray
        self._lookups = {name: longest_prefix_match.Lookup(ipset.entries) for name, ipset in state.sets.items()}
        self._tables = [(table, longest_prefix_match.Numbers(table.entries)) for table in state.tables.values()]
        self._layouts = {family: _laid_out(chain.rules) for family, chain in state.chains.items()}
        self._passed: dict[tuple[int, str, int], tuple[objects.Rule, ...]] = {}
        self._inner = {
            device: {htb_class.parent for htb_class in tree.classes.values()} for device, tree in state.trees.items()
        }

    def trace(self, family: int, address: int, protocol: str, port: int, interface: str) -> Verdict:
        """Return where a packet to `address` through `interface` is queued; `port` as the client dialled it."""
        mark, priority = self.classify(family, address, protocol, port)
        program = self._state.programs.get(interface)
        number = self.number(family, address, protocol, port) if program and program.first and program.sound else 0
        if program is None or not number:
            return self._behind_programs(mark, priority, interface)
        own = names.HTB_MAJOR << 16 | number
        if program.shard is None:
            return self._slower(self._behind_programs(mark, own, interface), self._in_tree(interface, mark, own))
        pair = self._state.pairs.get(program.shard)
        if pair is None or not pair.healthy:
            return "dropped"
        found = self._in_tree(names.pair(program.shard), 0, own)
        behind = self._behind_programs(mark, priority, interface)
        return behind if found == "unshaped" or behind == "dropped" else found

    def _slower(self, found: Verdict, root: Verdict) -> Verdict:
        """Behind an ifb a packet comes to the interface's own root too, with the priority that our program gave it."""
        if not isinstance(found, ClassAddress) or not isinstance(root, ClassAddress):
            return found
        speeds = [self._state.trees[device].classes[minor].ceil for device, minor in (found, root)]
        return found if speeds[0] <= speeds[1] else root

    def number(self, family: int, address: int, protocol: str, port: int) -> int:
        """Return the class number that our programs give a packet; 0 for none."""
        target = Prefix(family, address, 32 if family == 4 else 128)
        ours = [(table, entries) for table, entries in self._tables if table.family == family]
        selected = [entries for table, entries in ours if any(_answers(ports, protocol, port) for ports in table.ports)]
        plain = [entries for table, entries in ours if not table.ports]
        # Of the tables with a port, only that which was put last.
        return next((number for entries in (*selected[-1:], *plain) if (number := entries.find(target))), 0)

    def _behind_programs(self, mark: int, priority: int, interface: str) -> Verdict:
        hook = self._state.hooks.get(interface)
        if hook is not None and mark & hook.mask:
            shard = 0 if hook.shift is None else (mark & hook.mask) >> hook.shift
            if shard in hook.shards:
                ifb = self._state.ifbs.get(shard)
                if ifb is None or not ifb.healthy or (interface, shard) in self._astray:
                    return "dropped"
                found = self._in_tree(names.ifb(shard), mark, priority)
                if found != "unshaped":
                    return found
        return self._in_tree(interface, mark, priority)

    def classify(self, family: int, address: int, protocol: str, port: int) -> tuple[int, int]:
        """Return the mark and the priority that our chain gives a packet."""
        mark = priority = 0
        chain = self._state.chains.get(family)
        if chain is None or not chain.jump_first:
            return mark, priority
        target = Prefix(family, address, 32 if family == 4 else 128)
        if chain.guard and self._find(chain.guard, target) is None:
            return mark, priority
        rules = self._passed.get((family, protocol, port))
        if rules is None:
            rules = tuple(passed(self._layouts[family], protocol, port))
            self._passed[family, protocol, port] = rules
        for rule in rules:
            entry = self._find(rule.set_name, target)
            if entry is None:
                continue
            if rule.map_mark:
                mark = mark & ~entry.mask ^ entry.mark
            if rule.map_priority:
                priority = entry.priority
        return mark, priority

    def _find(self, set_name: str, target: Prefix) -> objects.SetEntry | None:
        entries = self._lookups.get(set_name)
        return None if entries is None else entries.find(target)

    def _in_tree(self, device: str, mark: int, priority: int) -> Verdict:
        tree = self._state.trees.get(device)
        if tree is None:
            return "unshaped"
        candidates = [priority & 0xFFFF if priority >> 16 == names.HTB_MAJOR else 0]
        if tree.filter is not None and tree.filter.mask:
            lowest = (tree.filter.mask & -tree.filter.mask).bit_length() - 1
            candidates.append((mark & tree.filter.mask) >> lowest)
        if tree.default_minor != names.DEFAULT_CLASS:
            candidates.append(tree.default_minor)
        for minor in candidates:
            if minor and minor in tree.classes and minor not in self._inner[device]:
                return ClassAddress(device, minor)
        return "unshaped"


def passed(layout: chain_layout.Layout, protocol: str, port: int) -> Iterator[objects.Rule]:
    """Yield the rules that look a packet up, in order; it does not return from a chain that it was sent to."""
    ahead = iter(layout[names.CHAIN])
    while (line := next(ahead, None)) is not None:
        if not _answers(line.ports, protocol, port):
            continue
        if isinstance(line, objects.Rule):
            yield line
        else:
            ahead = iter(layout[line.chain])


def _answers(ports: PortRange | None, protocol: str, port: int) -> bool:
    return ports is None or (ports.protocol == protocol and ports.first <= port <= ports.last)
