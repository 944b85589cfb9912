"""Tables that our programs look destinations up in: prefix → class number, for a family and some ports or the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from bandwidth_agent.kernel.objects import change, port_text, root
from bandwidth_api import addresses
from bandwidth_api.plan import PortRange, Prefix

HOLE = 0
Numbers = Mapping[Prefix, int]  # class numbers; HOLE: the longest prefix that holds the address gives it none


@dataclasses.dataclass(frozen=True, slots=True)
class LookupTable:
    """One table. A packet from one of `ports` is looked up there first, and then in the table of its family without
    ports, unless the first one gave it a class: a hole there and an address that is not there are the same.

    `ports`: disjoint from those of all other desired tables of the family; between two layouts, of the tables that
    have a port the one that was put last has it. Empty: for every packet that has no class yet.
    """

    family: int
    ports: tuple[PortRange, ...]
    entries: Numbers


@dataclasses.dataclass(frozen=True, slots=True)
class _OfTable(change.Step):
    name: str  # of the set with the same addresses

    @property
    def touches(self) -> change.Object:
        return change.Object("table", self.name)


@dataclasses.dataclass(frozen=True, slots=True)
class PutTable(_OfTable):
    """Make a table with these entries, and only then lead its ports to it; what is there of that name is replaced."""

    table: LookupTable

    @property
    def size(self) -> int:
        return 1 + len(self.table.entries)

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        ports = ", ".join(map(port_text.of, self.table.ports)) or "every other packet"
        yield "add", "table", self.name, f"IPv{self.table.family}, {ports}, {len(self.table.entries)} prefixes"
        yield from _rows("add", self.name, self.table.entries, labels)

    def without_broken(self, applied: change.Applied, number: change.ClassNumber) -> PutTable:
        whole = _of_sound_classes(self.table.entries, applied)
        return dataclasses.replace(self, table=dataclasses.replace(self.table, entries=whole))


@dataclasses.dataclass(frozen=True, slots=True)
class PutTableEntries(_OfTable):
    """Add or change entries of an existing table, longest prefix first."""

    family: int
    entries: Numbers

    @property
    def size(self) -> int:
        return len(self.entries)

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        return _rows("put", self.name, self.entries, labels)

    def without_broken(self, applied: change.Applied, number: change.ClassNumber) -> PutTableEntries | None:
        whole = _of_sound_classes(self.entries, applied)
        return dataclasses.replace(self, entries=whole) if whole and self.touches not in applied.objects else None


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteTableEntries(_OfTable):
    """Take entries out of a table, shortest prefix first."""

    family: int
    prefixes: frozenset[Prefix]

    removes = True

    @property
    def size(self) -> int:
        return len(self.prefixes)

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        for prefix in sorted(self.prefixes, key=lambda p: (p.length, p.network)):
            yield "delete", "prefix", self.name, addresses.write(prefix)


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteTable(_OfTable, change.Removal):
    """Remove a table: its ports lead nowhere, where they still led to it, and then its entries go."""

    family: int

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "table", self.name


def _of_sound_classes(entries: Numbers, applied: change.Applied) -> Numbers:
    """The entries that lead to no failed class."""
    broken = {minor for _, minor in applied.classes}
    return {prefix: minor for prefix, minor in entries.items() if minor not in broken}


def _rows(verb: str, name: str, entries: Numbers, labels: change.Labels) -> Iterator[change.Row]:
    for prefix, minor in sorted(entries.items(), key=lambda item: (-item[0].length, item[0].network)):
        where = (verb, "prefix", name, addresses.write(prefix))
        yield (*where, "nobody's", "") if minor == HOLE else (*where, f"class {root.classid(minor)}", labels.of(minor))
