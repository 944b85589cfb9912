"""Matching by ipset and iptables: a set per table, one chain per family, and the guard set that is asked first.

Owns the sets and rules of a resolution, and the hooks that lead to ifbs. What an entry holds is the business of the
classifiers that stand on this one.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.objects import chain_layout
from bandwidth_agent.planner.classifier import guard_set
from bandwidth_agent.planner.classifier.strategy import Carrier, Classifier, Memo, Named
from bandwidth_api import addresses, names
from bandwidth_api.plan import ClassKey, Prefix, Table

HOLE = objects.SetEntry(0, 0, 0, "", True)


@dataclasses.dataclass(frozen=True, slots=True)
class SetsAndChain(Classifier):
    """A classifier whose class ids stand in the entries of sets."""

    map_priority: ClassVar[bool]  # whether the rules take a priority from the set

    @property
    @abc.abstractmethod
    def map_mark(self) -> bool:
        """Whether the rules take a mark from the set."""

    def match(self, tables: Sequence[Table], placed: Mapping[ClassKey, Carrier], memo: Memo) -> model.State:
        """One set per table, and one chain per family. A class that is not in `placed` leaves holes."""
        sets = sets_of(tables, placed, memo)
        chains: dict[int, objects.Chain] = {}
        guards: dict[str, objects.IpSet] = {}
        for family in sorted({table.family for table in tables}):
            # The table without ports comes first, those with ports override it.
            named = tuple((names.set_name(family, t.ports), t.ports) for t in tables if t.family == family)
            guard = guard_set.of(family, {name: sets[name] for name, _ in named})
            guards |= guard.made
            chains[family] = objects.Chain(self._rules(family, named, memo), True, guard.name)
        return dataclasses.replace(model.EMPTY, sets=sets | guards, chains=chains)

    def lead(self, ways: Mapping[str, str], shards: Collection[int]) -> model.State:
        """Hooks that redirect to ifbs; at its own root an interface needs none."""
        hooked = [name for name, kind in ways.items() if kind == "ifb"]
        ifbs = {shard: objects.Ifb(True) for shard in sorted(shards)} if hooked else {}
        return dataclasses.replace(model.EMPTY, ifbs=ifbs, hooks={name: self.hook(shards) for name in hooked})

    @abc.abstractmethod
    def hook(self, shards: Iterable[int]) -> objects.Hook:
        """What leads packets from the interface's egress hook to these ifbs."""

    def _rules(self, family: int, named: Named, memo: Memo) -> tuple[objects.Rule, ...]:
        asked = named, self.map_mark, self.map_priority
        known = memo.rules.get(family)
        if known is None or known[0] != asked:
            both = self.map_mark, self.map_priority
            made = [objects.Rule(name, r, *both) for name, ports in named for r in ports or (None,)]
            known = memo.rules[family] = asked, chain_layout.canonical(made)
        return known[1]


def sets_of(tables: Sequence[Table], placed: Mapping[ClassKey, Carrier], memo: Memo) -> dict[str, objects.IpSet]:
    """One set per table, by name. A class that is not in `placed` leaves holes."""
    known, memo.entries = memo.entries, {}
    for table in tables:
        found = known.get(id(table))
        memo.entries[id(table)] = found or (table, _entries(table, placed))  # which keeps the table, so also the id
    return {names.set_name(t.family, t.ports): objects.IpSet(t.family, memo.entries[id(t)][1]) for t in tables}


def _entries(table: Table, placed: Mapping[ClassKey, Carrier]) -> Mapping[Prefix, objects.SetEntry]:
    """The entries of a table's set. ipset knows no prefix of length 0, so that one becomes its two halves."""
    whole: dict[Prefix, objects.SetEntry] = {}
    for prefix, key in table.entries.items():
        found = placed.get(key) if key is not None else None
        whole[prefix] = HOLE if found is None else found.entry
    everything = whole.pop(Prefix(table.family, 0, 0), None)
    if everything is not None:
        for network in (0, 1 << (addresses.BITS[table.family] - 1)):
            whole.setdefault(Prefix(table.family, network, 1), everything)
    return whole
