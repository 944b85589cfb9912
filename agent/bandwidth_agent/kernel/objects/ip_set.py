"""A set of client addresses, each with the class that its packets get: rules look a packet's destination up in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from bandwidth_agent.kernel.objects import change, root
from bandwidth_agent.kernel.objects.set_entry import SetEntry
from bandwidth_api import addresses
from bandwidth_api.plan import Prefix

Entries = Mapping[Prefix, SetEntry]


@dataclasses.dataclass(frozen=True, slots=True)
class IpSet:
    """One of our sets of one family."""

    family: int
    entries: Entries
    healthy: bool = True  # observed: has the type and the extensions that we create it with


@dataclasses.dataclass(frozen=True, slots=True)
class _OfSet(change.Step):
    name: str

    @property
    def touches(self) -> change.Object:
        return change.Object("set", self.name)


@dataclasses.dataclass(frozen=True, slots=True)
class PutSet(_OfSet):
    """Create a set with these entries; if one of that name is there, fill a new one beside it and swap."""

    set: IpSet
    replace: bool

    @property
    def size(self) -> int:
        return 1 + len(self.set.entries)

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        what = f"hash:net, IPv{self.set.family}, {len(self.set.entries)} entries"
        yield ("swap" if self.replace else "add"), "set", self.name, what
        yield from _entry_rows("add", self.name, self.set.entries, labels)

    def without_broken(self, applied: change.Applied, number: change.ClassNumber) -> PutSet:
        whole = _of_sound_classes(self.set.entries, applied, number)
        return dataclasses.replace(self, set=dataclasses.replace(self.set, entries=whole))


@dataclasses.dataclass(frozen=True, slots=True)
class PutEntries(_OfSet):
    """Add or change entries of an existing set, longest prefix first."""

    family: int
    entries: Entries

    @property
    def size(self) -> int:
        return len(self.entries)

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        return _entry_rows("put", self.name, self.entries, labels)

    def without_broken(self, applied: change.Applied, number: change.ClassNumber) -> PutEntries | None:
        """While programs fail that take over from rules, entries keep what the rules take from them."""
        whole = _of_sound_classes(self.entries, applied, number)
        sound = self.touches not in applied.objects and applied.programs_stand_in
        return dataclasses.replace(self, entries=whole) if whole and sound else None


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteEntries(_OfSet):
    """Take entries out of a set, shortest prefix first."""

    family: int
    prefixes: frozenset[Prefix]

    removes = True

    @property
    def size(self) -> int:
        return len(self.prefixes)

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        for prefix in sorted(self.prefixes, key=lambda p: (p.length, p.network)):
            yield "delete", "entry", self.name, addresses.write(prefix)


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteSet(_OfSet, change.Removal):
    """Destroy a set with its entries."""

    def rows(self, labels: change.Labels) -> Iterator[change.Row]:
        yield "delete", "set", self.name


def _of_sound_classes(entries: Entries, applied: change.Applied, number: change.ClassNumber) -> Entries:
    """The entries that lead to no failed class."""
    broken = {minor for _, minor in applied.classes}
    return {prefix: entry for prefix, entry in entries.items() if number(entry) not in broken}


def _entry_rows(verb: str, name: str, entries: Entries, labels: change.Labels) -> Iterator[change.Row]:
    for prefix, entry in sorted(entries.items(), key=lambda item: (-item[0].length, item[0].network)):
        minor = labels.number(entry)
        if minor is None:
            yield verb, "entry", name, addresses.write(prefix), "nobody's" if entry.hole else "a client", ""
        else:
            yield verb, "entry", name, addresses.write(prefix), f"class {root.classid(minor)}", labels.of(minor)
