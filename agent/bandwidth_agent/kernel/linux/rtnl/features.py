"""Finds out what this kernel can do, by requests that it must refuse: nothing is created, and no device is changed.

Owns the probes. Each request is wrong in one place that the kernel checks only after it has found (and, if needed,
loaded) the module in question, so the errno shows whether the module exists. A refusal for lack of permission, or of
memory, is a different answer and means nothing about the module.
"""

from __future__ import annotations

import enum
import errno
import functools
import time
from collections.abc import Callable, Mapping

from bandwidth_agent.kernel import netlink, objects, refusals
from bandwidth_agent.kernel.linux.rtnl import links, tcmsg

_LINK_ADDRESS = 1
_INFO_KIND = 1
_GROUP_ADDRESS = bytes.fromhex("010000000000")  # which no device can have
_INGRESS_BLOCK = 13
_LOOPBACK = 1
_FREE_HANDLE = 0x7CB2_0000  # not found on lo, so that the kernel goes on to look for the kind, whatever root lo has

ASK_AGAIN_SECONDS = 60.0

_NEW_ACTION = 48
_ACTION_TAB, _ACTION_KIND = 1, 1


class Answer(enum.Enum):
    """The result of a probe; a probe that is not possible just now raises OSError."""

    THERE = enum.auto()
    LACKING = enum.auto()
    DENIED = enum.auto()  # this process may not ask; whether the kernel has it is not known


def ifb(channel: netlink.Socket) -> Answer:
    """Probe the ifb driver: ask for an ifb with an address that it refuses; without the driver it is EOPNOTSUPP."""
    body = links.HEADER.pack(0, 0, 0, 0, 0)
    body += netlink.attribute(_LINK_ADDRESS, _GROUP_ADDRESS)
    body += netlink.nest(links.LINK_INFO, netlink.text_attribute(_INFO_KIND, "ifb"))
    request = netlink.Message(links.NEW_LINK, netlink.CREATE | netlink.EXCLUSIVE, body)
    return _asked(channel, request, known=errno.EADDRNOTAVAIL)


def egress_hook(channel: netlink.Socket) -> Answer:
    """Probe whether egress filters can redirect: the clsact qdisc, and the action mirred.

    Only the first user namespace may ask about actions, while any may put filters with actions: an action that we may
    not ask about counts as available.
    """
    hook, redirect = qdisc(channel, "clsact"), action(channel, "mirred")
    return Answer.LACKING if redirect is Answer.LACKING else hook


def qdisc(channel: netlink.Socket, kind: str) -> Answer:
    """Probe a qdisc: ask for it as the root of lo with filter block 0, which is invalid; an unknown kind is ENOENT."""
    body = tcmsg.header(_LOOPBACK, _FREE_HANDLE, tcmsg.ROOT) + netlink.text_attribute(tcmsg.KIND, kind)
    body += netlink.int_attribute(_INGRESS_BLOCK, 0)
    request = netlink.Message(tcmsg.NEW_QDISC, netlink.CREATE | netlink.REPLACE, body)
    return _asked(channel, request, known=errno.EINVAL)


def action(channel: netlink.Socket, kind: str) -> Answer:
    """Probe an action: ask for it without its parameters; an unknown kind is ENOENT."""
    named = netlink.nest(1, netlink.text_attribute(_ACTION_KIND, kind))
    body = b"\0\0\0\0" + netlink.nest(_ACTION_TAB, named)
    return _asked(channel, netlink.Message(_NEW_ACTION, netlink.CREATE, body), known=errno.EINVAL)


def _asked(channel: netlink.Socket, request: netlink.Message, *, known: int) -> Answer:
    """Send a probe and return its result; raises OSError if the kernel could not answer now."""
    refusal = channel.execute([request]).get(0)
    code = refusal.errno if refusal is not None else 0
    if refusal is not None and code in refusals.NOT_NOW:
        raise OSError(code, refusal.text)
    if code in refusals.NOT_ALLOWED:
        return Answer.DENIED
    return Answer.THERE if code == known else Answer.LACKING


PROBES: Mapping[str, Callable[[netlink.Socket], Answer]] = {
    "ifb": ifb,
    "clsact": egress_hook,
    "skbedit": functools.partial(action, kind="skbedit"),
    **{kind: functools.partial(qdisc, kind=kind) for kind in sorted(objects.LEAF_KINDS)},
}


class Known:
    """The results so far. What is missing is probed again, because an administrator may load a module.

    Kinds of leaves are probed once, because all leaves would have to be made again with a new one.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._answers: dict[str, Answer] = {}
        self._asked_at = 0.0

    def answers(self, channel: netlink.Socket) -> Mapping[str, Answer]:
        """Return the results by the names of PROBES; probes again what was missing. Raises OSError if that fails."""
        now = self._monotonic()
        if self._answers.keys() != PROBES.keys() or now - self._asked_at >= ASK_AGAIN_SECONDS:
            for name, ask in PROBES.items():
                settled = self._answers.get(name) is Answer.THERE or name in objects.LEAF_KINDS & self._answers.keys()
                if not settled:
                    self._answers[name] = ask(channel)
            self._asked_at = now
        return self._answers
