"""How fast interfaces are by what their devices say, through ethtool. Reads only; needs no capability."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from collections.abc import Iterable, Mapping

from bandwidth_agent.kernel.linux.rtnl import links

_SIOCETHTOOL = 0x8946
_ETHTOOL_GSET = 1
_SETTINGS_BYTES = 44  # struct ethtool_cmd
_UNKNOWN_SPEEDS = (0, 0xFFFF, 0xFFFFFFFF)
_BUNDLES = frozenset({"bond", "team"})  # as fast as their members together, and say so
_STACKED = frozenset({"vlan", "macvlan", "ipvlan"})  # as fast as the device below, and say so
_MOST_LAYERS = 8  # of devices on devices that the kernel allows


def said(interfaces: Iterable[str]) -> dict[str, int]:
    """Return how fast these say that they are, in bits per second; those that do not say are left out."""
    found: dict[str, int] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for name in interfaces:
            settings = array.array("B", struct.pack("=I", _ETHTOOL_GSET).ljust(_SETTINGS_BYTES, b"\0"))
            request = struct.pack("16sP", name.encode()[:15], settings.buffer_info()[0]).ljust(40, b"\0")
            try:
                fcntl.ioctl(asking, _SIOCETHTOOL, request)
            except OSError:
                continue
            low, high = struct.unpack_from("=H", settings, 12)[0], struct.unpack_from("=H", settings, 28)[0]
            speed = high << 16 | low
            if speed not in _UNKNOWN_SPEEDS:
                found[name] = speed * 1_000_000
    return found


def of_wires(interfaces: Iterable[str], present: Mapping[int, links.Link]) -> dict[str, int]:
    """Return the same of those alone that stand on devices with a wire.

    A veth says 10 Gbit/s and a tun 10 Mbit/s whatever they carry: numbers that mean nothing. `present`: all devices by
    index.
    """
    named = {link.name: link for link in present.values()}
    return said(name for name in interfaces if name in named and wired(named[name], present))


def wired(link: links.Link, present: Mapping[int, links.Link], layers: int = _MOST_LAYERS) -> bool:
    """Return whether a device is, or stands on, devices with a wire alone; `layers` of devices are looked through."""
    if not layers:
        return False
    if link.kind in _BUNDLES:
        members = [each for each in present.values() if each.master == link.ifindex]
        return bool(members) and all(wired(each, present, layers - 1) for each in members)
    if link.kind in _STACKED:
        return link.lower in present and wired(present[link.lower], present, layers - 1)
    return not link.kind
