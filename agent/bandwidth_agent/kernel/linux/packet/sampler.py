"""Who gets how much: packets that leave, sampled with a probability of their length.

    packet leaves ──▶ program: length ÷ period ──▶ ring ──▶ drain(): sums by client and port ──▶ take(): a stretch

Owns the sums between two calls of `take`. A sample stands for as many bytes as its period then was, or for its own
length where that is more; under which period it was taken is told by its copied length, never by a clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import struct
import time
from collections.abc import Callable, Collection, Mapping

from bandwidth_agent.kernel import traffic
from bandwidth_agent.kernel.linux.packet import headers, period, programs, ring, uplinks

_FRAMES, _FEWEST_FRAMES, _ALL_FRAMES = 4096, 512, 32_768  # of one ring, of one of many, of all together: 8 MiB
_FREE = 3  # interfaces of which each may take as many samples as one alone; more of them share what three take
_SHORTEST_SECONDS = 0.05  # for which traffic is measured before the period follows it
_CALMING_SECONDS = 0.5  # the period follows more traffic at once, and less traffic within about this time

_V4 = struct.Struct("!B5xHxB6x6s")  # the first byte; fragment, protocol, destination with the source port behind it
_PLAIN_V4 = 0x45  # a header without options
_LATER_FRAGMENT = 0x1FFF
_WITH_PORTS = frozenset({traffic.TCP, traffic.UDP})
_NO_PORT = b"\0\0", -1

_Key = tuple[bytes, int]  # destination and two bytes behind it, the source port of TCP and UDP; protocol


@dataclasses.dataclass(slots=True)
class _Sums:
    """What was sampled on one interface since the stretch began."""

    began: float
    sent_bytes: int  # of the device, then
    found: dict[_Key, list[float]] = dataclasses.field(default_factory=dict)  # bytes, samples, squares
    link_bytes: float = 0.0
    lost: int = 0


class Sampler:
    """The sampler of `contract.Sampler`, on the namespace of the calling thread."""

    def __init__(self, interfaces: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        names = tuple(dict.fromkeys(interfaces))
        frames = max(_FEWEST_FRAMES, min(_FRAMES, _ALL_FRAMES // max(1, len(names))))
        self._followed: dict[str, _Followed] = {}
        with contextlib.ExitStack() as undo:
            self._uplinks = uplinks.Uplinks()
            undo.callback(self._uplinks.close)
            for name in names:
                self._followed[name] = _Followed(ring.Ring(frames), clock, max(1.0, len(names) / _FREE))
                undo.callback(self._followed[name].close)
            self._follow(self._uplinks.read(names))
            self._closing = undo.pop_all()

    def drain(self) -> None:
        for each in self._followed.values():
            each.drain()

    def take(self) -> Mapping[str, traffic.Stretch]:
        present = self._uplinks.read(self._followed)
        stretches: dict[str, traffic.Stretch] = {}
        strayed: dict[str, uplinks.Uplink] = {}
        for name, each in self._followed.items():
            uplink = present.get(name)
            if uplink is not None and (stretch := each.take(uplink)) is not None:
                stretches[name] = stretch
                continue
            each.leave()
            if uplink is not None:
                strayed[name] = uplink
        self._follow(strayed)
        elsewhere = self._uplinks.elsewhere(present)
        return {name: stretch for name, stretch in stretches.items() if name not in elsewhere}

    def close(self) -> None:
        self._followed = {}
        self._closing.close()

    def _follow(self, present: Collection[str]) -> None:
        """Begin a stretch on these devices. What they had sent is read behind that: to map a ring takes a while."""
        for name in present:
            self._followed[name].follow(name)
        for name, uplink in self._uplinks.read(present).items():
            self._followed[name].begin(uplink)


class _Followed:
    """One interface of a sampler: its ring, its period, its sums."""

    def __init__(self, of: ring.Ring, clock: Callable[[], float], crowd: float) -> None:
        """`crowd`: how many share the samples that one may take."""
        self._ring, self._clock, self._crowd = of, clock, crowd
        self._sums: _Sums | None = None
        self._link_bytes = 0
        self._generation = 0
        self._periods = [period.FIRST] * programs.GENERATIONS  # by generation; only one of them is in force
        self._looked_at = 0.0
        self._heard = 0  # samples since then, with those that were dropped
        self._pace = 0.0  # samples per second

    def close(self) -> None:
        self._ring.close()

    def follow(self, name: str) -> None:
        """Bind to the device of this name, if it is still there."""
        try:
            self._ring.follow(name, programs.sample(self._periods[self._generation], self._generation))
        except OSError as error:
            if error.errno not in uplinks.GONE:
                raise

    def leave(self) -> None:
        """Follow nothing, and forget what was seen."""
        self._sums = None
        self._ring.park()
        while frames := self._ring.filled():
            self._ring.release(frames)

    def begin(self, uplink: uplinks.Uplink) -> None:
        """Begin the first stretch, if the device that is followed is this one."""
        if self._ring.follows(uplink.name):
            self._link_bytes = uplink.link_bytes
            self._looked_at, self._heard = self._clock(), 0
            self._sums = _Sums(self._looked_at, uplink.sent_bytes)

    def take(self, uplink: uplinks.Uplink) -> traffic.Stretch | None:
        """End the stretch and begin the next; None where none was begun on this device."""
        if self._sums is None or not self._ring.follows(uplink.name):
            return None
        self.drain()
        ended, sums = self._clock(), self._sums
        self._sums = _Sums(ended, uplink.sent_bytes)
        return _stretch(sums, ended, uplink.sent_bytes, self._periods[self._generation])

    def drain(self) -> None:
        """Add what is in the ring to the sums, and let the period follow."""
        if self._sums is None:
            return
        dropped = self._ring.dropped()
        self._sums.lost += dropped
        self._heard += dropped
        # Samples are dropped while the ring is full, and since then nothing was taken out of it.
        share = 1.0 + dropped / self._ring.frames
        for _ in range(2):  # its end, and its beginning
            frames = self._ring.filled()
            if frames:
                self._add(self._sums, frames, share)
                self._ring.release(frames)
        self._adapt(self._clock())

    def _add(self, sums: _Sums, frames: ring.Frames, share: float) -> None:
        """Add samples to the sums; `share`: for how many samples each stands, itself and those that were dropped."""
        memory, found, periods, now = self._ring.memory, sums.found, self._periods, self._periods[self._generation]
        headed, unpack = 0.0, _V4.unpack_from
        for start, length, copied in zip(frames.starts, frames.lengths, frames.copied, strict=True):
            # A packet that was copied whole is shorter than what tells the generation.
            of_period = periods[copied & 3] if copied < length else now
            weight = (length if length > of_period else of_period) * share
            first, fragment, protocol, behind = unpack(memory, start)
            key: _Key
            if first == _PLAIN_V4 and copied >= programs.V4_BYTES and not fragment & _LATER_FRAGMENT:
                key = behind, protocol
            elif first >> 4 == 6 and programs.V6_BYTES <= copied < programs.HEADERS_BYTES:
                key = memory[start + 24 : start + 42], memory[start + 6]
            else:
                key = _key(memory[start : start + copied])
            had = found.get(key)
            if had is None:
                found[key] = [weight, 1, weight * (weight - length)]
            else:
                had[0] += weight
                had[1] += 1
                had[2] += weight * (weight - length)
            headed += weight / length
        sums.link_bytes += headed * self._link_bytes
        self._heard += len(frames.lengths)

    def _adapt(self, now: float) -> None:
        """Let the period follow the traffic: up at once, because the ring may be full before the next look."""
        elapsed = now - self._looked_at
        if elapsed < _SHORTEST_SECONDS:
            return
        pace = self._heard / elapsed
        self._looked_at, self._heard = now, 0
        calmed = self._pace + (pace - self._pace) * min(1.0, elapsed / _CALMING_SECONDS)
        self._pace = max(pace, calmed)
        held = self._periods[self._generation]
        fitting = period.following(held, self._pace * self._crowd)
        if fitting != held:
            self._pace = 0.0 if fitting > held else self._pace  # what comes now is not known: the next look tells
            self._generation = (self._generation + 1) % programs.GENERATIONS
            self._periods[self._generation] = fitting
            self._ring.attach(programs.sample(fitting, self._generation))


def _key(copied: bytes) -> _Key:
    """The key of a packet with options, extension headers, or less than a header."""
    said = headers.read(copied)
    if said is None:
        return _NO_PORT
    if said.source_port < 0:
        return said.destination + _NO_PORT[0], _NO_PORT[1]
    return said.destination + said.source_port.to_bytes(2, "big"), said.protocol


def _stretch(sums: _Sums, ended: float, sent_bytes: int, of_period: int) -> traffic.Stretch:
    """The sums as a stretch: by client, and of each client by port."""
    clients: dict[bytes, traffic.Estimate] = {}
    ports: dict[bytes, dict[tuple[int, int], float]] = {}
    estimate = traffic.Estimate._make
    for (behind, protocol), found in sums.found.items():
        client = behind[:-2]
        if not client:
            continue
        carried = found[0]
        had = clients.get(client)
        clients[client] = estimate(found if had is None else map(operator.add, had, found))
        if protocol in _WITH_PORTS:
            port = protocol, behind[-2] << 8 | behind[-1]
            if client in ports:
                ports[client][port] = carried
            else:
                ports[client] = {port: carried}
    sent = max(0, sent_bytes - sums.sent_bytes)  # a driver may begin again at 0
    return traffic.Stretch(sums.began, ended, clients, ports, sent, sums.lost, of_period, sums.link_bytes)
