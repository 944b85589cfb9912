"""The one set that is asked first: which it is, and that it holds the addresses of all limits and of no other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.objects import longest_prefix_match
from bandwidth_agent.planner.classifier import guard_set
from bandwidth_api import addresses, names
from bandwidth_api.plan import Prefix
from unit.agent import worlds

CLASS = objects.SetEntry(1 << 16, 0xFFFF0000, 0, "limit-1")
HOLE = objects.SetEntry(0, 0, 0, "", True)


def table(family: int, *prefixes: str) -> objects.IpSet:
    return objects.IpSet(family, {addresses.parse(text): CLASS for text in prefixes})


@st.composite
def wide_prefixes(draw: st.DrawFn, family: int) -> Prefix:
    """Of any length; their addresses differ in the first bits, in the last, or in both."""
    bits = addresses.BITS[family]
    length = draw(st.integers(1, bits))
    network = draw(st.integers(0, 255)) << (bits - 8) | draw(st.integers(0, 255))
    return Prefix(family, network >> (bits - length) << (bits - length), length)


@worlds.unhurried
@given(st.data(), st.sampled_from((4, 6)))
def test_it_holds_the_addresses_of_all_limits_and_no_other(data: st.DataObject, family: int) -> None:
    """Whatever their lengths: an address is found in it if and only if it is in a prefix that has a class."""
    found = data.draw(st.lists(wide_prefixes(family), min_size=1, max_size=40))
    tables = {
        "cbl-v4": objects.IpSet(family, {p: HOLE if n % 5 == 4 else CLASS for n, p in enumerate(found)}),
        "cbl-v4-0123456789ab": objects.IpSet(family, {p: CLASS for n, p in enumerate(found) if n % 3 == 0}),
    }
    guard = guard_set.of(family, tables)
    assert guard.name == names.clients_set(family)
    asked = longest_prefix_match.Lookup(guard.made[guard.name].entries)
    named = [p for each in tables.values() for p, entry in each.entries.items() if not entry.hole]
    bits = addresses.BITS[family]
    probes = {p.network + offset for p in found for offset in (-1, 0, 1, (1 << (bits - p.length)) - 1)}
    for address in filter(range(1 << bits).__contains__, probes):
        host = Prefix(family, address, bits)
        assert (asked.find(host) is not None) == any(addresses.covers(prefix, host) for prefix in named)


def test_one_table_with_few_lengths_is_its_own_guard() -> None:
    """What was there without ports stays as it is."""
    assert guard_set.of(4, {"cbl-v4": table(4, "10.0.0.0/8", "192.0.2.7")}) == guard_set.Guard("cbl-v4", {})


@pytest.mark.parametrize(("family", "at_most"), [(4, 8), (6, 32)])
def test_a_look_up_tries_few_lengths_however_many_the_limits_have(family: int, at_most: int) -> None:
    """Prefixes of every length come to every fourth one, and at most eight of them to each."""
    bits = addresses.BITS[family]
    entries = {Prefix(family, 1 << (bits - length), length): CLASS for length in range(1, bits + 1)}
    guard = guard_set.of(family, {f"cbl-v{family}": objects.IpSet(family, entries)})
    made = guard.made[guard.name].entries
    assert guard.name == names.clients_set(family)
    assert len({prefix.length for prefix in made}) <= at_most
    assert len(made) <= 8 * len(entries)


def test_very_many_prefixes_are_not_cut_up() -> None:
    """Where there are hundreds of thousands, more lengths cost less than a set eight times as large."""
    many = {Prefix(4, number << 7, 25): CLASS for number in range(40_000)}
    lengths = {Prefix(4, 1 << 31, length): CLASS for length in range(1, 20)}
    guard = guard_set.of(4, {"cbl-v4": objects.IpSet(4, many | lengths)})
    assert guard.made[guard.name].entries.keys() == (many | lengths).keys()
