"""The changes of tables and programs, in an order in which every packet of a limited client is recognised at each step.

    new tables      those with ports hold every address that has a class in the end, where another table had the ports,
                    so that what the table without ports says does not matter until it is right too
    addresses       that gain a class in tables with ports, which override the one without
    addresses       of the table without ports; then what loses its class in the others, or was put for the meantime
    programs        which find all tables as they should be

What rules did is undone behind all this, and what rules do now is done before programs go. Owns this order. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.kernel.objects import longest_prefix_match
from bandwidth_agent.kernel.objects.lookup_table import Numbers


def changes(desired: model.State, observed: model.State) -> Iterator[objects.Change]:
    """Yield the changes of all that should be there; pairs and classes must be there already."""
    standing = dict(observed.tables)
    plain_first = sorted(desired.tables, key=lambda name: (bool(desired.tables[name].ports), name))
    for name in plain_first:
        table = desired.tables[name]
        if not _fits(table, standing.get(name)):
            whole = _meanwhile(table, desired.tables, observed.tables) if table.ports else table.entries
            standing[name] = objects.LookupTable(table.family, table.ports, whole)
            yield objects.PutTable(name, standing[name])
    for name in plain_first:
        if desired.tables[name].ports:
            yield from _put(name, standing, _gains(desired.tables[name].entries, standing[name].entries))
    for name in plain_first:
        wanted, there = desired.tables[name].entries, standing[name].entries
        if wanted is not there:
            yield from _put(name, standing, {p: n for p, n in wanted.items() if there.get(p) != n})
            deletes = frozenset(there.keys() - wanted.keys())
            if deletes:
                yield objects.DeleteTableEntries(name, desired.tables[name].family, deletes)
    for name, program in desired.programs.items():
        present = observed.programs.get(name)
        if present != program:
            yield objects.PutProgram(name, program, present)


def removals(desired: model.State, observed: model.State) -> Iterator[objects.Change]:
    """Yield the removals of programs and tables that nothing needs any more."""
    for name in sorted(observed.programs.keys() - desired.programs.keys()):
        yield objects.DeleteProgram(name)
    for name in sorted(observed.tables.keys() - desired.tables.keys()):
        yield objects.DeleteTable(name, observed.tables[name].family)


def _fits(desired: objects.LookupTable, observed: objects.LookupTable | None) -> bool:
    """Whether the entries of an observed table can be changed one by one."""
    return observed is not None and (observed.family, observed.ports) == (desired.family, desired.ports)


def _meanwhile(
    table: objects.LookupTable,
    desired: Mapping[str, objects.LookupTable],
    observed: Mapping[str, objects.LookupTable],
) -> Numbers:
    """What a new table with ports must hold until the one without ports is as desired.

    Where another table had one of its ports, an address of that table may have lost its ports, and have a class only
    in a table that comes later.
    """
    before = [other for other in observed.values() if other.family == table.family and _share_ports(table, other)]
    plain: Numbers = next((t.entries for t in desired.values() if t.family == table.family and not t.ports), {})
    if not before or not plain:
        return table.entries
    here, there = longest_prefix_match.Numbers(table.entries), longest_prefix_match.Numbers(plain)
    return {p: here.find(p) or there.find(p) for p in (*table.entries, *plain)}


def _share_ports(one: objects.LookupTable, other: objects.LookupTable) -> bool:
    return any(
        a.protocol == b.protocol and a.first <= b.last and b.first <= a.last for a in one.ports for b in other.ports
    )


def _gains(desired: Numbers, observed: Numbers) -> Numbers:
    """The entries of a table to put first: each address has a class that has one before or after."""
    if desired is observed:
        return {}
    after, before = longest_prefix_match.Numbers(desired), longest_prefix_match.Numbers(observed)
    moved = {p for p in desired.keys() | observed.keys() if desired.get(p) != observed.get(p)}
    first = {p: after.find(p) or before.find(p) for p in moved}
    return {p: number for p, number in first.items() if number != observed.get(p)}


def _put(name: str, standing: dict[str, objects.LookupTable], entries: Numbers) -> Iterator[objects.PutTableEntries]:
    if entries:
        there = standing[name]
        standing[name] = objects.LookupTable(there.family, there.ports, {**there.entries, **entries})
        yield objects.PutTableEntries(name, there.family, entries)
