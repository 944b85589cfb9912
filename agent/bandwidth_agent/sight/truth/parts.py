"""Which parts of a class's packets go past it: those of one uplink, or of one family, protocol and port. Pure.

    class on an ifb or a pair ── out of the device: seen by a second capture ──▶ uplink ── seen to leave
    class at the uplink's root ─────────────────────── its own counters ───────▶ uplink ── seen to leave

The counters of a class add up what all uplinks and all kinds of packets got, and a large flow that is held hides a
small one that is not. So the packets that come out of our own devices are looked at as well, and what left is compared
with them flow by flow. A flow is known by its client and the client's port: a program behind us may translate the rest.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import model, traffic
from bandwidth_agent.kernel.objects.chain import EPHEMERAL_FIRST
from bandwidth_agent.sight.truth import look

_WITH_PORTS = (traffic.TCP, traffic.UDP)
_Client = tuple[int, int, int, int]  # family, address, protocol, port of the client


class CameOut(NamedTuple):
    """What was seen to come out of our own devices, from before the look to its end."""

    by_class: Mapping[int, int]  # bytes
    by_client: Mapping[_Client, int]  # bytes


def came_out(seen: Sequence[traffic.Packet], number_of: Callable[[traffic.Packet], int | None]) -> CameOut:
    """Return the sums of what was seen to come out of our own devices; none of it may be missing."""
    by_class: collections.Counter[int] = collections.Counter()
    by_client: collections.Counter[_Client] = collections.Counter()
    for packet in seen:
        by_client[_client(packet)] += packet.length
    for flow in look.flows(seen, number_of):
        by_class[flow.number] += flow.bytes
    return CameOut(by_class, by_client)


def passages(
    flows: Iterable[look.Flow],
    share_seen: float,
    out: CameOut | None,
    before: model.QueueReading,
    after: model.QueueReading,
    uplinks: Collection[str],
    waiting: Mapping[str, int],
    stale_bytes: int,
) -> Mapping[int, Mapping[look.Scope, look.Passage]]:
    """Return by class number what a look shows of its parts; nothing of those that it cannot tell apart.

    `out`: None where it is not known what came out. `waiting`: bytes before each uplink when the look began there,
    which had come out earlier.
    """
    by_class: dict[int, list[look.Flow]] = collections.defaultdict(list)
    for flow in flows:
        by_class[flow.number].append(flow)
    found: dict[int, dict[look.Scope, look.Passage]] = {}
    devices = [_of_devices(reading, lambda name: name not in uplinks) for reading in (before, after)]
    for number, all_of_it in by_class.items():
        through = look.let_out(number, *devices)
        witnessed = out is not None and 2 * out.by_class.get(number, 0) >= (through or 0)
        through_of = _through_of(all_of_it, out, before) if out is not None and witnessed else None
        shown: dict[look.Scope, look.Passage] = {}
        for scope, some in _scopes(all_of_it, several=len(uplinks) > 1).items():
            bytes_through = _let_out(number, scope, some, through_of, before, after)
            if bytes_through is not None:
                old = stale_bytes + waiting.get(scope.interface, 0)
                shown[scope] = look.passage(some, bytes_through, share_seen, old)
        if shown:
            found[number] = shown
    return found


def _scopes(flows: Iterable[look.Flow], *, several: bool) -> dict[look.Scope, list[look.Flow]]:
    """Return the flows by uplink, where there are several, and by kind of packet on each."""
    found: dict[look.Scope, list[look.Flow]] = collections.defaultdict(list)
    for flow in flows:
        packet = flow.packet
        if several:
            found[look.Scope(packet.interface)].append(flow)
        found[look.Scope(packet.interface, packet.family, packet.protocol, _service_port(packet))].append(flow)
    return found


def _let_out(
    number: int,
    scope: look.Scope,
    flows: Iterable[look.Flow],
    through_of: Callable[[look.Flow], int] | None,
    before: model.QueueReading,
    after: model.QueueReading,
) -> int | None:
    """Return how much of these flows came out of the class; None where that cannot be told."""
    if scope.interface in before.classes:  # the class is at the root of this uplink, of all kinds of packets there
        here = scope.interface.__eq__
        return None if scope.narrow else look.let_out(number, _of_devices(before, here), _of_devices(after, here))
    return None if through_of is None else sum(map(through_of, flows))


def _through_of(flows: Iterable[look.Flow], out: CameOut, before: model.QueueReading) -> Callable[[look.Flow], int]:
    """Return the function that tells how much of a flow on one uplink came out, beside the same on other uplinks."""
    left: collections.Counter[_Client] = collections.Counter()
    left_by: collections.Counter[tuple[str, _Client]] = collections.Counter()
    for flow in flows:
        if flow.packet.interface not in before.classes:
            left[_client(flow.packet)] += flow.bytes
            left_by[flow.packet.interface, _client(flow.packet)] += flow.bytes

    def through(flow: look.Flow) -> int:
        client = _client(flow.packet)
        here = left_by[flow.packet.interface, client]
        came = min(here, max(0, out.by_client.get(client, 0) - (left[client] - here)))
        return came * flow.bytes // max(1, here)

    return through


def _client(packet: traffic.Packet) -> _Client:
    return packet.family, packet.destination, packet.protocol, packet.destination_port


def _service_port(packet: traffic.Packet) -> int:
    if packet.protocol not in _WITH_PORTS:
        return 0
    ports = packet.source_port, packet.destination_port
    return next((port for port in ports if 0 <= port < EPHEMERAL_FIRST), 0)


def _of_devices(reading: model.QueueReading, wanted: Callable[[str], bool]) -> model.QueueReading:
    return dataclasses.replace(reading, classes={n: c for n, c in reading.classes.items() if wanted(n)})
