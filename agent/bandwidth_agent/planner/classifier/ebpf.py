"""Classifying by eBPF programs on the interfaces' way out, which see packets that netfilter never does.

The sets are those of `priority`, with nothing that looks into them: from them an agent without memory knows which
limit has which class id, and people see addresses and expiries. What programs look into are tables, made of the sets.
There is one pair for all interfaces, and no shard but the first: HTB finds 30,000 classes by a priority as fast as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.objects import lookup_table
from bandwidth_agent.planner.classifier import priority, sets_and_chain
from bandwidth_agent.planner.classifier.strategy import Carrier, Classifier, Memo
from bandwidth_api import names
from bandwidth_api.plan import ClassKey, Prefix, Table

SHARD = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Ebpf(Classifier):
    kind: ClassVar[str] = "ebpf"

    @property
    def capacity(self) -> int:
        """The highest class id: all of them fit."""
        return names.CLASS_MAX

    def shard(self, number: int) -> int:
        """The one pair."""
        return SHARD

    def entry(self, number: int, comment: str) -> objects.SetEntry:
        """The entry of `priority` where no ifb is used."""
        return objects.SetEntry(0, 0, names.HTB_MAJOR << 16 | number, comment)

    def match(self, tables: Sequence[Table], placed: Mapping[ClassKey, Carrier], memo: Memo) -> model.State:
        """One set per table, and the table that programs look into with the same addresses."""
        sets = sets_and_chain.sets_of(tables, placed, memo)
        known, memo.numbers = memo.numbers, {}
        made: dict[str, objects.LookupTable] = {}
        for table in tables:
            name = names.set_name(table.family, table.ports)
            entries = sets[name].entries
            found = known.get(id(entries))
            memo.numbers[id(entries)] = found or (entries, _numbers(entries))  # which keeps the entries, so also the id
            made[name] = objects.LookupTable(table.family, table.ports, memo.numbers[id(entries)][1])
        return dataclasses.replace(model.EMPTY, sets=sets, tables=made)

    def lead(self, ways: Mapping[str, str], shards: Collection[int]) -> model.State:
        """Programs that send packets to the pair, or on to the interface's own root."""
        programs = {name: objects.Program(SHARD if kind == "pair" else None) for name, kind in ways.items()}
        beside = any(program.shard is not None for program in programs.values())
        return dataclasses.replace(model.EMPTY, pairs={SHARD: objects.Pair(True)} if beside else {}, programs=programs)

    @property
    def filter(self) -> objects.MarkFilter | None:
        """None: HTB takes the priority by itself."""
        return None


def _numbers(entries: Mapping[Prefix, objects.SetEntry]) -> lookup_table.Numbers:
    return {prefix: priority.number(entry) or lookup_table.HOLE for prefix, entry in entries.items()}
