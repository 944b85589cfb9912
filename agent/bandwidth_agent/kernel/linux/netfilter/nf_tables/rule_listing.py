"""Lists the rules that lead to our chain as iptables would, where iptables-nft itself cannot print them.

iptables-nft prints no chain with a rule that is not its own (an MSS clamp of nft, an extension that it does not know),
and no table with such a chain. It can print our own chain alone; the rules that lead there are read from the kernel.
Decodes our own jump and nothing else: any other rule becomes a line with its place only.
Must never change a rule.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.netfilter import nfnetlink
from bandwidth_agent.kernel.linux.netfilter.nf_tables import nfhooks

_GET_CHAIN, _GET_RULE = 10 << 8 | 4, 10 << 8 | 7
_CHAIN_TABLE, _CHAIN_NAME = 1, 3
_TABLE, _CHAIN, _HANDLE, _EXPRESSIONS, _USER_DATA = 1, 2, 3, 4, 7
_NAME, _DATA = 1, 2
_X_NAME, _X_REVISION, _X_INFO = 1, 2, 3
_USER_COMMENT = 0
_SET_MATCH = struct.Struct("=HBB")  # index of the set, dimensions, flags
_DESTINATION = 0  # flags of a match by one address: bit 0 negates, bit 1: it is the source
_SET_NAME_BY_INDEX = 6 << 8 | 15
_SET_PROTOCOL, _SET_NAME, _SET_INDEX = 1, 2, 11
_AF = {4: socket.AF_INET, 6: socket.AF_INET6}

# What a rule is called that is not read: no rule of ours.
UNREAD = "-m unread"


class Rule(NamedTuple):
    """One rule of a table of nftables."""

    chain: str
    handle: bytes
    target: str  # the chain of ours that it leads to; "" for none, and for rules of our own chains
    words: str  # before its counters and its jump


def chains(family: int, table: str, ours: Callable[[str], bool]) -> list[str]:
    """Return our chains of a table."""
    question = nfnetlink.message(_GET_CHAIN, 0, _AF[family], b"")
    with nfnetlink.connection() as kernel:
        parts = [nfnetlink.fields(part) for part in kernel.dump(question.type, question.body)]
    names = [netlink.text(part[_CHAIN_NAME]) for part in parts if netlink.text(part[_CHAIN_TABLE]) == table]
    return [name for name in names if ours(name)]


def rules(family: int, table: str, ours: Callable[[str], bool]) -> list[Rule]:
    """Return every rule of a table, in the order of each chain; with their text only those that lead to our chains."""
    question = nfnetlink.message(_GET_RULE, 0, _AF[family], netlink.text_attribute(_TABLE, table))
    found: list[Rule] = []
    with nfnetlink.connection() as kernel:
        parts = [nfnetlink.fields(part) for part in kernel.dump(question.type, question.body)]
        for part in parts:
            if netlink.text(part[_TABLE]) != table:
                continue
            expressions = part.get(_EXPRESSIONS, b"")
            chain = netlink.text(part[_CHAIN])
            targets = [] if ours(chain) else [each for each in nfhooks.targets(expressions) if ours(each)]
            words = _words(kernel, expressions, part.get(_USER_DATA, b"")) if targets else UNREAD
            found.append(Rule(chain, part[_HANDLE], targets[0] if targets else "", words))
    return found


def lines(found: list[Rule], hook: str) -> list[str]:
    """Return the rules of the chain `hook`, and all that lead to our chains, as `iptables -S -v` would print them."""
    return [
        f"-A {rule.chain} {rule.words} -c 0 0" + (f" -j {rule.target}" if rule.target else "")
        for rule in found
        if rule.target or rule.chain == hook
    ]


def _words(kernel: netlink.Socket, expressions: bytes, user_data: bytes) -> str:
    """Return the matches of a rule that leads to our chain; UNREAD if it has some that our own jump never has."""
    words: list[str] = []
    comment = _comment(user_data)
    for name, data in _decoded(expressions):
        extension = netlink.text(data.get(_X_NAME, b"")) if name == "match" else ""
        info = data.get(_X_INFO, b"")
        if extension == "comment":
            comment = netlink.text(info)
        elif extension == "set" and len(info) >= _SET_MATCH.size:
            index, dimensions, flags = _SET_MATCH.unpack_from(info)
            set_name = _set_name(kernel, index)
            if (dimensions, flags) != (1, _DESTINATION) or not set_name:
                return UNREAD
            words.append(f"-m set --match-set {set_name} dst")
        elif name not in ("counter", "immediate"):
            return UNREAD
    if comment:
        words.append(f'-m comment --comment "{comment}"')
    return " ".join(words) if words and '"' not in comment else UNREAD


def _comment(user_data: bytes) -> str:
    """Return the comment that newer versions store beside the rule, as fields of type, length, value."""
    offset = 0
    while offset + 2 <= len(user_data):
        kind, length = user_data[offset : offset + 2]
        if kind == _USER_COMMENT:
            return netlink.text(user_data[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""


def _set_name(kernel: netlink.Socket, index: int) -> str:
    body = netlink.attribute(_SET_PROTOCOL, b"\x07") + netlink.attribute(
        _SET_INDEX | nfnetlink.NET_BYTEORDER, index.to_bytes(2, "big")
    )
    answer = nfnetlink.ask(kernel, nfnetlink.message(_SET_NAME_BY_INDEX, 0, socket.AF_INET, body))
    return "" if answer is None else netlink.text(nfnetlink.fields(answer).get(_SET_NAME, b""))


def _decoded(expressions: bytes) -> Iterator[tuple[str, dict[int, bytes]]]:
    for _, start, end in netlink.attributes(expressions, 0, len(expressions)):
        expression = netlink.payloads(expressions, start, end)
        yield netlink.text(expression[_NAME]), nfnetlink.inner(expression.get(_DATA, b""))
