"""Events of nftables: a socket that becomes readable when the chains around our rules may have changed.

Owns one listening socket. Reports only *that* something changed in the mangle tables' POSTROUTING or in our chains;
the state is read by observing. Must never send anything.

Our own changes cause events too. The loop drains once after each apply and ignores that result; it misses no change of
another program, because it compares what it reads after an apply. The legacy back end and ipset send no events: for
them the regular reading and the entry counts must suffice.
"""

from __future__ import annotations

import errno
import socket
from types import TracebackType
from typing import Self

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.netfilter import iptables_text, nfnetlink
from bandwidth_api import names

_GROUP = 7  # NFNLGRP_NFTABLES
_ADD_MEMBERSHIP = 1
_SOL_NETLINK = 270
_RECEIVE_BYTES = 1 << 17
_RECEIVE_BUFFER_BYTES = 1 << 20

_SUBSYSTEM = 10
_TABLES, _CHAINS, _RULES = (0, 2), (3, 5), (6, 8)  # new and deleted
_TABLE = 1  # the attribute that names the table, in all three
_NAME = {**dict.fromkeys(_CHAINS, 3), **dict.fromkeys(_RULES, 2)}  # the attribute that names the chain
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class NetfilterEvents:
    """Subscribes to changes of nftables in the network namespace of the calling thread, from now on."""

    def __init__(self) -> None:
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, flags, nfnetlink.PROTOCOL)
        try:
            self._socket.bind((0, 0))
            netlink.enlarge_receive_buffer(self._socket, _RECEIVE_BUFFER_BYTES)
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor for a selector: readable when there is something to drain."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read all events that have arrived; return whether any may concern our rules. Never blocks."""
        touched = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return touched
            except OSError as lost:
                if lost.errno != errno.ENOBUFS:
                    raise
                touched = True  # the kernel had more events than there was room for
                continue
            touched = touched or _touches_ours(data)


def _touches_ours(data: bytes) -> bool:
    offset = 0
    while offset + netlink.HEADER.size <= len(data):
        length, kind, _, _, _ = netlink.HEADER.unpack_from(data, offset)
        length = max(length, netlink.HEADER.size)
        if kind >> 8 == _SUBSYSTEM and _concerns(kind & 0xFF, netlink.Part(data, offset + 16, offset + length)):
            return True
        offset += (length + 3) & ~3
    return False


def _concerns(command: int, part: netlink.Part) -> bool:
    if command not in (*_TABLES, *_CHAINS, *_RULES) or part.buffer[part.start] not in _FAMILIES:
        return False
    found = nfnetlink.fields(part)
    if netlink.text(found.get(_TABLE, b"")) != iptables_text.TABLE:
        return False
    if command in _TABLES:
        return True
    chain = netlink.text(found.get(_NAME[command], b""))
    return chain == iptables_text.HOOK or names.is_chain(chain)
