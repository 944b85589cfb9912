"""A set of at most so many connections, which removes one to take in another. Pure.

It removes the oldest connection of the peer that has most of them, so a peer that floods removes its own connections.
A request that arrives whole and at once is answered before its connection is the oldest, so a probe gets its answer
even from the address of the flood.
"""

from __future__ import annotations

import socket
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BoundedSet(Generic[Item]):
    """A set of at most `most` items, each of which belongs to a peer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._peers: dict[str, dict[Item, None]] = {}  # items in the order in which they were added
        self._count = 0

    def add(self, peer: str, item: Item) -> Item | None:
        """Add an item; return the item that was removed to make room, None if there was room."""
        gone = self._one_less() if self._count >= self._most else None
        self._peers.setdefault(peer, {})[item] = None
        self._count += 1
        return gone

    def bound(self, most: int) -> list[Item]:
        """Change the largest number of items; return those that were removed to keep to it."""
        self._most = most
        return [self._one_less() for _ in range(self._count - most)]

    def _one_less(self) -> Item:
        largest = max(self._peers, key=lambda name: len(self._peers[name]))
        gone = next(iter(self._peers[largest]))
        self.remove(largest, gone)
        return gone

    def remove(self, peer: str, item: Item) -> None:
        """Remove an item; one that is not in the set is no error."""
        of_peer = self._peers.get(peer)
        if of_peer is None or item not in of_peer:
            return
        del of_peer[item]
        self._count -= 1
        if not of_peer:
            del self._peers[peer]

    def __len__(self) -> int:
        return self._count


def peer_of(host: str) -> str:
    """Return the peer of an address: the IPv4 address, the /64 of an IPv6 address, or "loopback"."""
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    if ":" not in host:
        return "loopback" if host.startswith("127.") else host
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    return "loopback" if packed == b"\0" * 15 + b"\1" else packed[:8].hex()
