"""The interfaces that are looked at: what each has sent, and which of them leave by another. Reads only."""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import netlink

_GET_LINK = 18
_HEADER = struct.Struct("=BxHiII")  # family, device type, index, flags, changed flags
_NAME, _LINK, _MASTER, _LINK_INFO, _STATISTICS, _LINK_NAMESPACE = 3, 5, 10, 18, 23, 37
_INFO_KIND, _INFO_SLAVE_KIND = 1, 4
_SENT_BYTES_OFFSET = 3 * 8  # in rtnl_link_stats64: behind the packets of both directions and the received bytes
_ETHERNET = 1  # ARPHRD_ETHER
_ETHERNET_BYTES = 14
_DEEPEST = 8  # as deep as the kernel lets devices be stacked

GONE = frozenset({errno.ENODEV, errno.ENXIO})  # what a device's absence is reported as

_BUNDLES = frozenset({"bridge", "bond", "team"})  # what leaves by them leaves by one of their members
_STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"})  # what leaves by them leaves by their link


class Uplink(NamedTuple):
    """A device as it is now."""

    name: str
    ifindex: int
    sent_bytes: int
    link_bytes: int  # of the link header of a packet
    below: int  # index of the device by which its packets leave again; 0: none
    whole: int  # index of the bridge or bond that it is a member of; 0: none


class Uplinks:
    """Devices of the calling thread's namespace, by name; any thread may ask, one at a time."""

    def __init__(self) -> None:
        self._channel = netlink.Socket()

    def close(self) -> None:
        self._channel.close()

    def read(self, wanted: Iterable[str]) -> dict[str, Uplink]:
        """Return those of these names that are there."""
        return {name: found for name in wanted if (found := self._ask(name)) is not None}

    def elsewhere(self, present: Mapping[str, Uplink]) -> frozenset[str]:
        """Return the names of those whose packets also leave by another of these, so that they would count twice."""
        indexes = {uplink.ifindex for uplink in present.values()}
        if len(present) < 2:
            return frozenset()
        return frozenset(
            name
            for name, uplink in present.items()
            if uplink.whole in indexes or not indexes.isdisjoint(self._beneath(uplink, indexes))
        )

    def _beneath(self, uplink: Uplink, known: Collection[int]) -> list[int]:
        """The devices by which its packets leave again, one below the other, down to the first that is known."""
        found: list[int] = []
        while uplink.below and len(found) < _DEEPEST:
            found.append(uplink.below)
            lower = None if uplink.below in known else self._ask(uplink.below)
            if lower is None:
                break
            uplink = lower
        return found

    def _ask(self, device: str | int) -> Uplink | None:
        """One device by name or index; None if there is none."""
        if isinstance(device, int):
            body = _HEADER.pack(0, 0, device, 0, 0)
        else:
            body = _HEADER.pack(0, 0, 0, 0, 0) + netlink.text_attribute(_NAME, device)
        try:
            return _decoded(self._channel.ask(netlink.Message(_GET_LINK, 0, body)))
        except OSError as error:
            if error.errno in GONE | {errno.ERANGE, errno.EINVAL}:  # ERANGE, EINVAL: no device can have such a name
                return None
            raise


def _decoded(part: netlink.Part) -> Uplink:
    _, device_type, index, _, _ = _HEADER.unpack_from(part.buffer, part.start)
    fields = netlink.payloads(part.buffer, part.start + _HEADER.size, part.end)
    info = fields.get(_LINK_INFO, b"")
    details = netlink.payloads(info, 0, len(info))
    kind, member_of = (netlink.text(details.get(each, b"")) for each in (_INFO_KIND, _INFO_SLAVE_KIND))
    statistics = fields.get(_STATISTICS, b"")
    return Uplink(
        name=netlink.text(fields.get(_NAME, b"")),
        ifindex=index,
        sent_bytes=int.from_bytes(statistics[_SENT_BYTES_OFFSET : _SENT_BYTES_OFFSET + 8], "little"),
        link_bytes=_ETHERNET_BYTES if device_type == _ETHERNET else 0,
        below=_number(fields, _LINK) if kind in _STACKED and _LINK_NAMESPACE not in fields else 0,
        whole=_number(fields, _MASTER) if member_of in _BUNDLES else 0,
    )


def _number(fields: Mapping[int, bytes], kind: int) -> int:
    return int.from_bytes(fields.get(kind, b""), "little")
