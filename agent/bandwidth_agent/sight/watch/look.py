"""Looks for policies as long as it is held: a lease of the sight, and the sums of what that shows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from bandwidth_agent.kernel import contract
from bandwidth_agent.sight import leases
from bandwidth_agent.sight.watch.groups import Groups
from bandwidth_agent.sight.watch.sums import Sums, Taken

AGAIN_SECONDS = 30.0  # after the sight could not be opened
TROUBLE_MAX = 160


class Grant(Protocol):
    """What `sight.Sight.lease` returns."""

    @property
    def holds(self) -> bool: ...

    @property
    def failure(self) -> BaseException | None: ...

    def renew(self, seconds: float) -> bool: ...

    def close(self) -> None: ...


class Lease(Protocol):
    """`sight.Sight.lease`."""

    def __call__(self, seconds: float, receive: leases.Receive, *, sparing: bool = False) -> Grant: ...


class Look:
    """One look. `hold`, `take` and `close` are called by one thread; what is sampled comes from another."""

    def __init__(self, lease: Lease, monotonic: Callable[[], float]) -> None:
        """`lease` as `sight.Sight.lease`."""
        self._lease, self._monotonic = lease, monotonic
        self._lock = threading.Lock()
        self._sums: Sums | None = None
        self._ports = False
        self._grant: Grant | None = None
        self._again_at = float("-inf")
        self.trouble = ""  # what keeps us from looking, a part of a sentence

    def hold(self, groups: Groups, *, ports: bool) -> None:
        """Look for a minute from now, for these groups. What was seen stays, but for groups of other lengths."""
        with self._lock:
            if self._sums is None or (self._sums.groups.lengths, self._ports) != (groups.lengths, ports):
                self._sums, self._ports = Sums(groups, ports=ports), ports
            self._sums.groups = groups
        if self._grant is not None and self._grant.renew(leases.MOST_SECONDS):
            return
        failure = self._grant.failure if self._grant is not None else None
        self._grant, now = None, self._monotonic()
        if failure is not None:
            self.trouble = _said(failure)
        if now < self._again_at:
            return
        self._again_at = now + AGAIN_SECONDS
        self.take()
        try:
            self._grant, self.trouble = self._lease(leases.MOST_SECONDS, self._receive, sparing=True), ""
        except OSError as error:
            self.trouble = _said(error)

    def take(self) -> Taken:
        """Return what was seen since the last call."""
        with self._lock:
            return Taken() if self._sums is None else self._sums.take()

    def close(self) -> None:
        """Look no more; nothing is left in the kernel where nobody else looks. Idempotent."""
        grant, self._grant = self._grant, None
        if grant is not None:
            grant.close()
        with self._lock:
            self._sums = None
        self.trouble, self._again_at = "", float("-inf")

    def _receive(self, stretches: contract.Stretches) -> None:
        with self._lock:
            if self._sums is not None:
                self._sums.add(stretches)


def _said(error: BaseException) -> str:
    if isinstance(error, PermissionError):
        return "it may not look at packets: give the agent CAP_NET_RAW"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"it cannot look at packets: {reason or error}"[:TROUBLE_MAX]
