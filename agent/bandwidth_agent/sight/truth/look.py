"""One look: the packets that left in a moment, and what the classes counted right before and right after it. Pure.

    reading before ──▶ the capture opens ── 0.25 s or so many packets ──▶ it closes ──▶ reading after
    └───────────────────────── what came out of a class ─────────────────────────┘
                      └──── what was seen to leave ────┘

A packet that a class let out comes to the tap a moment later, so what was seen is never more than what was let out, but
for what waited behind the class when the look began, and for packets that were classified before a change of the
limits and have waited since. `stale_bytes` is how much that can be.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import model, objects, traffic

FRAME_BYTES = 1500  # of a GSO packet, so much becomes one packet on the wire


class Scope(NamedTuple):
    """Which packets of a class are judged together; a field that is left out takes all."""

    interface: str = ""
    family: int = 0
    protocol: int = -1
    port: int = -1  # the service's own; of a protocol without ports, and where only passing ports are seen, 0

    @property
    def narrow(self) -> bool:
        """Whether it is one kind of packet on one interface."""
        return self.family != 0


WHOLE = Scope()


class Passage(NamedTuple):
    """What one look shows of one class, or of a part of its packets."""

    seen: int  # packets at the tap, where a GSO packet is one
    packets: int  # the same on the wire
    left_bytes: int  # of these packets, from their IP headers on
    through_bytes: int  # that the class let out meanwhile, with link headers
    share: float = 1.0  # of all packets that left, those that were seen; the others found no room
    stale_bytes: int = 0  # so many of those that left may have been classified before a change
    interface: str = ""  # where most of the packets left
    client: tuple[int, int] = (4, 0)  # the address, with its family, that most of the bytes went to
    earlier_bytes: int = 0  # let out before the look, of which as much may have left in it


class Flow(NamedTuple):
    """Packets of one look that have their headers and their interface in common."""

    number: int  # of the class that should have let them out
    packet: traffic.Packet  # one of them
    seen: int  # packets at the tap
    packets: int  # on the wire
    bytes: int


def flows(seen: Iterable[traffic.Packet], number_of: Callable[[traffic.Packet], int | None]) -> list[Flow]:
    """Return the flows among these packets that have a class."""
    sums_of: dict[tuple[object, ...], list[int]] = {}  # packets, frames, bytes
    first_of: dict[tuple[object, ...], traffic.Packet] = {}
    for packet in seen:
        headers = packet[:5] + packet[6:]
        sums = sums_of.get(headers)
        if sums is None:
            sums = sums_of[headers] = [0, 0, 0]
            first_of[headers] = packet
        sums[0] += 1
        sums[1] += -(-packet[5] // FRAME_BYTES)
        sums[2] += packet[5]
    numbered = ((number_of(packet), packet, sums_of[same]) for same, packet in first_of.items())
    return [Flow(number, packet, *sums) for number, packet, sums in numbered if number is not None]


def passages(
    seen: Sequence[traffic.Packet],
    lost: int,
    number_of: Callable[[traffic.Packet], int | None],
    before: model.QueueReading,
    after: model.QueueReading,
    stale_bytes: int,
) -> Mapping[int, Passage]:
    """Return by class number what a look shows; a class that is not the same in both readings is left out."""
    return of_flows(flows(seen, number_of), share(len(seen), lost), before, after, stale_bytes)


def share(seen: int, lost: int) -> float:
    """Return which share of the packets that left was seen."""
    return seen / (seen + lost) if seen else 1.0


def of_flows(
    found: Iterable[Flow],
    share_seen: float,
    before: model.QueueReading,
    after: model.QueueReading,
    stale_bytes: int,
    earlier: Callable[[int], int] = lambda number: 0,
) -> Mapping[int, Passage]:
    """As `passages`. `earlier`: by class, as `Passage.earlier_bytes`."""
    by_class: dict[int, list[Flow]] = collections.defaultdict(list)
    for flow in found:
        by_class[flow.number].append(flow)
    shown: dict[int, Passage] = {}
    for number, parts in by_class.items():
        through = let_out(number, before, after)
        if through is not None:
            shown[number] = passage(parts, through, share_seen, stale_bytes)._replace(earlier_bytes=earlier(number))
    return shown


def passage(parts: Iterable[Flow], through: int, share_seen: float, stale_bytes: int) -> Passage:
    """Return what these flows, one or more, show of the class or of the part of it that they are all of."""
    seen = packets = left = 0
    where: collections.Counter[str] = collections.Counter()
    clients: collections.Counter[tuple[int, int]] = collections.Counter()
    for flow in parts:
        seen, packets, left = seen + flow.seen, packets + flow.packets, left + flow.bytes
        where[flow.packet.interface] += flow.seen
        clients[flow.packet.family, flow.packet.destination] += flow.bytes
    most, most_client = max(where, key=where.__getitem__), max(clients, key=clients.__getitem__)
    return Passage(seen, packets, left, through, share_seen, stale_bytes, most, most_client)


def let_out(number: int, before: model.QueueReading, after: model.QueueReading) -> int | None:
    """Return what a class let out, on all devices; None where it was made or made again meanwhile."""
    total, devices = 0, 0
    for device, classes in after.classes.items():
        now = classes.get(number)
        if now is None:
            continue
        then = before.classes.get(device, {}).get(number)
        if then is None or now.bytes < then.bytes:
            return None
        total += now.bytes - then.bytes
        devices += 1
    return total if devices and devices == sum(number in classes for classes in before.classes.values()) else None


def stale_bytes(
    before: model.QueueReading, first: model.QueueReading, elapsed: float, trees: Mapping[str, objects.Tree]
) -> int:
    """Return how many bytes may still wait that were classified before the limits last changed.

    `first`: the first reading since that change, which was `elapsed` seconds before `before`. What waits in a class may
    be older than the change unless the class could have let out as much since; what waits before an interface is gone
    once the interface has sent as much.
    """
    waiting = 0
    for device, classes in before.classes.items():
        tree = trees.get(device)
        for minor, counted in classes.items():
            if counted.backlog_bytes:
                shape = tree.classes.get(minor) if tree is not None else None
                if shape is None or counted.backlog_bytes > max(shape.rate, shape.ceil) * elapsed:
                    waiting += counted.backlog_bytes
    for name, uplink in before.uplinks.items():
        then = first.uplinks.get(name)
        if then is not None and name not in trees:
            waiting += max(0, then.backlog_bytes - max(0, uplink.sent_bytes - then.sent_bytes))
    return waiting
