"""The tables that our programs look into: written into the maps, and read back from them.

    names   place → name                         the place says of which family, and which number in the keys
    v4, v6  (number, prefix) → class             number 0: the table of what has no table for its port
    ports   (family, protocol, port) → number    at port 0: whether any port of these has a table

A table has its name before it has anything else, and loses it last, so that what a killed agent left is found; the name
of the first one is written before its map can be found. Prefixes come longest first and go shortest first.

Where others took one of the maps its name, programs go on with it, but nobody finds it again: a new one is filled, and
programs get that. Where the names say nothing any more, so it is with all maps.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterator, Mapping

from bandwidth_agent.kernel import objects, refusals
from bandwidth_agent.kernel.linux.bpf import maps, pins, table_keys
from bandwidth_agent.kernel.linux.bpf.table_keys import Place
from bandwidth_api.plan import PortRange, Prefix

MAPS = ("names", "v4", "v6", "ports")  # in the order in which they come; they go the other way round
UNNAMED = "without a name"  # what maps hold whose names are gone
_ODD = (PortRange("TCP", 0, 0),)  # of no table that is wanted


class Tables:
    """The tables of one network namespace. Not thread-safe."""

    def __init__(self, kept: pins.Pins) -> None:
        self._pins = kept
        self._last_read: dict[int, tuple[object, table_keys.Contents]] = {}  # by family: as read, and as understood
        self._last_ports: tuple[bytes, dict[Place, table_keys.Ranges]] = b"", {}

    def observe(self) -> dict[str, objects.LookupTable]:
        """Return the tables by name. Raises OSError."""
        placed = self._placed()
        if placed is None or (placed and not self._there().issuperset(MAPS)):
            known = {name: place.family for name, place in (placed or {}).items()}
            known |= {UNNAMED: 4} if placed is None else {}
            return {name: objects.LookupTable(family, _ODD, {}) for name, family in known.items()}
        contents = {family: self._contents(family) for family in {place.family for place in placed.values()}}
        ranges = self._ranges() if any(place.number for place in placed.values()) else {}
        return {
            name: objects.LookupTable(place.family, ranges.get(place, ()), contents[place.family].get(place.number, {}))
            for name, place in placed.items()
        }

    @refusals.as_outcome
    def put_table(self, step: objects.PutTable) -> objects.Outcome:
        """Make the table as wanted, also one that is there: no address that stays in it is without its class for it."""
        wanted, placed = step.table, self._placed()
        if placed is None:
            self._pins.forget(*reversed(MAPS))
            placed = {}
        place = placed.get(step.name) or table_keys.free_place(wanted.family, bool(wanted.ports), placed.values())
        self._make_maps(step.name, place)
        present = self._contents(place.family).get(place.number, {})
        failed = self._put(place, {prefix: n for prefix, n in wanted.entries.items() if present.get(prefix) != n})
        failed |= self._delete(place, present.keys() - wanted.entries.keys())
        self._lead(place, wanted.ports)
        return objects.Outcome(step, failed_entries=failed)

    @refusals.as_outcome
    def put_entries(self, step: objects.PutTableEntries) -> objects.Outcome:
        place = (self._placed() or {}).get(step.name)
        if place is None:
            raise OSError(errno.ENOENT, f"there is no table {step.name}")
        return objects.Outcome(step, failed_entries=self._put(place, step.entries))

    @refusals.as_outcome
    def delete_entries(self, step: objects.DeleteTableEntries) -> objects.Outcome:
        place = (self._placed() or {}).get(step.name)
        return objects.Outcome(step, failed_entries=self._delete(place, step.prefixes) if place else {})

    @refusals.as_outcome
    def delete_table(self, step: objects.DeleteTable) -> objects.Outcome:
        """Delete a table; the maps go with the last one, unless a program looks into them."""
        placed = self._placed()
        place = (placed or {}).pop(step.name, None)
        if not placed and not self._pins.interfaces():
            self._pins.forget(*reversed(MAPS))
            return objects.Outcome(step)
        if place is None:
            return objects.Outcome(step)
        if self._there().issuperset(MAPS):
            self._lead(place, ())
            failed = self._delete(place, self._contents(place.family).get(place.number, {}).keys())
            for failure in failed.values():
                return objects.Outcome(step, failure)
        with self._opened("names") as there:
            _demand(there.put(*table_keys.name(place, "")))
        return objects.Outcome(step)

    # ── the maps ───────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[maps.Map]:
        with contextlib.closing(maps.Map.open(name, self._pins.path(name))) as there:
            yield there

    def _there(self) -> frozenset[str]:
        """The maps that are there under their names, as this version makes them."""
        found = set()
        for name in self._pins.there().intersection(MAPS):
            with contextlib.suppress(FileNotFoundError), self._opened(name):
                found.add(name)
        return frozenset(found)

    def _make_maps(self, name: str, place: Place) -> None:
        """Make the maps that are not there, and give the table its name."""
        there = self._there()
        for kind in MAPS:
            if kind not in there:
                with contextlib.closing(maps.Map.make(kind)) as made:
                    if kind == "names":
                        _demand(made.put(*table_keys.name(place, name)))
                    self._pins.keep(made.descriptor, kind)
        if "names" in there:
            with self._opened("names") as known:
                _demand(known.put(*table_keys.name(place, name)))

    def _placed(self) -> dict[str, Place] | None:
        """Return where each table is; None where there are maps whose names are gone, or say nothing any more."""
        try:
            if self._pins.there().isdisjoint(MAPS):
                return {}  # not asked of the kernel, which does not tell everybody
            with self._opened("names") as known:
                found = table_keys.places(known.memory())
        except FileNotFoundError:
            return None
        return found or (found if self._pins.interfaces() else None)

    def _contents(self, family: int) -> table_keys.Contents:
        """Read one family's prefixes; what is as it was last time is not understood anew."""
        with self._opened(f"v{family}") as there:
            read = there.read()
        if family not in self._last_read or self._last_read[family][0] != read:
            self._last_read[family] = read, table_keys.contents(family, *read)
        return self._last_read[family][1]

    def _ranges(self) -> dict[Place, table_keys.Ranges]:
        with self._opened("ports") as there:
            read = there.memory()
        if self._last_ports[0] != read:
            self._last_ports = read, table_keys.port_ranges(read)
        return self._last_ports[1]

    def _put(self, place: Place, entries: Mapping[Prefix, int]) -> dict[Prefix, objects.Failure]:
        prefixes = sorted(entries, key=lambda prefix: -prefix.length)
        with self._opened(f"v{place.family}") as there:
            numbers = table_keys.numbers([entries[prefix] for prefix in prefixes])
            refused = there.put(table_keys.keys(place, prefixes), numbers)
        return {prefixes[at]: _failure(code) for at, code in refused.items()}

    def _delete(self, place: Place, entries: Collection[Prefix]) -> dict[Prefix, objects.Failure]:
        prefixes = sorted(entries, key=lambda prefix: prefix.length)
        if not prefixes:
            return {}
        with self._opened(f"v{place.family}") as there:
            refused = there.delete(table_keys.keys(place, prefixes))
        return {prefixes[at]: _failure(code) for at, code in refused.items() if code != errno.ENOENT}

    def _lead(self, place: Place, ports: table_keys.Ranges) -> None:
        """Lead these ports to a table, and no others."""
        if not place.number:
            return
        with self._opened("ports") as there:
            _demand(there.put(*table_keys.port_changes(there.memory(), place, ports)))


def _failure(code: int) -> objects.Failure:
    return objects.Failure(code, os.strerror(code))


def _demand(refused: Mapping[int, int]) -> None:
    for code in refused.values():
        raise OSError(code, os.strerror(code))
