"""What a kernel in a given state does with one packet: rule → set → egress hook → tree. Pure.

So that tests can say which client has which limit instead of comparing rules. Follows the kernel where the kernel
surprises: later rules override earlier ones, a redirect to an ifb that is down or gone drops, HTB believes a skb
priority before it asks its filters, and what no class is found for passes unshaped.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from bandwidth_agent import lookup
from bandwidth_agent.kernel import model
from bandwidth_api import names
from bandwidth_api.plan import PortRange, Prefix


class ClassAddress(NamedTuple):
    """One class of one device."""

    device: str
    minor: int


Verdict = ClassAddress | Literal["unshaped", "dropped"]


class Tracer:
    """The path of packets through one state; keeps its lookups, so that many can be asked."""

    def __init__(self, state: model.State, astray: Collection[tuple[str, int]] = ()) -> None:
        """`astray`: redirects, by interface and shard, whose ifb was deleted under them, even if it is there again."""
        self._state = state
        self._astray = astray
        self._lookups = {name: lookup.Lookup(ipset.entries) for name, ipset in state.sets.items()}

    def trace(self, family: int, address: int, protocol: str, port: int, interface: str) -> Verdict:
        """Where a packet to `address` is queued that leaves through `interface`; `port` as the client dialled it."""
        mark, priority = self.classify(family, address, protocol, port)
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
        """The mark and the priority that our chain gives a packet."""
        mark = priority = 0
        chain = self._state.chains.get(family)
        if chain is None or not chain.jump_first:
            return mark, priority
        target = Prefix(family, address, 32 if family == 4 else 128)
        for rule in chain.rules:
            entries = self._lookups.get(rule.set_name)
            if entries is None or not _answers(rule.ports, protocol, port):
                continue
            entry = entries.find(target)
            if entry is None:
                continue
            if rule.map_mark:
                mark = mark & ~entry.mask ^ entry.mark
            if rule.map_priority:
                priority = entry.priority
        return mark, priority

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
        inner = {htb_class.parent for htb_class in tree.classes.values()}
        for minor in candidates:
            if minor and minor in tree.classes and minor not in inner:
                return ClassAddress(device, minor)
        return "unshaped"


def _answers(ports: PortRange | None, protocol: str, port: int) -> bool:
    return ports is None or (ports.protocol == protocol and ports.first <= port <= ports.last)
