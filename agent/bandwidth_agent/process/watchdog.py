"""Ends an agent that is stuck, so that systemd or the kubelet starts it again. Limits in the kernel stay in force.

The kubelet cannot do this by a probe: if another program had taken the agent's port and answered in its place, an
agent that works would be killed. Owns one thread; touches neither the kernel nor a socket.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import structlog

from bandwidth_agent.reporting import health

LOOK_SECONDS = 5.0
LOOKS = 12  # in a row that find it stuck; so a process that was suspended has that time to recover
STUCK = 70  # exit code, EX_SOFTWARE of sysexits.h

log = structlog.get_logger("run")


class Watchdog:
    """Checks the health of the process from `start` to `stop`; calls `end` once after LOOKS bad results in a row."""

    def __init__(
        self,
        healthy: Callable[[], health.ProbeResult],
        wait: Callable[[float], bool] | None = None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._healthy = healthy
        self._stopping = threading.Event()
        self._wait = wait if wait is not None else self._stopping.wait  # True: stop
        self._end = end
        self._thread = threading.Thread(target=self.watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread. Raises RuntimeError if the system refuses one."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; does not wait for it."""
        self._stopping.set()

    def watch(self) -> None:
        """Check until stopped, or until the process was ended; the body of the thread."""
        bad = 0
        while not self._wait(LOOK_SECONDS):
            result = self._healthy()
            bad = 0 if result.good else bad + 1
            if bad >= LOOKS:
                log.critical("ended because it is stuck; the limits stay in force", why=result.message)
                self._end(STUCK)
                return
