"""Network devices: all of them as records, and the ifbs that are ours.

Owns the making and removing of our ifbs. Never changes a device that does not bear our name and group.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import re
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import netlink, objects
from bandwidth_api import names

NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18

HEADER = struct.Struct("=BxHiII")  # family, device type, index, flags, changed flags
ADDRESS, NAME, MTU, QDISC, QUEUE_LENGTH, LINK_INFO, ALIAS, AF_SPEC, GROUP, EXT_MASK = 1, 3, 4, 6, 13, 18, 20, 26, 27, 29
_LINK, _MASTER, _LINK_NAMESPACE, _XDP = 5, 10, 37, 43
_XDP_ATTACHED = 2
INFO_KIND, INFO_DATA = 1, 2
_VRF_TABLE = 1
_STATISTICS64 = 23
_LINK_COUNTERS = struct.Struct("=24xQ")  # packets received and sent, bytes received; bytes sent
_SKIP_STATISTICS = 1 << 3
UP, NO_ARP = 0x1, 0x80
_ETHERNET = 1
_ADDR_GEN_NONE = 1
_NO_ADDRESS = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE)]})]}

_QUEUE_LENGTH = 1000  # an ifb's own default is 32

_SHARD = "(0|[1-9][0-9]{0,3})"
_IFB_NAME = re.compile(names.IFB_PREFIX + _SHARD)
_PAIR_NAME = re.compile(names.PAIR_PREFIX + _SHARD)
_PEER_NAME = re.compile(names.PEER_PREFIX + _SHARD)


_Change = tuple[str, Mapping[str, object]]  # pyroute2's verb, and what of the device


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
    master: int  # index of the device that it is a member of; 0: none
    lower: int  # index of the device in this namespace that it names as its link; 0: none
    table: int = 0  # the routing table of a VRF
    xdp: bool = False  # whether an XDP program sees what arrives
    pair: int | None = None  # the shard of our pair, of its end with the classes
    peer: int | None = None  # the same of its other end
    resolves: bool = True  # addresses of neighbours
    link_header: bool = True  # its packets begin with the header of Ethernet

    @property
    def ours(self) -> bool:
        """Whether it is an ifb, or an end of a pair, that an agent made."""
        return not (self.shard is None and self.pair is None and self.peer is None)


def dump(channel: netlink.Socket) -> list[Link]:
    """Read every device of the namespace."""
    body = HEADER.pack(0, 0, 0, 0, 0) + netlink.int_attribute(EXT_MASK, _SKIP_STATISTICS)
    return [_decode(part) for part in channel.dump(GET_LINK, body)]


def find(channel: netlink.Socket, name: str) -> Link | None:
    """Read the device of this name; None if there is none."""
    body = HEADER.pack(0, 0, 0, 0, 0) + netlink.int_attribute(EXT_MASK, _SKIP_STATISTICS)
    request = netlink.Message(GET_LINK, 0, body + netlink.text_attribute(NAME, name))
    try:
        return _decode(channel.ask(request))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def sent_bytes(channel: netlink.Socket, name: str) -> tuple[int, int]:
    """Return the index of a device, and the bytes that it has sent. Raises OSError: ENODEV where it is gone."""
    request = HEADER.pack(0, 0, 0, 0, 0) + netlink.text_attribute(NAME, name)
    part = channel.ask(netlink.Message(GET_LINK, 0, request))
    counters = netlink.payloads(part.buffer, part.start + HEADER.size, part.end).get(_STATISTICS64, b"")
    (count,) = _LINK_COUNTERS.unpack_from(counters) if len(counters) >= _LINK_COUNTERS.size else (0,)
    return HEADER.unpack_from(part.buffer, part.start)[2], count


def _decode(part: netlink.Part) -> Link:
    _, device_type, index, flags, _ = HEADER.unpack_from(part.buffer, part.start)
    fields = netlink.payloads(part.buffer, part.start + HEADER.size, part.end)
    info = fields.get(LINK_INFO, b"")
    details = netlink.payloads(info, 0, len(info))
    kind = netlink.text(details.get(INFO_KIND, b""))
    name, alias = netlink.text(fields.get(NAME, b"")), netlink.text(fields.get(ALIAS, b""))
    group = _number(fields, GROUP)
    ifb, veth = ((kind == each and group == names.IFB_GROUP) for each in ("ifb", "veth"))
    return Link(
        ifindex=index,
        name=name,
        mtu=_number(fields, MTU),
        up=bool(flags & UP),
        kind=kind,
        alias=alias,
        group=group,
        queue_length=_number(fields, QUEUE_LENGTH),
        qdisc=netlink.text(fields.get(QDISC, b"")),
        shard=shard_of_name(name) if ifb else None,
        master=_number(fields, _MASTER),
        lower=0 if _LINK_NAMESPACE in fields else _number(fields, _LINK),
        table=_vrf_table(details.get(INFO_DATA, b"")) if kind == "vrf" else 0,
        xdp=_has_xdp(fields.get(_XDP, b"")),
        pair=_shard(_PAIR_NAME, name) if veth else None,
        peer=_shard(_PEER_NAME, name) if veth else None,
        resolves=not flags & NO_ARP,
        link_header=device_type == _ETHERNET,
    )


def _has_xdp(data: bytes) -> bool:
    return any(netlink.payloads(data, 0, len(data)).get(_XDP_ATTACHED, b""))


def _vrf_table(data: bytes) -> int:
    return _number(netlink.payloads(data, 0, len(data)), _VRF_TABLE)


def _number(fields: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(fields.get(kind, b""), "little")


def shard_of_name(name: str) -> int | None:
    """Return the shard whose ifb would have this name; None for another name."""
    return _shard(_IFB_NAME, name)


def _shard(pattern: re.Pattern[str], name: str) -> int | None:
    match = pattern.fullmatch(name)
    return int(match[1]) if match else None


def name_if_lost(buffer: bytes, start: int, end: int, *, deleted: bool) -> str:
    """Return the name of the device that a link message reports as gone or down; else ""."""
    if not deleted and HEADER.unpack_from(buffer, start)[3] & UP:
        return ""
    return netlink.text(netlink.payloads(buffer, start + HEADER.size, end).get(NAME, b""))


def observe(present: Iterable[Link]) -> dict[int, objects.Ifb]:
    """Return our ifbs by shard."""
    return {
        link.shard: objects.Ifb(
            healthy=link.up and link.queue_length == _QUEUE_LENGTH and link.alias == names.IFB_ALIAS
        )
        for link in present
        if link.shard is not None
    }


def load() -> None:
    """Import what the first change of a device needs, so that the change does not wait for it."""
    importlib.import_module("pyroute2")


class Devices:
    """Makes and removes our ifbs, in the network namespace of the thread that made this object.

    That is rare, so it is left to pyroute2, which is loaded at the first change or by `load`: 24 MiB and 0.1 s. The
    socket is made here: pyroute2 makes its own when it is first used, in whatever namespace the thread is then.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    @property
    def port_id(self) -> int:
        """The netlink port that these changes come from."""
        return int(self._socket.getsockname()[0])

    def close(self) -> None:
        self._socket.close()

    def put_ifb(self, present: Link | None, shard: int) -> None:
        """Create the ifb of a shard, or set up the one that is there. Another program's device of that name is EEXIST.

        Name and group are given at its creation, so that one whose maker was killed before it was up is known as
        ours. Without an IPv6 address of its own: it would show up among the node's addresses.
        """
        name = names.ifb(shard)
        if present is not None and present.shard is None:
            raise OSError(errno.EEXIST, f"{name} is a device of somebody else")
        changes: list[_Change] = []
        if present is None:
            changes.append(("add", {"ifname": name, "kind": "ifb", "group": names.IFB_GROUP}))
        changes += [
            ("set", {"ifname": name, "IFLA_AF_SPEC": _NO_ADDRESS}),
            ("set", {"ifname": name, "state": "up", "txqlen": _QUEUE_LENGTH, "ifalias": names.IFB_ALIAS}),
        ]
        refusals = self._apply(changes)
        # Where there is no IPv6 the kernel refuses to give no address, and there is nothing to refuse.
        refusals.pop(len(changes) - 2, None)
        for code in refusals.values():
            raise OSError(code, os.strerror(code))

    def delete_ifb(self, present: Link) -> None:
        """Delete an ifb of ours with all on it; another program's device of that name stays."""
        if present.shard is None:
            return
        code = self._apply([("del", {"index": present.ifindex})]).get(0)
        if code is not None and code != errno.ENODEV:
            raise OSError(code, os.strerror(code))

    def _apply(self, changes: Sequence[_Change]) -> dict[int, int]:
        """Make changes as `pyroute2.IPRoute.link` takes them, in order; the errno of each refused one, by position."""
        import pyroute2

        async def apply() -> dict[int, int]:
            refusals = {}
            async with pyroute2.AsyncIPRoute(fileno=os.dup(self._socket.fileno())) as kernel:
                for position, (verb, what) in enumerate(changes):
                    try:
                        await kernel.link(verb, **what)
                    except pyroute2.NetlinkError as error:
                        refusals[position] = error.code
            return refusals

        return asyncio.run(apply())
