"""What leaves this host, as the source of a screen or of one reading: samples in, snapshots out.

    Sight's thread ── stretches, each second ──▶ queue, wake ──▶ poll(): history ──▶ snapshot every two seconds

Owns the lease on the sampler and the history. What can be done about a client is in `actions`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from bandwidth_agent.commands.looking import limit_reader, reverse_names, uplinks
from bandwidth_agent.kernel import contract, refusals
from bandwidth_agent.sight import estimates, sight
from bandwidth_agent.sight.limits_in_force import LimitsInForce
from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_sight import history
from bandwidth_sight.draft import Draft
from bandwidth_sight.rows import Row, Snapshot
from bandwidth_sight.source import Preview, SourceError

LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
SNAPSHOT_SECONDS = 1.9  # between two: stretches come each second, so every second one makes a snapshot
QUEUE_MAX = 120  # stretches that may wait while the screen does something else


class Actions(Protocol):
    """What can be done about a client on this host; as in `source.Source`."""

    def refusal(self, client: Prefix) -> str: ...

    def preview(self, draft: Draft) -> Preview: ...

    def apply(self, preview: Preview) -> str: ...

    def write_yaml(self, preview: Preview, path: str) -> str: ...


class HostSource:
    """The source of one host."""

    def __init__(
        self,
        seen: sight.Sight,
        names: Callable[[], Collection[str]],
        limits: limit_reader.LimitReader,
        actions: Actions,
        *,
        own_addresses: frozenset[Prefix] = frozenset(),
        peers: Callable[[], Mapping[Prefix, str]] = dict,
        speed: Callable[[Collection[str]], int | None] = uplinks.capacity,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Open the sampler. Raises OSError: EPERM without CAP_NET_RAW.

        `peers`: hosts that packets of others are handed to, and what they are.
        """
        self._seen, self._names, self._limits, self._actions = seen, names, limits, actions
        self._own_addresses, self._peers, self._speed = own_addresses, peers, speed
        self._clock, self._wall = clock, wall
        self._resolver = reverse_names.Resolver()
        self._queue: collections.deque[contract.Stretches] = collections.deque(maxlen=QUEUE_MAX)
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        self._grant: sight.Grant | None = None
        try:
            self._begin()
        except OSError:
            self._close_pipe()
            raise

    def _begin(self) -> None:
        self._queue.clear()
        self._history = history.History(self._clock())
        self._snapshot_due = float("-inf")
        self._renew_at = self._clock() + RENEW_SECONDS
        self._grant = self._seen.lease(LEASE_SECONDS, self._receive)

    def _receive(self, stretches: contract.Stretches) -> None:
        """Hand stretches over to the thread of the screen; called by the thread of the sampler."""
        self._queue.append(stretches)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b".")

    # ── source.Source ──────────────────────────────────────────────────────────────────────────────────────────

    def descriptors(self) -> Sequence[int]:
        return (self._woken,)

    def poll(self) -> Snapshot | None:
        self._renew()
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                pass
        new = False
        while self._queue:
            new |= estimates.add(self._history, self._queue.popleft(), self._clock())
        if not new or self._clock() < self._snapshot_due:
            return None
        self._snapshot_due = self._clock() + SNAPSHOT_SECONDS
        return self.snapshot()

    def networks(self) -> Collection[Prefix]:
        return self._limits.networks

    def refusal(self, client: Prefix) -> str:
        return self._actions.refusal(client)

    def preview(self, draft: Draft) -> Preview:
        return self._actions.preview(draft)

    def apply(self, preview: Preview) -> str:
        return self._actions.apply(preview)

    def write_yaml(self, preview: Preview, path: str) -> str:
        return self._actions.write_yaml(preview, path)

    def name_of(self, client: Prefix) -> str:
        return self._resolver.name_of(client)

    def pause(self) -> None:
        if self._grant is not None:
            self._grant.close()
            self._grant = None

    def resume(self) -> None:
        try:
            self._begin()
        except OSError as error:
            raise SourceError(f"packets cannot be seen any more: {refusals.words(error)}") from None

    def close(self) -> None:
        self.pause()
        self._seen.close()
        self._close_pipe()

    # ── parts ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def seconds(self) -> float:
        """For how long it was looked, as far as it is counted."""
        return self._history.ended - self._history.began

    def _renew(self) -> None:
        if self._grant is None or self._clock() < self._renew_at:
            failed = self._grant.failure if self._grant is not None else None
            if failed is None:
                return
        self._renew_at = self._clock() + RENEW_SECONDS
        if self._grant is not None and self._grant.renew(LEASE_SECONDS):
            return
        failure = self._grant.failure if self._grant is not None else None
        if isinstance(failure, OSError):
            raise SourceError(f"packets cannot be seen any more: {refusals.words(failure)}")
        if failure is not None:
            raise failure
        self.resume()  # this process was stopped for longer than the lease: from the beginning

    def snapshot(self) -> Snapshot:
        """Return what is known now; rows are single clients, none of them folded."""
        names = tuple(self._names())
        limits = self._limits.read()
        taken = self._history.snapshot(
            self._wall(), interfaces=names, capacity_bits_per_second=self._speed(names), notes=self._notes()
        )
        peers = self._peers()
        return dataclasses.replace(taken, rows=tuple(self._row(row, limits, peers) for row in taken.rows))

    def _row(self, row: Row, limits: LimitsInForce | None, peers: Mapping[Prefix, str]) -> Row:
        label = "this host" if row.client in self._own_addresses else peers.get(row.client) or _kind(row.client)
        holds = None if limits is None else limits.holds(row.client)
        return dataclasses.replace(row, label=label, holds=holds) if label or holds != () else row

    def _notes(self) -> tuple[str, ...]:
        return (self._limits.trouble,) if self._limits.trouble else ()

    def _close_pipe(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._wake)
            os.close(self._woken)


def _kind(client: Prefix) -> str:
    """Return what an address is that is no client of anybody: multicast and broadcast leave every host."""
    if client.family == 4:
        if client.network == 0xFFFFFFFF:
            return "broadcast"
        return "multicast" if client.network >> 28 == 0xE else ""
    return "multicast" if client.network >> (addresses.BITS[6] - 8) == 0xFF else ""
