"""Reads the policy routing rules (`ip rule`): which tables packets are sent to before the main one.

Reads only the rules; `route_lookup` reads the tables.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import netlink

_GET_RULE = 34
_RULE_HEADER = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, reserved, action, flags
_RULE_PRIORITY, _RULE_SUPPRESS, _RULE_TABLE, _RULE_L3MDEV, _RULE_PROTOCOL = 6, 14, 15, 19, 21
_RULE_USUAL = frozenset({_RULE_PRIORITY, _RULE_SUPPRESS, _RULE_TABLE, _RULE_PROTOCOL})
_NOTHING = b"\xff" * 4  # is suppressed
# The mark, the socket's interface, the user, the protocol and its ports: most packets to an address have others.
_PICKING = frozenset({10, 17, 20, 22, 23, 24})
_INVERTED = 2
_TO_TABLE = 1
_PERMANENT = 1  # a flag of rules that the kernel made itself
_MAIN_PRIORITY = 32766
USUAL_TABLES = frozenset({0, 253, 254, 255})  # of every host: unspecified, default, main, local
_NO_RULES = frozenset({errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOENT})


class PolicyRules(NamedTuple):
    """The rules of one family."""

    # Those that rules before the one for the main table lead to, and whether only packets that bear something of their
    # own, such as a mark, are sent there.
    tables: Mapping[int, bool]
    usual: bool  # each rule applies to every packet, and leads to a table that every host has


def read(channel: netlink.Socket, family: int, vrfs: Collection[int]) -> PolicyRules:
    """Read the rules of one family; none where the kernel has no rules. `vrfs`: the tables of all VRFs."""
    found: dict[int, bool] = {}
    usual = True
    body = _RULE_HEADER.pack(socket.AF_INET if family == 4 else socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0)
    try:
        parts = channel.dump(_GET_RULE, body)
    except OSError as error:
        if error.errno in _NO_RULES:
            return PolicyRules(found, usual)
        raise
    for buffer, start, end in parts:
        _, *selected, table, _, _, action, flags = _RULE_HEADER.unpack_from(buffer, start)
        fields = netlink.payloads(buffer, start + _RULE_HEADER.size, end)
        table = int.from_bytes(fields[_RULE_TABLE], "little") if _RULE_TABLE in fields else table
        plain = action == _TO_TABLE and not flags & ~_PERMANENT and not any(selected) and fields.keys() <= _RULE_USUAL
        usual = usual and plain and table in USUAL_TABLES and fields.get(_RULE_SUPPRESS, _NOTHING) == _NOTHING
        if action != _TO_TABLE or int.from_bytes(fields.get(_RULE_PRIORITY, b""), "little") >= _MAIN_PRIORITY:
            continue
        if fields.get(_RULE_L3MDEV, b"\0") != b"\0":
            found.update(dict.fromkeys(vrfs, False))
            continue
        picking = not flags & _INVERTED and bool(selected[-1] or _PICKING & fields.keys())
        found[table] = picking and found.get(table, True)
    return PolicyRules(found, usual)
