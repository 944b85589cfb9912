"""Which interfaces are looked at, and how fast they are. Reads netlink and ethtool; needs no capability."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Collection, Iterable, Mapping

from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.linux.rtnl import tc, uplink_speed
from bandwidth_agent.planner import placement
from bandwidth_agent.settings import Settings
from bandwidth_api.plan import Prefix

PEERS_REREAD_SECONDS = 60.0  # all routes are read then
REREAD_SECONDS = 5.0  # so often interfaces and routes are asked for again

_NO_FEATURES = model.Features(ifb=True, clsact=True, ipset=True)  # asked by nobody here


class Uplinks:
    """The interfaces that the agent shapes, by the same rule. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._control = tc.TrafficControl()
        self._lock = threading.Lock()  # the thread of the sampler asks too
        self._names: tuple[str, ...] = ()
        self._indexes: tuple[int, ...] = ()
        self._read_at = float("-inf")
        self._peers: Mapping[Prefix, str] = {}
        self._peers_read_at = float("-inf")

    def facts(self) -> model.Facts:
        """Read what is around: interfaces, own addresses, gateways; nothing of rules, sets and features."""
        with self._lock:
            around = self._control.surroundings()
        return model.Facts(
            interfaces=around.interfaces,
            addresses=around.addresses,
            gateways=around.gateways,
            features=_NO_FEATURES,
            mark_uses=(),
            taken_ifb_names=around.taken_ifb_names,
            iptables_backend="",
            unclear_routes=around.unclear_routes,
        )

    def peers(self) -> Mapping[Prefix, str]:
        """Return the hosts that this node hands packets of others to, and why; read again now and then."""
        now = time.monotonic()
        if now - self._peers_read_at >= PEERS_REREAD_SECONDS:
            self._peers_read_at = now
            with contextlib.suppress(OSError), self._lock:
                self._peers = self._control.peers()
        return self._peers

    def names(self) -> tuple[str, ...]:
        """Return the interfaces, read again every few seconds, and at once when one is gone, renamed or made again.

        What was read last where that fails.
        """
        now = time.monotonic()
        indexes = _indexes(self._names)
        if now - self._read_at >= REREAD_SECONDS or indexes != self._indexes or not all(indexes):
            self._read_at = now
            try:
                shaped = placement.egress(self.facts(), self._settings.interfaces)
            except OSError:
                return self._names
            # While none is there (a cable, a route that is changed) those of before are looked for.
            self._names = tuple(interface.name for interface in shaped) or self._names
            self._indexes = _indexes(self._names)
        return self._names

    def why_none(self) -> str:
        """Return why there is no interface to look at, and what to do."""
        there = ", ".join(sorted(self.facts().interfaces)) or "none"
        globs = self._settings.interfaces
        if globs:
            return f"no interface to look at has a name like {' or '.join(map(repr, globs))}; there are: {there}"
        return f"no interface holds a default route; name one with --interface, of: {there}"

    def close(self) -> None:
        self._control.close()


def _indexes(names: Iterable[str]) -> tuple[int, ...]:
    """Return the index of each device, 0 for one that is not there: a look-up, no list of all devices."""

    def index(name: str) -> int:
        with contextlib.suppress(OSError):
            return socket.if_nametoindex(name)
        return 0

    return tuple(map(index, names))


def capacity(interfaces: Collection[str]) -> int | None:
    """Return how fast these are together, in bits per second; None if one does not say."""
    speeds = uplink_speed.said(interfaces)
    return sum(speeds.values()) if len(speeds) == len(interfaces) and speeds else None
