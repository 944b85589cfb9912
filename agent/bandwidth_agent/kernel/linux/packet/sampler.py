"""Who gets how much: packets that leave, sampled with a probability of their length.

    packet leaves ──▶ program: length ÷ period ──▶ ring ──▶ drain(): a tally by client and port ──▶ take(): a stretch

Owns the period of each interface, and what was sampled between two calls of `take`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Mapping

from bandwidth_agent.kernel import traffic
from bandwidth_agent.kernel.linux.packet import period, programs, ring, tally, uplinks

_FRAMES, _FEWEST_FRAMES, _ALL_FRAMES = 4096, 512, 32_768  # of one ring, of one of many, of all together: 8 MiB
_FREE = 2  # interfaces of which each may take as many samples as one alone; more of them share what two take
_SHORTEST_SECONDS = 0.05  # for which traffic is measured before the period follows it
_CALMING_SECONDS = 0.5  # the period follows more traffic at once, and less traffic within about this time


@dataclasses.dataclass(slots=True)
class _Sums:
    """What was sampled on one interface since the stretch began."""

    began: float
    sent_bytes: int  # of the device, then
    found: tally.Tally = dataclasses.field(default_factory=tally.Tally)
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

    def pause(self) -> Mapping[str, traffic.Stretch]:
        stretches = self.take()
        for each in self._followed.values():
            each.leave()
        return stretches

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
        self._weigh()
        ended, sums = self._clock(), self._sums
        self._sums = _Sums(ended, uplink.sent_bytes)
        sent = max(0, uplink.sent_bytes - sums.sent_bytes)  # a driver may begin again at 0
        found, now = sums.found, self._periods[self._generation]
        return traffic.Stretch(
            began=sums.began,
            ended=ended,
            clients=found.clients,
            ports=found.ports,
            sent_bytes=sent,
            lost=sums.lost,
            period=now,
            packets=found.headers,
            link_bytes=found.headers * self._link_bytes,
        )

    def drain(self) -> None:
        """Count what is in the ring, and let the period follow."""
        if self._sums is None:
            return
        dropped = self._ring.dropped()
        if dropped:
            self._weigh()  # what was there before stands for itself alone
        taken = taken_bytes = 0
        for _ in range(2):  # the end of the ring, and its beginning
            if frames := self._ring.filled():
                with self._ring.shown(frames) as shown:
                    self._sums.found.add(shown, frames.lengths, frames.copied)
                self._ring.release(frames)
                taken += len(frames.lengths)
                taken_bytes += sum(frames.lengths)
        if dropped:
            # Samples are dropped while the ring is full, and since then nothing was taken out of it.
            self._weigh(1.0 + dropped / self._ring.frames)
            self._sums.lost += dropped
        self._heard += taken + dropped
        self._adapt(self._clock(), taken_bytes / taken if taken else 0.0)

    def _weigh(self, share: float = 1.0) -> None:
        if self._sums is not None:
            self._sums.found.weigh(self._periods, self._generation, share)

    def _adapt(self, now: float, mean_bytes: float) -> None:
        """Let the period follow the traffic: up at once, because the ring may be full before the next look.

        `mean_bytes`: the mean length of the packets that were sampled last.
        """
        elapsed = now - self._looked_at
        if elapsed < _SHORTEST_SECONDS:
            return
        pace = self._heard / elapsed
        self._looked_at, self._heard = now, 0
        calmed = self._pace + (pace - self._pace) * min(1.0, elapsed / _CALMING_SECONDS)
        self._pace = max(pace, calmed)
        held = self._periods[self._generation]
        fitting = period.following(held, self._pace * self._crowd, mean_bytes)
        if fitting != held:
            self._weigh()  # before a generation gets another period
            self._pace = 0.0 if fitting > held else self._pace  # what comes now is not known: the next look tells
            self._generation = (self._generation + 1) % programs.GENERATIONS
            self._periods[self._generation] = fitting
            self._ring.attach(programs.sample(fitting, self._generation))
