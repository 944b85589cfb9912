"""A netfilter log group as a lock: one holder per network namespace, and only with CAP_NET_ADMIN.

The kernel gives a group to one socket, frees it when that is closed, however its process ends, and lets only processes
with CAP_NET_ADMIN over the network namespace bind one. No rule logs to ours, and nothing is ever read from it.
Owns the messages for that; decides nothing.
"""

from __future__ import annotations

import errno
import pathlib
import struct

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.netfilter import nfnetlink

GROUP = 0x7CB1
_NOBODYS = GROUP + 1  # asked without a command, which alters nothing
_CONFIG = 4 << 8 | 1  # NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG
_COMMAND, _BIND = 1, 1  # NFULA_CFG_CMD, NFULNL_CFG_CMD_BIND
_HELD = (errno.EPERM, errno.EBUSY, errno.EEXIST)
_LISTED = pathlib.Path("/proc/net/netfilter/nfnetlink_log")


class HeldError(Exception):
    """Another socket of this network namespace holds the group."""


def hold() -> netlink.Socket | None:
    """Return the socket that holds the group until it is closed; None if there are no groups, or we lack the right.

    Programs that inherit the open files of this process hold it too, and longer than a process that is killed.
    Raises HeldError, and OSError for reasons that do not concern the group (no descriptor, no memory).
    """
    connected = netlink.Socket(nfnetlink.PROTOCOL)
    refused = _ask(connected, GROUP, netlink.attribute(_COMMAND, bytes([_BIND])))
    if refused is None:
        connected.hand_down()
        return connected
    # The kernel has one answer for a group of another socket and for who may ask for none.
    other = _ask(connected, _NOBODYS, b"") if refused.errno == errno.EPERM else None
    connected.close()
    if refused.errno in _HELD and (other is None or other.errno != errno.EPERM):
        raise HeldError
    if refused.errno in (errno.ENOMEM, errno.ENOBUFS):
        raise OSError(refused.errno, refused.text)
    return None


def _ask(connected: netlink.Socket, group: int, attributes: bytes) -> netlink.Refusal | None:
    header = nfnetlink.GENERIC.pack(0, 0, struct.pack(">H", group))
    return connected.execute([netlink.Message(_CONFIG, 0, header + attributes)]).get(0)


def holder() -> int:
    """Return the netlink port of the socket that holds the group, mostly its process id; 0 if it is not known."""
    try:
        return _holder() or 0
    except OSError:
        return 0


def held() -> bool | None:
    """Return whether a socket holds the group; None where that is not known: there are no groups, or no right to it."""
    try:
        return _holder() is not None
    except OSError:
        return None


def _holder() -> int | None:
    """The netlink port of the holder; None: there is none. Raises OSError where the groups cannot be listed."""
    lines = _LISTED.read_text().splitlines()
    return next((int(words[1]) for line in lines if (words := line.split()) and int(words[0]) == GROUP), None)
