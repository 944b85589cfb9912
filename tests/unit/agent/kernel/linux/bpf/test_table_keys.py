"""What is written for a table is what is read back of it, and no other table is touched."""

from __future__ import annotations

import array
import struct

import hypothesis
import pytest
from hypothesis import strategies

from bandwidth_agent.kernel.linux.bpf import maps, table_keys
from bandwidth_agent.kernel.linux.bpf.table_keys import Place
from bandwidth_api.compiler.overlap import port_strips
from bandwidth_api.plan import PortRange, Prefix

EMPTY = bytes(8 * maps.DEFINITIONS["ports"].most_entries)

ports = strategies.one_of(strategies.integers(1, 40), strategies.integers(65_500, 65_535), strategies.just(32_768))
ranges = strategies.lists(
    strategies.builds(
        lambda protocol, one, other: PortRange(protocol, min(one, other), max(one, other)),
        strategies.sampled_from(["TCP", "UDP"]),
        ports,
        ports,
    ),
    max_size=4,
).map(lambda given: port_strips.normal(given))
places = strategies.builds(Place, strategies.sampled_from([4, 6]), strategies.integers(1, 3))


def written(memory: bytes, changes: tuple[bytes, bytes]) -> bytes:
    """The array after these changes; each alone, as the kernel makes them."""
    after = array.array("Q", memory)
    for at, number in zip(*(memoryview(part).cast("I") for part in changes), strict=True):
        after[at] = number
    return after.tobytes()


@hypothesis.settings(max_examples=25)
@hypothesis.given(strategies.lists(strategies.tuples(places, ranges), max_size=5))
def test_ports_lead_to_the_table_that_was_put_last(puts: list[tuple[Place, table_keys.Ranges]]) -> None:
    """Whatever was there before: each table has what it was given and no later one took; the flags say where any is."""
    memory, owner = EMPTY, dict[tuple[int, str, int], Place]()
    for place, wanted in puts:
        memory = written(memory, table_keys.port_changes(memory, place, wanted))
        owner = {port: each for port, each in owner.items() if each != place}
        owner |= {(place.family, r.protocol, port): place for r in wanted for port in range(r.first, r.last + 1)}
    expected = {
        place: port_strips.normal(
            PortRange(protocol, port, port) for (_, protocol, port), each in owner.items() if each == place
        )
        for place in set(owner.values())
    }
    assert table_keys.port_ranges(memory) == expected
    flags = [memoryview(memory).cast("Q")[block << 16] for block in range(4)]
    blocks = [(family, protocol) for family in (4, 6) for protocol in ("TCP", "UDP")]
    assert flags == [int(any(port[:2] == block for port in owner)) for block in blocks]


def test_no_port_is_without_a_table_for_a_moment() -> None:
    """A port that goes from one table to another is written once; the flag comes first, and goes last."""
    old, new = Place(4, 1), Place(4, 2)
    web = (PortRange("TCP", 80, 81),)
    keys, values = table_keys.port_changes(EMPTY, old, web)
    assert list(zip(*struct.iter_unpack("=I", keys), strict=True)) == [(0, 80, 81)]
    memory = written(EMPTY, (keys, values))
    keys, values = table_keys.port_changes(memory, new, web)
    assert (keys, values) == (struct.pack("=2I", 80, 81), struct.pack("=2I", 2, 2))
    keys, values = table_keys.port_changes(written(memory, (keys, values)), new, ())
    assert (keys, values) == (struct.pack("=3I", 80, 81, 0), bytes(12))


@hypothesis.given(
    strategies.dictionaries(
        strategies.integers(0, 128).flatmap(
            lambda length: strategies.builds(
                lambda bits: Prefix(6, bits << 128 - length, length), strategies.integers(0, (1 << length) - 1)
            )
        ),
        strategies.integers(0, 0x7BFF),
        max_size=20,
    ),
    strategies.integers(0, 2_047),
)
def test_prefixes_are_read_back(entries: dict[Prefix, int], number: int) -> None:
    """Each under the number of its table."""
    keys = table_keys.keys(Place(6, number), entries)
    read = table_keys.contents(6, keys, table_keys.numbers(list(entries.values())))
    assert read == ({number: entries} if entries else {})


def test_names() -> None:
    """Each has a place of its own; one that does not fit is refused, and two of one name are not believed."""
    given = {
        "cbl-v4": Place(4, 0),
        "cbl-v6": Place(6, 0),
        "cbl-v4-0123456789ab": Place(4, 2_047),
        "x" * 31: Place(6, 7),
    }
    values = bytearray(maps.DEFINITIONS["names"].most_entries * maps.NAME_BYTES)
    for text, place in given.items():
        key, value = table_keys.name(place, text)
        at = struct.unpack("=I", key)[0] * maps.NAME_BYTES
        values[at : at + maps.NAME_BYTES] = value
    assert table_keys.places(bytes(values)) == given
    values[5 * maps.NAME_BYTES : 6 * maps.NAME_BYTES] = values[: maps.NAME_BYTES]
    assert table_keys.places(bytes(values)) is None
    with pytest.raises(OSError, match="less than 32 bytes"):
        table_keys.name(Place(4, 1), "x" * 32)


def test_a_new_table_gets_a_free_number() -> None:
    """The table without ports has the number 0, in each family."""
    taken = [Place(4, 0), Place(4, 1), Place(4, 3), Place(6, 2)]
    assert table_keys.free_place(4, True, taken) == Place(4, 2)
    assert table_keys.free_place(6, True, taken) == Place(6, 1)
    assert table_keys.free_place(6, False, taken) == Place(6, 0)
