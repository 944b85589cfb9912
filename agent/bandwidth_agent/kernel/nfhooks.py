"""Which chains of nftables a packet passes on its way out, after our rule.

Owns that one question; it follows hooks and jumps and looks into no other rule. A jump by a verdict map is not
followed, and chains for NAT do not count: they see the first packet of a connection only. Must never change anything.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

from bandwidth_agent.kernel import netlink, nfnetlink

_GET_CHAIN, _GET_RULE = 10 << 8 | 4, 10 << 8 | 7
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_NAME, _DATA, _IMMEDIATE_DATA, _VERDICT, _VERDICT_CHAIN = 1, 2, 2, 2, 2

# The hook behind routing of the families of IP, and the one of a device, which comes between it and tc.
_DEVICE = 5
_OUT = {1: 4, 2: 4, 10: 4, _DEVICE: 1}
_OURS = -150  # the priority of the mangle table
# In the bytes of a chain with a hook, and in few others of the ten thousands of a node: its kind.
_CANDIDATE = re.compile(rb"filter\0")

Place = tuple[int, str, str]  # NFPROTO_*, table, chain


def leaving() -> frozenset[Place]:
    """The chains of this network namespace that packets pass after our rule, hooked there or jumped to."""
    found: set[Place] = set()
    with nfnetlink.connection() as kernel:
        ahead = [*_hooked(kernel)]
        while ahead:
            place = ahead.pop()
            if place not in found:
                found.add(place)
                ahead += [(*place[:2], target) for target in _targets(kernel, place)]
    return frozenset(found)


def _hooked(kernel: netlink.Socket) -> Iterator[Place]:
    question = nfnetlink.message(_GET_CHAIN, 0, socket.AF_UNSPEC, b"")
    for part in kernel.dump(question.type, question.body):
        family = part.buffer[part.start]
        if family not in _OUT or not _CANDIDATE.search(part.buffer, part.start, part.end):
            continue
        chain = nfnetlink.fields(part)
        if netlink.text(chain.get(_CHAIN_TYPE, b"")) != "filter":
            continue
        hook = nfnetlink.inner(chain.get(_CHAIN_HOOK, b""))
        number = int.from_bytes(hook.get(_HOOK_NUMBER, b"\xff"), "big")
        priority = int.from_bytes(hook.get(_HOOK_PRIORITY, b""), "big", signed=True)
        if number == _OUT[family] and (priority >= _OURS or family == _DEVICE):
            yield family, netlink.text(chain[_CHAIN_TABLE]), netlink.text(chain[_CHAIN_NAME])


def _targets(kernel: netlink.Socket, place: Place) -> Iterator[str]:
    """The chains that the rules of this one jump or go to."""
    family, table, chain = place
    where = netlink.text_attribute(_RULE_TABLE, table) + netlink.text_attribute(_RULE_CHAIN, chain)
    question = nfnetlink.message(_GET_RULE, 0, family, where)
    for part in kernel.dump(question.type, question.body):
        rule = nfnetlink.fields(part)
        if (netlink.text(rule[_RULE_TABLE]), netlink.text(rule[_RULE_CHAIN])) == (table, chain):
            yield from targets(rule.get(_RULE_EXPRESSIONS, b""))


def targets(expressions: bytes) -> list[str]:
    """The chains that a rule jumps or goes to."""
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
