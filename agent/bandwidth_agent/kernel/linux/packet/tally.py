"""What samples stand for: frames of a ring in, bytes by client and by port out. Pure.

    frames ──▶ add(): alike ones are counted together ──▶ weigh(): each kind once ──▶ clients, ports

Nothing is done for a single sample in Python: packets of one length to one client from one port are one kind, however
many of them were sampled. A sample stands for as many bytes as its period then was, or for its own length where that is
more; under which period it was taken is told by its copied length, never by a clock.
"""

from __future__ import annotations

import collections
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence

from bandwidth_agent.kernel import traffic
from bandwidth_agent.kernel.linux.packet import headers, programs, ring

_Port = tuple[int, int]  # protocol and number
_Kind = tuple[int, int, int, bytes, bytes]  # length, copied length, protocol, destination, source port

# In a frame: the version, and what IPv4 has of fragments; IPv6 has the next header where IPv4 has the flags.
_FIRST, _FLAGS, _OFFSET = ring.NETWORK_OFFSET, ring.NETWORK_OFFSET + 6, ring.NETWORK_OFFSET + 7
_PLAIN_V4 = 0x45  # the first byte: a header without options
_FIRST_FRAGMENTS = bytes(range(0, 256, 0x20))  # the byte of the flags, where no part of an offset is behind them
_WITH_PORTS = frozenset({traffic.TCP, traffic.UDP})
_NO_PORT = b"\0\0"


def _frame(header: str) -> struct.Struct:
    """A whole frame: status, length and copied length, then at its place what is wanted of the packet's header."""
    begin = f"=4xII{ring.NETWORK_OFFSET - 12}x{header}"
    return struct.Struct(f"{begin}{ring.FRAME_BYTES - struct.calcsize(begin)}x")


_V4, _V6 = _frame("9xB6x4s2s"), _frame("6xB17x16s2s")  # protocol, destination, and the two bytes behind it


class Ports(Mapping[bytes, Mapping[_Port, float]]):
    """As in `traffic.Stretch`: what most clients get from one port is what they get, and is not kept again."""

    def __init__(self, clients: Mapping[bytes, traffic.Estimate]) -> None:
        self._clients = clients
        self.found: dict[bytes, _Port | dict[_Port, float]] = {}  # the only port of a client, or the bytes of several

    def __getitem__(self, client: bytes) -> Mapping[_Port, float]:
        of = self.found[client]
        return of if isinstance(of, dict) else {of: self._clients[client].bytes}

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


class Tally:
    """Samples of one interface, and the sums of those that were weighed."""

    def __init__(self) -> None:
        self.clients: dict[bytes, traffic.Estimate] = {}  # as in `traffic.Stretch`, and so are the others
        self.ports = Ports(self.clients)
        self.headers = 0.0  # an estimate of the packets that all these bytes were in
        self._kinds: collections.Counter[_Kind] = collections.Counter()

    def add(self, shown: memoryview, lengths: Sequence[int], copied: Sequence[int]) -> None:
        """Count frames, which lie one behind the other; they count in the sums from the next `weigh` on."""
        count = len(lengths)
        first, flags, offset = (shown[at :: ring.FRAME_BYTES].tobytes() for at in (_FIRST, _FLAGS, _OFFSET))
        whole = first.count(_PLAIN_V4) == count and min(copied, default=0) >= programs.V4_BYTES
        if whole and offset.count(0) == count and not flags.translate(None, _FIRST_FRAGMENTS):
            self._kinds.update(_V4.iter_unpack(shown))
            return
        v4, v6 = bytearray(count), bytearray(count)
        for n, held in enumerate(copied):
            if first[n] == _PLAIN_V4 and held >= programs.V4_BYTES and not (flags[n] & 0x1F or offset[n]):
                v4[n] = 1
            elif first[n] >> 4 == 6 and held >= programs.V6_BYTES and flags[n] in programs.PLAIN:
                v6[n] = 1
            else:
                start = n * ring.FRAME_BYTES + _FIRST
                self._kinds[lengths[n], held, *_said(bytes(shown[start : start + held]))] += 1
        for layout, chosen in ((_V4, v4), (_V6, v6)):
            if any(chosen):
                self._kinds.update(itertools.compress(layout.iter_unpack(shown), chosen))

    def weigh(self, periods: Sequence[int], in_force: int, share: float = 1.0) -> None:
        """Add what was counted since the last call to the sums.

        `periods` by generation, of which one is in force; `share`: for how many samples each of these stands, itself
        and those that were dropped.
        """
        clients, ports, now, packets = self.clients, self.ports.found, periods[in_force], 0.0
        estimate, make = traffic.Estimate, tuple.__new__
        for (length, copied, protocol, client, port), count in self._kinds.items():
            # A packet that was copied whole is shorter than what tells the generation.
            period = periods[copied & 3] if copied < length else now
            weight = (length if length > period else period) * share
            carried = weight * count
            packets += carried / length
            had = clients.get(client)
            if had is None:  # nearly all, where there are very many: little is done for them
                clients[client] = make(estimate, (carried, count, carried * (weight - length)))
                if protocol in _WITH_PORTS:
                    ports[client] = protocol, port[0] << 8 | port[1]
                continue
            sums = had[0] + carried, had[1] + count, had[2] + carried * (weight - length)
            clients[client] = make(estimate, sums)
            number = (protocol, port[0] << 8 | port[1]) if protocol in _WITH_PORTS else None
            of = ports.get(client)
            if of == number:
                continue
            if not isinstance(of, dict):
                of = ports[client] = {} if of is None else {of: had[0]}
            if number is not None:
                of[number] = of.get(number, 0.0) + carried
        clients.pop(b"", None)  # too little of their headers is there to say who it is
        self.headers += packets
        self._kinds.clear()


def _said(copied: bytes) -> tuple[int, bytes, bytes]:
    """Protocol, destination and source port of a packet with options, extension headers, or less than a header."""
    said = headers.read(copied)
    if said is None:
        return -1, b"", _NO_PORT
    if said.source_port < 0:
        return -1, said.destination, _NO_PORT
    return said.protocol, said.destination, said.source_port.to_bytes(2, "big")
