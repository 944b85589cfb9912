"""Tables are written into maps and read back as they were wanted; the maps come with the first and go with the last."""

from __future__ import annotations

import errno
import random

import pytest

from bandwidth_agent.kernel import objects
from bandwidth_api import names
from bandwidth_api.plan import PortRange, Prefix
from bandwidth_lab import bpffs
from kernel.bpf.node import V4, V6, Node, prefix, table

pytestmark = pytest.mark.root

WEB, MAIL = PortRange("TCP", 80, 90), PortRange("TCP", 993, 993)
TABLES = (
    table(4, {"203.0.113.10": 7, "203.0.113.0/24": 9, "203.0.113.11": 0, "0.0.0.0/0": 31_743}),
    table(6, {"2001:db8::/32": 7, "2001:db8::1": 0, "::/0": 1}),
    table(4, {"203.0.113.10": 8}, WEB, MAIL, PortRange("UDP", 1, 65_535)),
    table(4, {}, PortRange("TCP", 91, 91)),
    table(6, {"2001:db8::/64": 3}, WEB, MAIL),
)


def named(*tables: objects.LookupTable) -> dict[str, objects.LookupTable]:
    return {names.set_name(each.family, each.ports): each for each in tables}


def remove(node: Node, *tables: objects.LookupTable) -> None:
    node.apply(*(objects.DeleteTable(name, each.family) for name, each in named(*tables).items()))


def test_what_is_put_is_observed(node: Node) -> None:
    """By this agent, and by one that knows nothing."""
    node.put(*TABLES)
    assert node.tables == named(*TABLES)
    with node.another() as fresh:
        assert fresh.tables == named(*TABLES)


def test_the_maps_go_with_the_last_table(node: Node) -> None:
    """In any order; nothing is left in the file system."""
    for order in (TABLES, TABLES[::-1]):
        node.put(*TABLES)
        for each in order:
            assert bpffs.names(node.directory)
            remove(node, each)
        assert node.tables == {}
        assert bpffs.names(node.directory) == []


def test_the_maps_stay_as_long_as_a_program_looks_into_them(node: Node) -> None:
    """A table that comes back is where the program looks."""
    node.put(*TABLES)
    node.apply(objects.PutProgram("eth0", objects.Program(None), None))
    remove(node, *TABLES)
    assert node.tables == {}
    node.put(*TABLES)
    assert node.programs == {"eth0": objects.Program(None)}


def test_entries_change_one_by_one(node: Node) -> None:
    """Put, changed, made a hole, deleted; deleting what is not there is no failure."""
    node.put(table(4, {"203.0.113.10": 7, "203.0.113.0/24": 9}))
    put = {prefix("203.0.113.10"): 8, prefix("203.0.113.0/28"): 0, prefix("198.51.100.1"): 1}
    node.apply(objects.PutTableEntries(V4, 4, put))
    gone = frozenset({prefix("203.0.113.0/24"), prefix("203.0.113.0/25")})
    node.apply(objects.DeleteTableEntries(V4, 4, gone))
    assert node.tables == named(table(4, {"203.0.113.10": 8, "203.0.113.0/28": 0, "198.51.100.1": 1}))


def test_a_table_is_put_over_another(node: Node) -> None:
    """What is there of that name becomes as wanted, and other tables stay as they are."""
    node.put(*TABLES)
    other = table(4, {"198.51.100.1": 2})
    node.put(other)
    assert node.tables == named(other, *TABLES[1:])


def test_of_two_tables_with_a_port_the_last_has_it(node: Node) -> None:
    """One layout of ports becomes another without a moment in which a port has no table; the old ones then go."""
    whole = table(4, {"203.0.113.10": 7}, PortRange("TCP", 80, 90))
    lower, upper = (table(4, {"203.0.113.10": 7}, PortRange("TCP", *ports)) for ports in ((80, 84), (85, 90)))
    node.put(whole)
    node.put(lower)
    assert node.tables[names.set_name(4, whole.ports)].ports == (PortRange("TCP", 85, 90),)
    node.put(upper)
    assert node.tables[names.set_name(4, whole.ports)].ports == ()
    remove(node, whole)
    assert node.tables == named(lower, upper)


def test_entries_of_a_table_that_is_not_there(node: Node) -> None:
    """To put them fails with a value; to delete them does not."""
    outcome = node.attempt(objects.PutTableEntries(V4, 4, {prefix("203.0.113.10"): 7}))
    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENOENT
    node.apply(objects.DeleteTableEntries(V4, 4, frozenset({prefix("203.0.113.10")})), objects.DeleteTable(V6, 6))


def test_an_entry_that_cannot_be_spares_the_others(node: Node) -> None:
    """What the kernel refuses is a value, and what comes behind it is written."""
    node.put(table(4, {}))
    impossible = Prefix(4, 0, 40)
    put = {prefix("203.0.113.10"): 7, impossible: 1, prefix("203.0.113.0/24"): 9}
    outcome = node.attempt(objects.PutTableEntries(V4, 4, put))
    assert outcome.failure is None
    assert {p: why.errno for p, why in outcome.failed_entries.items()} == {impossible: errno.EINVAL}
    assert node.tables == named(table(4, {"203.0.113.10": 7, "203.0.113.0/24": 9}))


def test_more_tables_than_there_are_places(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that has no place is refused; the others stay."""
    monkeypatch.setattr("bandwidth_agent.kernel.linux.bpf.maps.PER_FAMILY_TABLES", 3)
    kept = [table(4, {"203.0.113.10": 7}, PortRange("TCP", port, port)) for port in (1, 2)]
    node.put(*kept)
    outcome = node.attempt(objects.PutTable("cbl-v4-3", table(4, {}, PortRange("TCP", 3, 3))))
    assert outcome.failure is not None
    assert outcome.failure.errno == errno.ENOSPC
    assert node.tables == named(*kept)


def test_30_000_entries(node: Node) -> None:
    """All of them are read back, also where the kernel takes one at a time only."""
    chance = random.Random(3)
    entries = {Prefix(6, chance.getrandbits(64) << 64, 64): chance.randrange(1, 31_744) for _ in range(30_000)}
    large = objects.LookupTable(6, (), entries)
    node.put(large)
    assert node.tables == {V6: large}


def test_a_kernel_that_takes_one_entry_at_a_time(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux before 5.13 refuses many prefixes at a time; everything works as with it."""
    for many in ("_LOOKUP_BATCH", "_UPDATE_BATCH", "_DELETE_BATCH"):
        monkeypatch.setattr(f"bandwidth_agent.kernel.linux.bpf.maps.{many}", 99)  # which no kernel knows
    node.put(*TABLES)
    assert node.tables == named(*TABLES)
    node.apply(objects.DeleteTableEntries(V4, 4, frozenset({prefix("203.0.113.10"), prefix("203.0.113.99")})))
    assert prefix("203.0.113.10") not in node.tables[V4].entries
    remove(node, *TABLES)
    assert bpffs.names(node.directory) == []
