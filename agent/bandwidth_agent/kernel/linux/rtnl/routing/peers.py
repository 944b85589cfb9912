"""Finds the hosts that this node hands packets of others to: next hops of its routes, far ends of its tunnels.

In a cluster these are other nodes: what is sent to them is for pods, or for clients that dialled them. The next hop of
a default route is a gateway, and no sign of it. Reads only.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping

from bandwidth_agent.kernel import netlink
from bandwidth_agent.kernel.linux.rtnl.routing import routes
from bandwidth_api import addresses
from bandwidth_api.plan import Prefix

ROUTES_MAX = 100_000  # of one family; a node with more is a router, to which everybody is a next hop

_GET_NEIGHBOUR = 30
_BRIDGE = 7  # AF_BRIDGE: what forwards frames, among it VXLAN devices, which know a far end for each
_NEIGHBOUR = struct.Struct("=BBHiHBB")  # family, padding, padding, interface index, state, flags, type
_DESTINATION = 1
_SELF = 0x02
_UNANSWERED = frozenset({errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP})


def read(channel: netlink.Socket, names: Mapping[int, str]) -> Mapping[Prefix, str]:
    """Return what each of these hosts is to this node, by address; `names`: of interfaces, by index."""
    found = dict(_far_ends(channel, names))
    for family in addresses.BITS:
        narrow = [route for route in routes.dump(channel, family, ROUTES_MAX) or () if route.destination.length]
        for route in sorted(narrow, key=lambda route: route.destination, reverse=True):
            for hop in route.hops or ():
                if hop.gateway is not None:
                    found[hop.gateway] = f"next hop of {addresses.write(route.destination)}"
    return found


def _far_ends(channel: netlink.Socket, names: Mapping[int, str]) -> Iterator[tuple[Prefix, str]]:
    try:
        parts = channel.dump(_GET_NEIGHBOUR, _NEIGHBOUR.pack(_BRIDGE, 0, 0, 0, 0, 0, 0))
    except OSError as error:
        if error.errno in _UNANSWERED:
            return
        raise
    for buffer, start, end in parts:
        _, _, _, index, _, flags, _ = _NEIGHBOUR.unpack_from(buffer, start)
        end_of = netlink.payloads(buffer, start + _NEIGHBOUR.size, end).get(_DESTINATION, b"")
        number = int.from_bytes(end_of, "big")
        family = {4: 4, 16: 6}.get(len(end_of))
        if family is None or not flags & _SELF or not number:
            continue
        far = Prefix(family, number, addresses.BITS[family])
        if not _multicast(far):
            yield far, f"far end of {names.get(index, 'a tunnel')}"


def _multicast(address: Prefix) -> bool:
    return address.network >> 28 == 0xE if address.family == 4 else address.network >> 120 == 0xFF
