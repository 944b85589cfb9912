"""What this kernel can do, asked with requests that it must refuse: nothing is made, and no device is touched.

Owns the probes. Each request is wrong in one place which the kernel looks at only after it has found (and loaded, if
need be) the module in question, so that the errno tells "never heard of it" from "I know it, but not like this".
"""

from __future__ import annotations

import errno

from bandwidth_agent.kernel import links, netlink, tcmsg

_LINK_ADDRESS = 1
_INFO_KIND = 1
_GROUP_ADDRESS = bytes.fromhex("010000000000")  # which no device can have
_INGRESS_BLOCK = 13
_LOOPBACK = 1
_FREE_HANDLE = 0x7CB2_0000  # not found on lo, so that the kernel goes on to look for the kind, whatever root lo has

_NO_ANSWER = frozenset({errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOBUFS, errno.ENOMEM, errno.ETIMEDOUT})

_NEW_ACTION = 48
_ACTION_TAB, _ACTION_KIND = 1, 1


def knows_ifb(channel: netlink.Socket) -> bool:
    """Ask for an ifb with an address that its driver refuses; without the driver it is EOPNOTSUPP."""
    body = links.HEADER.pack(0, 0, 0, 0, 0)
    body += netlink.attribute(_LINK_ADDRESS, _GROUP_ADDRESS)
    body += netlink.nest(links.LINK_INFO, netlink.text_attribute(_INFO_KIND, "ifb"))
    request = netlink.Message(links.NEW_LINK, netlink.CREATE | netlink.EXCLUSIVE, body)
    return _errno(channel, request) == errno.EADDRNOTAVAIL


def knows_qdisc(channel: netlink.Socket, kind: str) -> bool:
    """Ask for a root qdisc on lo with a filter block 0, which no kernel takes; an unknown kind is ENOENT."""
    body = tcmsg.header(_LOOPBACK, _FREE_HANDLE, tcmsg.ROOT) + netlink.text_attribute(tcmsg.KIND, kind)
    body += netlink.int_attribute(_INGRESS_BLOCK, 0)
    request = netlink.Message(tcmsg.NEW_QDISC, netlink.CREATE | netlink.REPLACE, body)
    return _errno(channel, request) == errno.EINVAL


def knows_mirred(channel: netlink.Socket) -> bool:
    """Ask for a mirred action without its parameters; an unknown kind is ENOENT."""
    action = netlink.nest(1, netlink.text_attribute(_ACTION_KIND, "mirred"))
    body = b"\0\0\0\0" + netlink.nest(_ACTION_TAB, action)
    return _errno(channel, netlink.Message(_NEW_ACTION, netlink.CREATE, body)) == errno.EINVAL


def _errno(channel: netlink.Socket, request: netlink.Message) -> int:
    """What the kernel answers; raises OSError where it says nothing about the feature, but only that it could not."""
    refusal = channel.execute([request]).get(0)
    if refusal is not None and refusal.errno in _NO_ANSWER:
        raise OSError(refusal.errno, refusal.text)
    return refusal.errno if refusal is not None else 0
