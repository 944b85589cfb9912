"""Space-Saving keeps its bounds, whatever comes."""

from __future__ import annotations

import collections

import hypothesis.strategies as st
from hypothesis import given

from bandwidth_sight.space_saving import SpaceSaving

ADDED = st.lists(st.tuples(st.integers(0, 30).map(lambda n: bytes([n])), st.integers(1, 1000)), max_size=200)


@given(ADDED, st.integers(1, 12))
def test_what_is_known_lies_within_its_bounds(added: list[tuple[bytes, int]], size: int) -> None:
    """Each key has between `least` and `most`, which differ by no more than total ÷ size; the large are all there."""
    table, truth = SpaceSaving(size), collections.Counter[bytes]()
    for key, amount in added:
        table.add(key, amount)
        truth[key] += amount
    assert table.total == truth.total()
    assert len(table) == min(size, len(truth))
    for number in range(31):
        key = bytes([number])
        found = table.get(key)
        assert found.least <= truth[key] <= found.most
        assert found.most - found.least <= table.total / size
    assert {key for key, amount in truth.items() if amount > table.total / size} <= set(table)


@given(ADDED)
def test_with_room_for_all_it_is_exact(added: list[tuple[bytes, int]]) -> None:
    """Nothing is uncertain before the table is full."""
    table, truth = SpaceSaving(64), collections.Counter[bytes]()
    for key, amount in added:
        table.add(key, amount)
        truth[key] += amount
    assert all(table.get(key) == (amount, amount) for key, amount in truth.items())
    assert set(table) == set(truth)
