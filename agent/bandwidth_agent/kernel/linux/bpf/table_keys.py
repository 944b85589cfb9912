"""How tables are written in the maps: places, prefixes and ports as the keys that classifier.bpf.c compares. Pure."""

from __future__ import annotations

import array
import errno
import itertools
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel.linux.bpf import maps
from bandwidth_api.plan import PortRange, Prefix

_FAMILIES, _PROTOCOLS = (4, 6), ("TCP", "UDP")
_KEYS = {4: struct.Struct("=II4s"), 6: struct.Struct("=II16s")}
_TABLE_BITS = 32
_PORTS = 1 << 16  # of one family and protocol
_SOME_TABLE = 1
_AT_ONCE = 1 << 13  # bytes
_NONE = bytes(_AT_ONCE)

Contents = Mapping[int, Mapping[Prefix, int]]  # prefix → class, by number of the table
Ranges = tuple[PortRange, ...]


class Place(NamedTuple):
    """Where a table is: the number of the one without ports is 0."""

    family: int
    number: int


def free_place(family: int, with_ports: bool, taken: Iterable[Place]) -> Place:
    """Return where a new table may be. Raises OSError: ENOSPC."""
    if not with_ports:
        return Place(family, 0)
    numbers = {place.number for place in taken if place.family == family}
    for number in range(1, maps.PER_FAMILY_TABLES):
        if number not in numbers:
            return Place(family, number)
    raise OSError(errno.ENOSPC, f"there are {maps.PER_FAMILY_TABLES} tables already")


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────


def name(place: Place, text: str) -> tuple[bytes, bytes]:
    """Return key and value of a table's name."""
    value = text.encode()
    if len(value) >= maps.NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"{text}: a table's name has less than {maps.NAME_BYTES} bytes")
    at = maps.PER_FAMILY_TABLES * _FAMILIES.index(place.family) + place.number
    return struct.pack("=I", at), value.ljust(maps.NAME_BYTES, b"\0")


def places(values: bytes) -> dict[str, Place] | None:
    """Return what the map of names says; None where it is not as agents write it: two places of one name."""
    found: dict[str, Place] = {}
    for family, half in zip(_FAMILIES, (values[: len(values) // 2], values[len(values) // 2 :]), strict=True):
        used = len(half.rstrip(b"\0"))  # most places have never been used
        for at in range(0, used, maps.NAME_BYTES):
            text = half[at : at + maps.NAME_BYTES].rstrip(b"\0").decode(errors="replace")
            if text in found:
                return None
            if text:
                found[text] = Place(family, at // maps.NAME_BYTES)
    return found


# ── prefixes ───────────────────────────────────────────────────────────────────────────────────────────────────


def keys(place: Place, prefixes: Iterable[Prefix]) -> bytes:
    pack, number, size = _KEYS[place.family].pack, place.number, 4 if place.family == 4 else 16
    return b"".join(
        pack(_TABLE_BITS + length, number, network.to_bytes(size, "big")) for _, network, length in prefixes
    )


def numbers(classes: Sequence[int]) -> bytes:
    return struct.pack(f"={len(classes)}I", *classes)


def contents(family: int, all_keys: bytes, values: bytes) -> Contents:
    """Return what one family's map of prefixes says."""
    found: dict[int, dict[Prefix, int]] = {}
    classes = memoryview(values).cast("I")
    for (bits, number, network), minor in zip(_KEYS[family].iter_unpack(all_keys), classes, strict=True):
        prefix = Prefix(family, int.from_bytes(network, "big"), bits - _TABLE_BITS)
        found.setdefault(number, {})[prefix] = minor
    return found


# ── ports ──────────────────────────────────────────────────────────────────────────────────────────────────────


def port_ranges(memory: bytes) -> dict[Place, Ranges]:
    """Return the ports that lead to each table, as sorted ranges that do not touch. `memory`: as the array has it."""
    found: dict[Place, list[PortRange]] = {}
    here = memoryview(memory).cast("Q")
    for start in range(0, len(here), _AT_ONCE // 8):
        if memory[8 * start : 8 * start + _AT_ONCE] == _NONE:
            continue
        family, protocol = _FAMILIES[start // (2 * _PORTS)], _PROTOCOLS[start // _PORTS % 2]
        port = start % _PORTS
        for number, group in itertools.groupby(here[start : start + _AT_ONCE // 8]):
            first, port = port, port + sum(1 for _ in group)
            if first == 0:
                first = 1
            if number and first < port:
                ranges = found.setdefault(Place(family, number), [])
                if ranges and ranges[-1].protocol == protocol and ranges[-1].last == first - 1:
                    ranges[-1] = ranges[-1]._replace(last=port - 1)
                else:
                    ranges.append(PortRange(protocol, first, port - 1))
    return {place: tuple(ranges) for place, ranges in found.items()}


def port_changes(memory: bytes, place: Place, wanted: Ranges) -> tuple[bytes, bytes]:
    """Return the keys and values to write, in this order, so that these ports and no others lead to a table."""
    before = memoryview(memory).cast("Q")
    after = array.array("Q", memory)
    touched: dict[int, None] = {}  # in this order
    present = port_ranges(memory).get(place, ())
    for ranges, number in ((present, 0), (wanted, place.number)):
        for one in ranges:
            base = _base(place.family, one.protocol)
            first, behind = base + max(one.first, 1), base + one.last + 1
            after[first:behind] = array.array("Q", [number]) * (behind - first)
    for one in (*wanted, *present):
        base = _base(place.family, one.protocol)
        touched |= dict.fromkeys(range(base + max(one.first, 1), base + one.last + 1))
    changed = [(at, after[at]) for at in touched if after[at] != before[at]]
    for protocol in _PROTOCOLS:
        base = _base(place.family, protocol)
        some = any(after[base + 1 : base + _PORTS])
        if some and not before[base]:
            changed.insert(0, (base, _SOME_TABLE))
        elif before[base] and not some:
            changed.append((base, 0))
    return numbers([at for at, _ in changed]), numbers([number for _, number in changed])


def _base(family: int, protocol: str) -> int:
    return 2 * _PORTS * _FAMILIES.index(family) + _PORTS * _PROTOCOLS.index(protocol)
