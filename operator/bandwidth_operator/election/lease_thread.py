"""Takes and renews the lease regularly, from a thread of its own. Decides nothing about it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from bandwidth_kube import client
from bandwidth_operator.election import lease
from bandwidth_operator.election.fence import Fence, boot_clock
from bandwidth_operator.reporting import health

log = structlog.get_logger(__name__)


class LeaseThread:
    """The thread that renews the lease. `crashed`: the error by which it ended."""

    def __init__(self, held: lease.Lease, signs: health.Health, clock: Callable[[], float] = boot_clock) -> None:
        self._lease = held
        self._signs = signs
        self._clock = clock
        self._stopping = threading.Event()
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._aside_until = 0.0  # by the clock
        self.crashed: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; the lease stays as it is."""
        self._stopping.set()
        self._thread.join()

    def stand_aside(self, seconds: float) -> None:
        """Do not take the lease for so many seconds, so that another replica can; it must be released already."""
        self._aside_until = self._clock() + seconds

    def wait_leading(self, seconds: float) -> Fence | None:
        """Wait until this replica leads, at most so many seconds; return its fence, None if it does not lead."""
        fence = self._lease.fence
        if fence is None or not fence.open:
            self._changed.wait(seconds)
            self._changed.clear()
        fence = self._lease.fence
        return fence if fence is not None and fence.open else None

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.turn()
                self._stopping.wait(self._lease.turn_again_seconds())
        except BaseException as error:
            # Whoever reads `crashed` ends the process by it.
            self.crashed = error
            if self._lease.fence is not None:
                self._lease.fence.end()
            self._changed.set()

    def turn(self) -> None:
        """Take or renew the lease if possible now, and record the result."""
        before = self._lease.fence
        if before is None and self._clock() < self._aside_until:
            self._signs.turned("lease")
            return
        try:
            self._lease.turn()
            self._signs.heard()
        except client.ApiError as error:
            log.warning("the lease could not be turned", error=str(error), leading=before is not None)
        self._signs.turned("lease")
        if self._lease.fence is not before:
            self._changed.set()
