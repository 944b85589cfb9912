"""One sampler for all who ask: opened with the first lease, closed when the last one has ended.

    asker ── lease ──▶ Sight ── opens ──▶ sampler ◀── drains five times a second ── thread
          ◀─────────── a stretch each second ────────────────────────────────────────┘

Owns the sampler and its thread, which is there only as long as a lease holds. Keeps nothing of what was seen: each
asker makes of the stretches what it needs. Whatever dies, a lease ends by the monotonic clock, and the sampler with it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection
from typing import Protocol

from bandwidth_agent.kernel import contract
from bandwidth_agent.sight import leases

_DRAIN_SECONDS = 0.2  # a ring of 4,096 samples lasts for 0.4 s at 10,000 a second; each waking costs as much as 50
_SOON_SECONDS = 0.05  # at first: what was taken with the first period, a long one, weighs heavily for a minute
_STRETCH_SECONDS = 1.0
# Each packet costs its sender more while a packet socket is there, whether it is sampled or not: a tenth at most of
# what a short one costs. Of many packets a part of the time tells as much.
_BUSY_PACKETS_PER_SECOND = 50_000.0
_AWAKE_SECONDS, _REST_SECONDS = 0.4, (0.4, 0.8)  # by chance, so that nothing that comes regularly is missed
_LATE_SECONDS = 0.02  # a turn that wakes so little before the end of a stretch ends it


class Clock(Protocol):
    """Monotonic seconds."""

    def __call__(self) -> float: ...


class Grant:
    """What an asker holds: what was sampled comes to it, until it ends."""

    def __init__(self, sight: Sight, lease: leases.Lease) -> None:
        self._sight, self._lease = sight, lease

    @property
    def holds(self) -> bool:
        """Whether it has not ended."""
        return self._sight.holds(self._lease)

    @property
    def failure(self) -> BaseException | None:
        """What ended it before its time: an OSError of the sampler, or what the asker's own function raised."""
        return self._lease.failure

    def renew(self, seconds: float) -> bool:
        """Let it end so many seconds from now, at most `leases.MOST_SECONDS`; False if it has ended: ask again."""
        return self._sight.renew(self._lease, seconds)

    def close(self) -> None:
        """End it now. Idempotent."""
        self._sight.end(self._lease)


class Sight:
    """Opens a sampler while somebody asks. Thread-safe."""

    def __init__(
        self,
        sampler: Callable[[Collection[str]], contract.Sampler],
        interfaces: Callable[[], Collection[str]],
        *,
        clock: Clock = time.monotonic,
        start: Callable[[Callable[[], None]], None] | None = None,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`sampler` opens one, as `contract.Kernel.sampler`; `interfaces` are to be looked at now: asked each second.

        Both are called by the thread of an asker or by the one that `start` starts (by default a daemon thread).
        """
        self._open, self._interfaces, self._clock = sampler, interfaces, clock
        self._start, self._spread = start or _in_a_thread, spread
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._leases = leases.Leases()
        self._sampler: contract.Sampler | None = None
        self._looked_at: frozenset[str] = frozenset()
        self._running = False
        self._opened_at = self._stretch_ends = 0.0
        self._rests_until: float | None = None  # None: it looks
        self._busy = False

    def lease(self, seconds: float, receive: leases.Receive, *, sparing: bool = False) -> Grant:
        """Look for so many seconds, at most `leases.MOST_SECONDS`.

        `sparing`: while very many packets pass, and all who look are so, there are stretches of parts of the time
        only, with pauses of less than a second between them.
        `receive` is called about once a second with the stretches by interface, in another thread; it must be quick
        and wait for nothing. Raises OSError: EPERM without CAP_NET_RAW.
        """
        leases.bounded(seconds)
        with self._lock:
            if self._sampler is None:
                self._look()
            lease = self._leases.add(self._clock(), seconds, receive, sparing=sparing)
            self._rests_until = self._rests_until if self._rests_until is None or sparing else 0.0
            if not self._running:
                try:
                    self._start(self._run)
                except BaseException:
                    self._leases.end(lease)
                    self._close()
                    raise
                self._running = True
        return Grant(self, lease)

    def holds(self, lease: leases.Lease) -> bool:
        """Return whether a lease has not ended."""
        with self._lock:
            return self._leases.holds(lease, self._clock())

    def renew(self, lease: leases.Lease, seconds: float) -> bool:
        """Let a lease end so many seconds from now; False if it has ended already."""
        leases.bounded(seconds)
        with self._lock:
            now = self._clock()
            if not self._leases.holds(lease, now):
                return False
            lease.ends = now + seconds
            return True

    def end(self, lease: leases.Lease) -> None:
        """End a lease. The sampler is closed by the time this returns, if it was the last one."""
        with self._lock:
            self._leases.end(lease)
            self._close_if_alone()
        self._changed.set()

    def close(self) -> None:
        """End all leases; the sampler is closed by the time this returns."""
        with self._lock:
            for lease in self._leases.at(self._clock()):
                self._leases.end(lease)
            self._close()
        self._changed.set()

    def turn(self) -> float | None:
        """Do what is due; return the seconds until the next turn, or None when nobody looks and all is closed."""
        due: list[tuple[leases.Lease, contract.Stretches]] = []
        with self._lock:
            self._changed.clear()
            sampler = self._sampler
            if self._close_if_alone() or sampler is None:
                self._running = False
                return None
            now = self._clock()
            try:
                if self._rests_until is not None:
                    if now < self._rests_until - _LATE_SECONDS:
                        return min(_DRAIN_SECONDS, self._rests_until - now)
                    sampler.take()
                    self._rests_until, self._stretch_ends = None, now + _AWAKE_SECONDS
                elif now < self._stretch_ends - _LATE_SECONDS:
                    sampler.drain()
                else:
                    stretches = self._ended(sampler, now)
                    due = [(lease, stretches) for lease in self._leases.at(now)]
                    if frozenset(self._interfaces()) != self._looked_at:
                        self._close()
                        self._look()
            except OSError as error:
                self._fail(error)
        for lease, seen in due:
            self._hand_over(lease, seen)
        return _SOON_SECONDS if now - self._opened_at < _DRAIN_SECONDS else _DRAIN_SECONDS

    def _ended(self, sampler: contract.Sampler, now: float) -> contract.Stretches:
        """End a stretch; a pause follows where many packets pass, for whom looking is not free."""
        if not all(lease.sparing for lease in self._leases.at(now)) or not self._busy:
            stretches = sampler.take()
            self._stretch_ends = now + _STRETCH_SECONDS
        else:
            stretches = sampler.pause()
            self._rests_until = now + self._spread(*_REST_SECONDS)
        paces = (each.packets / (each.ended - each.began) for each in stretches.values() if each.ended > each.began)
        self._busy = sum(paces) > _BUSY_PACKETS_PER_SECOND
        return stretches

    def _hand_over(self, lease: leases.Lease, stretches: contract.Stretches) -> None:
        """What is wrong with one asker ends that one's lease alone."""
        try:
            lease.receive(stretches)
        except Exception as error:
            with self._lock:
                self._leases.end(lease, error)

    def _run(self) -> None:
        """The thread: turn after turn, until nobody looks."""
        try:
            while (seconds := self.turn()) is not None:
                self._changed.wait(seconds)
        except BaseException as error:
            with self._lock:
                self._fail(error)
                self._running = False
            raise

    def _look(self) -> None:
        self._looked_at = frozenset(self._interfaces())
        self._sampler = self._open(self._looked_at)
        self._rests_until, self._busy = None, False
        self._opened_at = self._clock()
        self._stretch_ends = self._opened_at + _STRETCH_SECONDS

    def _fail(self, failure: BaseException) -> None:
        """End all leases for this reason."""
        for lease in self._leases.at(self._clock()):
            self._leases.end(lease, failure)
        self._close()

    def _close_if_alone(self) -> bool:
        if self._leases.at(self._clock()):
            return False
        self._close()
        return True

    def _close(self) -> None:
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.close()


def _in_a_thread(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name="sight", daemon=True).start()
