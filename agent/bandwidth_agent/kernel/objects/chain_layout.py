"""Spreads our rules over chains of iptables, so that a packet passes few rules however many there are.

    CBL-POSTROUTING       rules without ports
                          TCP 0-65535 ──go to──▶ CBL-TCP-0-65535       TCP 0-32767 ──go to──▶ CBL-TCP-0-32767 …
                          UDP …                                        what is left of 32768-65535: at most
                                                                       `LEAF_RULES` rules, each a look-up in a set

A few rules for ranges of ports are in the first chain itself. More are found by halving the ports: where both halves
have rules, the lower half is sent to a chain of its own, and the upper half continues in the same chain. The halves are
always at the same ports, so one more range changes one or two chains and leaves all others as they are.

    rules that a packet passes     2 protocols + at most 13 halvings + at most 8 rules for ranges
    chains, one below the other    16 with POSTROUTING, which is what nftables allows

Owns the layout. Pure; contains nothing about the text of iptables.
"""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel.objects.chain import Rule
from bandwidth_api import names
from bandwidth_api.plan import PortRange

EVERY_PORT = (PortRange("TCP", 0, 65535), PortRange("UDP", 0, 65535))
LEAF_RULES = 8
_LEAF_PORTS = 8  # ports that are not halved any more: nftables follows no more than 16 chains


class Goto(NamedTuple):
    """A rule that sends the packets of these ports to another chain, from which they do not come back."""

    ports: PortRange
    chain: str


Line = Rule | Goto
Layout = Mapping[str, tuple[Line, ...]]  # by name of the chain; names.CHAIN first


class Spread(NamedTuple):
    """Rules in their canonical form, and the chains that they are spread over."""

    rules: tuple[Rule, ...]
    layout: Layout


class _Piece(NamedTuple):
    """Ports of one protocol for which the same rules apply."""

    first: int
    last: int
    rules: tuple[Rule, ...]  # without their ports, in order


def laid_out(rules: Sequence[Rule]) -> Layout:
    """Return the chains, each with its rules in order; overlapping rules are split by ports."""
    root: list[Line] = [rule for rule in rules if rule.ports is None]
    chains: dict[str, tuple[Line, ...]] = {names.CHAIN: ()}
    pieces = {protocol: _pieces(of_one) for protocol, of_one in _by_protocol(rules).items()}
    if sum(map(_size, pieces.values())) <= LEAF_RULES:
        for protocol, found in pieces.items():
            root += _leaf(protocol, found)
    else:
        for ports in EVERY_PORT:
            if ports.protocol in pieces:
                root.append(Goto(ports, names.ports_chain(ports)))
                _put(chains, ports, pieces[ports.protocol])
    chains[names.CHAIN] = tuple(root)
    return chains


def canonical(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return the canonical form of rules: in layers, each sorted, with touching ranges of the same set joined.

    If no two rules apply to the same port there is one layer, sorted by protocol and port.
    """
    found: list[tuple[int, PortRange, Rule]] = []  # layer, ports, rule without its ports
    for protocol, of_one in _by_protocol(rules).items():
        latest: dict[tuple[int, Rule], int] = {}  # where in `found` the last range of a rule is
        for first, last, answering in _pieces(of_one):
            for layer, rule in enumerate(answering):
                place = latest.get((layer, rule))
                if place is not None and found[place][1].last + 1 == first:
                    found[place] = layer, found[place][1]._replace(last=last), rule
                else:
                    latest[layer, rule] = len(found)
                    found.append((layer, PortRange(protocol, first, last), rule))
    found.sort(key=lambda each: each[0])
    without_ports = (rule for rule in rules if rule.ports is None)
    return (*without_ports, *(rule._replace(ports=ports) for _, ports, rule in found))


def flat(layout: Layout) -> list[Rule]:
    """Return all rules reached from the first chain, in an order in which they have the same effect in one chain."""
    found: list[Rule] = []
    ahead: list[Line] = [*reversed(layout.get(names.CHAIN, ()))]
    visited = {names.CHAIN}
    while ahead:
        line = ahead.pop()
        if isinstance(line, Rule):
            found.append(line)
        elif line.chain not in visited:
            visited.add(line.chain)
            ahead += reversed(layout.get(line.chain, ()))
    return found


def _by_protocol(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.ports is not None:
            found.setdefault(rule.ports.protocol, []).append(rule)
    return dict(sorted(found.items()))


def _pieces(rules: Sequence[Rule]) -> list[_Piece]:
    """Return the ports of one protocol's rules, in order, split where other rules begin to apply."""
    pieces: list[_Piece] = []
    starts: dict[int, list[int]] = {}
    ends: dict[int, list[int]] = {}
    for index, rule in enumerate(rules):
        if rule.ports is not None:
            starts.setdefault(rule.ports.first, []).append(index)
            ends.setdefault(rule.ports.last + 1, []).append(index)
    answering: set[int] = set()
    for border, following in itertools.pairwise(sorted(starts.keys() | ends.keys())):
        answering.difference_update(ends.get(border, ()))
        answering.update(starts.get(border, ()))
        if answering:
            # Of a rule that comes twice the last one decides; a dictionary keeps the first place that a key had.
            last_first = dict.fromkeys(rules[index]._replace(ports=None) for index in sorted(answering, reverse=True))
            answers = tuple(reversed(last_first))
            if pieces and pieces[-1].last + 1 == border and pieces[-1].rules == answers:
                pieces[-1] = pieces[-1]._replace(last=following - 1)
            else:
                pieces.append(_Piece(border, following - 1, answers))
    return pieces


def _put(chains: dict[str, tuple[Line, ...]], ports: PortRange, pieces: Sequence[_Piece]) -> None:
    """Add the chain of these ports, and the chains below it."""
    protocol, first, last = ports
    lines: list[Line] = []
    while _size(pieces) > LEAF_RULES and last - first >= _LEAF_PORTS:
        middle = (first + last) // 2
        lower, upper = _halves(pieces, middle)
        if lower and upper:
            half = PortRange(protocol, first, middle)
            lines.append(Goto(half, names.ports_chain(half)))
            _put(chains, half, lower)
        if upper:
            pieces, first = upper, middle + 1
        else:
            pieces, last = lower, middle
    chains[names.ports_chain(ports)] = (*lines, *_leaf(protocol, pieces))


def _halves(pieces: Sequence[_Piece], middle: int) -> tuple[list[_Piece], list[_Piece]]:
    """Return the pieces up to the middle and those behind it; a piece across the middle is split."""
    count = bisect.bisect_right(pieces, middle, key=operator.attrgetter("first"))
    lower, upper = [*pieces[:count]], [*pieces[count:]]
    if lower and lower[-1].last > middle:
        upper.insert(0, lower[-1]._replace(first=middle + 1))
        lower[-1] = lower[-1]._replace(last=middle)
    return lower, upper


def _leaf(protocol: str, pieces: Iterable[_Piece]) -> Iterator[Rule]:
    for first, last, rules in pieces:
        for rule in rules:
            yield rule._replace(ports=PortRange(protocol, first, last))


def _size(pieces: Iterable[_Piece]) -> int:
    return sum(len(piece.rules) for piece in pieces)
