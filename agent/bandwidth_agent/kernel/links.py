"""Network devices: all of them as records, and the ifbs that are ours.

Owns the making and removing of our ifbs. Never changes a device that does not bear our name, alias and group.
"""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Iterable
from typing import NamedTuple

from bandwidth_agent.kernel import model, netlink
from bandwidth_api import names

NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18

HEADER = struct.Struct("=BxHiII")  # family, device type, index, flags, changed flags
NAME, MTU, QDISC, QUEUE_LENGTH, LINK_INFO, ALIAS, AF_SPEC, GROUP, EXT_MASK = 3, 4, 6, 13, 18, 20, 26, 27, 29
_INFO_KIND = 1
_SKIP_STATISTICS = 1 << 3
_UP = 0x1
_AF_INET6 = 10
_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1

_QUEUE_LENGTH = 1000  # an ifb's own default is 32

_IFB_NAME = re.compile(rf"{names.IFB_PREFIX}(0|[1-9][0-9]{{0,3}})")


class Link(NamedTuple):
    ifindex: int
    name: str
    mtu: int
    up: bool
    kind: str  # "" for a physical device
    alias: str
    group: int
    queue_length: int
    qdisc: str  # kind of the root qdisc
    shard: int | None  # of our ifb; None: not ours


def dump(channel: netlink.Socket) -> list[Link]:
    """Every device of the namespace."""
    body = HEADER.pack(0, 0, 0, 0, 0) + netlink.int_attribute(EXT_MASK, _SKIP_STATISTICS)
    return [_decode(part) for part in channel.dump(GET_LINK, body)]


def find(channel: netlink.Socket, name: str) -> Link | None:
    """The device of that name."""
    body = HEADER.pack(0, 0, 0, 0, 0) + netlink.int_attribute(EXT_MASK, _SKIP_STATISTICS)
    request = netlink.Message(GET_LINK, 0, body + netlink.text_attribute(NAME, name))
    try:
        return _decode(channel.ask(request))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def _decode(part: netlink.Part) -> Link:
    _, _, index, flags, _ = HEADER.unpack_from(part.buffer, part.start)
    fields = netlink.payloads(part.buffer, part.start + HEADER.size, part.end)
    info = fields.get(LINK_INFO, b"")
    kind = netlink.text(netlink.payloads(info, 0, len(info)).get(_INFO_KIND, b""))
    name, alias = netlink.text(fields.get(NAME, b"")), netlink.text(fields.get(ALIAS, b""))
    group = _number(fields, GROUP)
    ours = kind == "ifb" and alias == names.IFB_ALIAS and group == names.IFB_GROUP
    return Link(
        ifindex=index,
        name=name,
        mtu=_number(fields, MTU),
        up=bool(flags & _UP),
        kind=kind,
        alias=alias,
        group=group,
        queue_length=_number(fields, QUEUE_LENGTH),
        qdisc=netlink.text(fields.get(QDISC, b"")),
        shard=shard_of_name(name) if ours else None,
    )


def _number(fields: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(fields.get(kind, b""), "little")


def shard_of_name(name: str) -> int | None:
    """The shard whose ifb would have this name."""
    match = _IFB_NAME.fullmatch(name)
    return int(match[1]) if match else None


def name_if_lost(buffer: bytes, start: int, end: int, *, deleted: bool) -> str:
    """The name in a link message that says: this device is gone or down; else ""."""
    if not deleted and HEADER.unpack_from(buffer, start)[3] & _UP:
        return ""
    return netlink.text(netlink.payloads(buffer, start + HEADER.size, end).get(NAME, b""))


def observe(present: Iterable[Link]) -> dict[int, model.Ifb]:
    """Our ifbs by shard."""
    return {
        link.shard: model.Ifb(healthy=link.up and link.queue_length == _QUEUE_LENGTH)
        for link in present
        if link.shard is not None
    }


def put_ifb(channel: netlink.Socket, shard: int) -> None:
    """Create the ifb of a shard, or set up the one that is there. A stranger's device of that name is EEXIST.

    Created without an IPv6 address of its own (refused, without harm, where there is no IPv6): it would show up
    among the node's addresses, and daemons would bind to it.
    """
    name = names.ifb(shard)
    present = find(channel, name)
    messages = []
    if present is None:
        create = HEADER.pack(0, 0, 0, 0, 0) + netlink.text_attribute(NAME, name)
        create += netlink.int_attribute(GROUP, names.IFB_GROUP)
        create += netlink.nest(LINK_INFO, netlink.text_attribute(_INFO_KIND, "ifb"))
        messages.append(netlink.Message(NEW_LINK, netlink.CREATE | netlink.EXCLUSIVE, create))
    elif present.shard is None:
        raise OSError(errno.EEXIST, f"{name} is a device of somebody else")
    named = netlink.text_attribute(NAME, name)
    no_address = netlink.nest(
        AF_SPEC, netlink.nest(_AF_INET6, netlink.attribute(_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE])))
    )
    messages.append(netlink.Message(NEW_LINK, 0, HEADER.pack(0, 0, 0, 0, 0) + named + no_address))
    harmless = len(messages) - 1
    set_up = HEADER.pack(0, 0, 0, _UP, _UP) + named + netlink.int_attribute(QUEUE_LENGTH, _QUEUE_LENGTH)
    messages.append(netlink.Message(NEW_LINK, 0, set_up + netlink.text_attribute(ALIAS, names.IFB_ALIAS)))
    for position, refusal in channel.execute(messages, together=True).items():
        if position != harmless:
            raise OSError(refusal.errno, refusal.text)


def delete_ifb(channel: netlink.Socket, shard: int) -> None:
    """Delete our ifb of a shard with all on it; a stranger's device of that name stays."""
    present = find(channel, names.ifb(shard))
    if present is None or present.shard is None:
        return
    gone = netlink.Message(DELETE_LINK, 0, HEADER.pack(0, 0, present.ifindex, 0, 0))
    refusal = channel.execute([gone]).get(0)
    if refusal is not None and refusal.errno != errno.ENODEV:
        raise OSError(refusal.errno, refusal.text)
