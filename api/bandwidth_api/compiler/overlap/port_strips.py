"""Turns overlapping port selectors into disjoint sets of ports, and each selector into bits of one number. Pure.

A *selector* is a normal form: ranges sorted, none touching another. All borders of all selectors cut the ports into
pieces; pieces that the same selectors hold are one *strip*, and strip k is bit k of a mask:

    a  TCP:1-10                    strip 0  TCP:1-4             a = 0b011
    b  TCP:5-20 UDP:5              strip 1  TCP:5-10            b = 0b110
                                   strip 2  TCP:11-20 UDP:5
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bandwidth_api.plan import PortRange

Selector = tuple[PortRange, ...]

# Long enough that no two sets of selectors have the same sum by chance, and random in each call, so that selectors
# cannot be written to have it.
_COLOUR_BITS = 128
_BASE = 1 << 17  # more than there are ports of one protocol
_FEW_BITS = 64  # of a mask: more of them are found faster in its text


class Strips(NamedTuple):
    """Disjoint sets of ports; each is wholly inside or outside of every selector, and no two are in the same ones."""

    ports: tuple[Selector, ...]  # by number of the strip
    masks: dict[Selector, int]  # by selector: bit k stands for strip k


def normal(ranges: Iterable[PortRange]) -> Selector:
    """Return the same ports as sorted ranges, none of which overlaps or touches another."""
    merged: list[PortRange] = []
    for r in sorted(ranges):
        if merged and merged[-1].protocol == r.protocol and merged[-1].last + 1 >= r.first:
            merged[-1] = merged[-1]._replace(last=max(merged[-1].last, r.last))
        else:
            merged.append(r)
    return tuple(merged)


def strips(selectors: Iterable[Selector]) -> Strips:
    """Return the coarsest partition of all selected ports in which each selector is a union of parts.

    Takes time in proportion to the number of ranges, apart from the bits of the masks.
    """
    cut = _cut(selectors)
    found: dict[int, list[PortRange]] = {}
    for first, behind, colours in cut.pieces:
        protocol, port = divmod(first, _BASE)
        found.setdefault(colours, []).append(PortRange(cut.protocols[protocol], port, port + behind - first - 1))
    return Strips(tuple(normal(pieces) for pieces in found.values()), cut.masks)


def masks(selectors: Iterable[Selector]) -> dict[Selector, int]:
    """Return the masks that `strips` would return, without the ports that each bit stands for."""
    return _cut(selectors).masks


class _Cut(NamedTuple):
    """A border between ports; ports of all protocols are one row of numbers: `_BASE` × place of the protocol + port."""

    protocols: list[str]
    pieces: list[tuple[int, int, int]]  # first port, first port behind it, the colours of the selectors that hold it
    masks: dict[Selector, int]


def _cut(selectors: Iterable[Selector]) -> _Cut:
    distinct = tuple(dict.fromkeys(selectors))
    protocols = sorted({r[0] for selector in distinct for r in selector})
    bases = {protocol: _BASE * at for at, protocol in enumerate(protocols)}
    changes: dict[int, int] = {}  # by border: the colours of what begins or ends there
    for selector in distinct:
        colour = secrets.randbits(_COLOUR_BITS)
        for protocol, first, last in selector:
            base = bases[protocol]
            changes[base + first] = changes.get(base + first, 0) ^ colour
            changes[base + last + 1] = changes.get(base + last + 1, 0) ^ colour
    pieces: list[tuple[int, int, int]] = []
    begun: dict[int, int] = {}  # by border: how many strips have their first piece before it
    seen: set[int] = set()
    colours = 0
    borders = sorted(changes)
    for border, following in itertools.pairwise(borders):
        begun[border] = len(seen)
        colours ^= changes[border]
        if colours:  # never across protocols: at the last border of one, all have ended
            pieces.append((border, following, colours))
            seen.add(colours)
    if borders:
        begun[borders[-1]] = len(seen)
    masks: dict[Selector, int] = {}
    for selector in distinct:
        mask = 0
        for protocol, first, last in selector:  # a strip is in all of its pieces or in none, so its first one decides
            base = bases[protocol]
            mask |= (1 << begun[base + last + 1]) - (1 << begun[base + first])
        masks[selector] = mask
    return _Cut(protocols, pieces, masks)


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, from the lowest on."""
    if mask.bit_count() <= _FEW_BITS:
        while mask:
            low = mask & -mask
            yield low.bit_length() - 1
            mask ^= low
        return
    text = bin(mask)[:1:-1]
    found = text.find("1")
    while found >= 0:
        yield found
        found = text.find("1", found + 1)
