"""Finds the chains of nftables that a packet passes on its way out, after our rule.

Follows hooks and jumps and reads no other rule. Where a verdict map decides which chain comes next, all chains of that
table count. Must never change anything.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.netfilter import nfnetlink

_GET_CHAIN, _GET_RULE = 10 << 8 | 4, 10 << 8 | 7
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_NAME, _DATA, _IMMEDIATE_DATA, _VERDICT, _VERDICT_CHAIN = 1, 2, 2, 2, 2
_LOOKUP_DESTINATION, _VERDICT_REGISTER = 3, 0

# By family, the hooks that come after ours: behind routing in those of IP; of a bridge that the packet leaves by; of
# a device, which comes between it and tc.
_BRIDGE, _DEVICE = 7, 5
_OUT = {1: (4,), 2: (4,), 10: (4,), _BRIDGE: (3, 4), _DEVICE: (1,)}
_OURS = -150  # the priority of the mangle table
# In the bytes of a chain with a hook, and in few others of the ten thousands of a node: its kind.
_CANDIDATE = re.compile(rb"(?:filter|nat)\0")

Place = tuple[int, str, str]  # NFPROTO_*, table, chain


class Leaving(NamedTuple):
    """The chains that packets pass after our rule, hooked there or jumped to."""

    every: frozenset[Place]  # that every packet comes to
    first: frozenset[Place]  # that are for NAT: only the first packet of a connection comes there


def leaving() -> Leaving:
    """Return these chains of this network namespace."""
    with nfnetlink.connection() as kernel:
        hooked = [*_hooked(kernel)]
        unhooked = _Unhooked(kernel)
        every = _reached(kernel, [place for place, nat in hooked if not nat], unhooked)
        return Leaving(every, _reached(kernel, [place for place, nat in hooked if nat], unhooked) - every)


class _Unhooked:
    """The chains of a table that have no hook, read when they are first needed."""

    def __init__(self, kernel: netlink.Socket) -> None:
        self._kernel = kernel
        self._chains: dict[tuple[int, str], list[str]] | None = None

    def of(self, family: int, table: str) -> list[str]:
        if self._chains is None:
            self._chains = {}
            for part in _chains(self._kernel):
                chain = nfnetlink.fields(part)
                if _CHAIN_HOOK not in chain:
                    where = part.buffer[part.start], netlink.text(chain[_CHAIN_TABLE])
                    self._chains.setdefault(where, []).append(netlink.text(chain[_CHAIN_NAME]))
        return self._chains.get((family, table), [])


def _reached(kernel: netlink.Socket, ahead: list[Place], unhooked: _Unhooked) -> frozenset[Place]:
    found: set[Place] = set()
    while ahead:
        place = ahead.pop()
        if place in found:
            continue
        found.add(place)
        targets, by_map = _next(kernel, place)
        ahead += [(*place[:2], target) for target in targets]
        if by_map:  # any of them may come next, and only such can be jumped to from there: none has to be looked into
            found.update((*place[:2], name) for name in unhooked.of(*place[:2]))
    return frozenset(found)


def _chains(kernel: netlink.Socket) -> list[netlink.Part]:
    question = nfnetlink.message(_GET_CHAIN, 0, socket.AF_UNSPEC, b"")
    return kernel.dump(question.type, question.body)


def _hooked(kernel: netlink.Socket) -> Iterator[tuple[Place, bool]]:
    """Return each chain that is hooked behind our rule, and whether it is for NAT."""
    for part in _chains(kernel):
        family = part.buffer[part.start]
        if family not in _OUT or not _CANDIDATE.search(part.buffer, part.start, part.end):
            continue
        chain = nfnetlink.fields(part)
        kind = netlink.text(chain.get(_CHAIN_TYPE, b""))
        if kind not in ("filter", "nat"):
            continue
        hook = nfnetlink.inner(chain.get(_CHAIN_HOOK, b""))
        number = int.from_bytes(hook.get(_HOOK_NUMBER, b"\xff"), "big")
        priority = int.from_bytes(hook.get(_HOOK_PRIORITY, b""), "big", signed=True)
        if number in _OUT[family] and (priority >= _OURS or family in (_DEVICE, _BRIDGE)):
            yield (family, netlink.text(chain[_CHAIN_TABLE]), netlink.text(chain[_CHAIN_NAME])), kind == "nat"


def _next(kernel: netlink.Socket, place: Place) -> tuple[list[str], bool]:
    """Return the chains that the rules of this one jump or go to, and whether one of them uses a verdict map."""
    family, table, chain = place
    where = netlink.text_attribute(_RULE_TABLE, table) + netlink.text_attribute(_RULE_CHAIN, chain)
    question = nfnetlink.message(_GET_RULE, 0, family, where)
    named: list[str] = []
    by_map = False
    for part in kernel.dump(question.type, question.body):
        rule = nfnetlink.fields(part)
        if (netlink.text(rule[_RULE_TABLE]), netlink.text(rule[_RULE_CHAIN])) == (table, chain):
            expressions = rule.get(_RULE_EXPRESSIONS, b"")
            named += targets(expressions)
            by_map |= _chooses_by_map(expressions)
    return named, by_map


def _chooses_by_map(expressions: bytes) -> bool:
    """Return whether a rule uses a verdict map."""
    for _, start, end in netlink.attributes(expressions, 0, len(expressions)):
        expression = netlink.payloads(expressions, start, end)
        if netlink.text(expression[_NAME]) == "lookup":
            register = nfnetlink.inner(expression.get(_DATA, b"")).get(_LOOKUP_DESTINATION)
            if register is not None and int.from_bytes(register, "big") == _VERDICT_REGISTER:
                return True
    return False


def targets(expressions: bytes) -> list[str]:
    """Return the chains that a rule jumps or goes to."""
    found = []
    for _, start, end in netlink.attributes(expressions, 0, len(expressions)):
        expression = netlink.payloads(expressions, start, end)
        if netlink.text(expression[_NAME]) != "immediate":
            continue
        verdict = nfnetlink.inner(
            nfnetlink.inner(nfnetlink.inner(expression[_DATA]).get(_IMMEDIATE_DATA, b"")).get(_VERDICT, b"")
        )
        if _VERDICT_CHAIN in verdict:
            found.append(netlink.text(verdict[_VERDICT_CHAIN]))
    return found
