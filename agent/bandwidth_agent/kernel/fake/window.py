"""A sampler and a capture in memory: they see the packets that the fake kernel transmits, each of them as a sample.

Owns what was seen; opened and closed like the real ones, and listed in the kernel's `windows` while they are open.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from bandwidth_agent.kernel import model, traffic

LINK_BYTES = 14  # Ethernet
_PERIOD = 1 << 16
_ADDRESS_BYTES = {4: 4, 6: 16}


class Window(Protocol):
    """What is open, as the kernel sees it."""

    @property
    def looks_at(self) -> int:
        """At how many interfaces that are there."""

    def see(self, packet: traffic.Packet, count: int) -> None: ...


class _Kernel(Protocol):
    windows: list[Window]
    node: model.Facts
    at: float


class Sampler:
    """The sampler of `contract.Sampler`. `crowd` makes it lose samples, as a ring does that is full."""

    def __init__(self, kernel: _Kernel, interfaces: Collection[str]) -> None:
        self._kernel = kernel
        self._interfaces = tuple(dict.fromkeys(interfaces))
        self._began = kernel.at
        self._seen: dict[str, list[tuple[traffic.Packet, int]]] = collections.defaultdict(list)
        self._lost: collections.Counter[str] = collections.Counter()
        self._followed = self._there()
        self._paused = False
        self.open = True
        self.drained = 0  # times
        self.error: int | None = None  # errno of every reading until it is None again
        kernel.windows.append(self)

    @property
    def looks_at(self) -> int:
        return 0 if self._paused else len(self._there())

    def see(self, packet: traffic.Packet, count: int) -> None:
        if not self._paused:
            self._seen[packet.interface].append((packet, count))

    def crowd(self, interface: str, lost: int) -> None:
        """Lose so many samples in this stretch."""
        self._lost[interface] += lost

    def drain(self) -> None:
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        self.drained += 1

    def take(self) -> Mapping[str, traffic.Stretch]:
        if not self.open:
            return {}
        self.drain()
        began, self._began = self._began, self._kernel.at
        seen, self._seen = self._seen, collections.defaultdict(list)
        lost, self._lost = self._lost, collections.Counter()
        there, before = self._there(), self._followed
        self._followed = there
        if self._paused:
            self._paused = False
            return {}
        return {
            name: _stretch(began, self._kernel.at, seen[name], lost[name])
            for name, index in there.items()
            if before.get(name) == index and not self._elsewhere(name, there)
        }

    def pause(self) -> Mapping[str, traffic.Stretch]:
        stretches, self._paused = self.take(), True
        return stretches

    def close(self) -> None:
        self.open = False
        if self in self._kernel.windows:
            self._kernel.windows.remove(self)

    def _there(self) -> dict[str, int]:
        present = self._kernel.node.interfaces
        return {name: present[name].index for name in self._interfaces if name in present}

    def _elsewhere(self, name: str, there: Mapping[str, int]) -> bool:
        """Whether what leaves by this interface also leaves by another that is sampled."""
        by_index = {interface.index: interface for interface in self._kernel.node.interfaces.values()}
        others = set(there.values()) - {there[name]}
        interface = self._kernel.node.interfaces[name]
        if interface.master in others:
            return True
        for _ in by_index:  # however long the chain is, and were it a ring
            if interface.lower in others:
                return True
            if interface.lower not in by_index:
                break
            interface = by_index[interface.lower]
        return False


class Capture:
    """The capture of `contract.Capture`."""

    def __init__(self, kernel: _Kernel, interfaces: Collection[str], most: int) -> None:
        self._kernel = kernel
        self._interfaces = frozenset(interfaces)
        self._room = most
        self._seen: list[traffic.Packet] = []
        self._missed = 0
        self.lost = 0
        kernel.windows.append(self)

    @property
    def looks_at(self) -> int:
        return len(self._interfaces & self._kernel.node.interfaces.keys())

    def see(self, packet: traffic.Packet, count: int) -> None:
        if packet.interface not in self._interfaces:
            return
        kept = min(count, self._room)
        self._room -= kept
        self._missed += count - kept
        self._seen += [packet] * kept

    def take(self) -> Sequence[traffic.Packet]:
        seen, self._seen = self._seen, []
        self.lost = self._missed
        return seen

    def close(self) -> None:
        if self in self._kernel.windows:
            self._kernel.windows.remove(self)


def _stretch(began: float, ended: float, seen: Sequence[tuple[traffic.Packet, int]], lost: int) -> traffic.Stretch:
    clients: dict[bytes, traffic.Estimate] = {}
    ports: dict[bytes, dict[tuple[int, int], float]] = {}
    for packet, count in seen:
        client = packet.destination.to_bytes(_ADDRESS_BYTES[packet.family], "big")
        had = clients.get(client, traffic.Estimate(0.0, 0, 0.0))
        carried = float(packet.length * count)
        clients[client] = traffic.Estimate(had.bytes + carried, had.samples + count, had.squares)
        if packet.protocol in (traffic.TCP, traffic.UDP):
            of_client = ports.setdefault(client, {})
            port = packet.protocol, packet.source_port
            of_client[port] = of_client.get(port, 0.0) + carried
    packets = sum(count for _, count in seen)
    link_bytes = float(LINK_BYTES * packets)
    sent = sum(packet.length * count for packet, count in seen) + LINK_BYTES * packets
    return traffic.Stretch(began, ended, clients, ports, sent, lost, _PERIOD, link_bytes, packets)
