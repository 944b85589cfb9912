"""Every packet that leaves, as headers: a ring for each interface, with room for as many as are wanted.

Owns the rings. When they are full it sees no more: a capture costs a bounded number of copies, however long it is open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

from bandwidth_agent.kernel import traffic
from bandwidth_agent.kernel.linux.packet import headers, programs, ring, uplinks

_FEWEST_FRAMES, _ALL_FRAMES = 256, 1 << 17  # of one ring of many, and of all together: 32 MiB


class Capture:
    """The capture of `contract.Capture`, on the namespace of the calling thread."""

    def __init__(self, interfaces: Collection[str], most: int) -> None:
        self.lost = 0
        self._room = most
        self._rings: dict[str, ring.Ring] = {}
        with contextlib.ExitStack() as undo, contextlib.closing(uplinks.Uplinks()) as links:
            present = links.read(dict.fromkeys(interfaces))
            elsewhere = links.elsewhere(present)
            looked_at = [name for name in present if name not in elsewhere]
            frames = max(_FEWEST_FRAMES, _ALL_FRAMES // max(1, len(looked_at)))
            for name in looked_at:
                self._rings[name] = ring.Ring(min(most, frames))
                undo.callback(self._rings[name].close)
                self._follow(name)
            if not self._rings:  # to refuse whoever may not look, even where there is nothing to see
                ring.Ring(0).close()
            self._closing = undo.pop_all()

    def take(self) -> Sequence[traffic.Packet]:
        packets: list[traffic.Packet] = []
        for name, each in self._rings.items():
            self.lost += each.dropped()
            for _ in range(2):  # the end of the ring, and its beginning
                frames = each.filled()
                kept = min(len(frames.lengths), self._room)
                self._room -= kept
                self.lost += len(frames.lengths) - kept
                packets += _packets(name, each, frames, kept)
                each.release(frames)
        return packets

    def close(self) -> None:
        self._rings = {}
        self._closing.close()

    def _follow(self, name: str) -> None:
        try:
            self._rings[name].follow(name, programs.every())
        except OSError as error:
            if error.errno not in uplinks.GONE:
                raise


def _packets(name: str, of: ring.Ring, frames: ring.Frames, most: int) -> list[traffic.Packet]:
    packets: list[traffic.Packet] = []
    for start, length, copied in zip(frames.starts[:most], frames.lengths[:most], frames.copied[:most], strict=True):
        plain = headers.plain(of.memory, start) if copied >= headers.PLAIN_BYTES else None
        if plain is not None:
            packets.append(traffic.Packet(name, 4, *plain[:3], length, plain[3]))
            continue
        said = headers.read(of.memory[start : start + copied])
        if said is not None:
            family = 4 if len(said.destination) == 4 else 6
            target = int.from_bytes(said.destination, "big")
            ports = said.source_port, said.destination_port
            packets.append(traffic.Packet(name, family, target, said.protocol, ports[0], length, ports[1]))
    return packets
