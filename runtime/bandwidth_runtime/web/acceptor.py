"""Accepts connections: the listening sockets of a server, and when and how fast it accepts.

Owns the listening sockets, one spare descriptor, and the pauses: a port that is not available is tried again, at
longer and longer intervals; while the process or the machine has no descriptor left, connections are closed at once.
Never reads or writes a connection. Used by the server's one thread, except for the first attempt to listen.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
from collections.abc import Callable

import structlog

from bandwidth_runtime.web import listening
from bandwidth_runtime.web.address import Address

ACCEPTS_PER_TURN = 64
BUSY_PAUSE_SECONDS = 0.004  # after a turn that took as many as it may: at most 16,000 connections a second
STARVED_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
STARVED_LOG_SECONDS = 60.0  # between two lines in the log about it
LISTEN_PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
_STARVED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = structlog.get_logger("http")


class Acceptor:
    """Calls `take` with each connection and its peer's address, and `spare` to free descriptors when there are none."""

    def __init__(
        self,
        address: Address,
        selector: selectors.BaseSelector,
        take: Callable[[socket.socket, str], None],
        spare: Callable[[], bool],
        monotonic: Callable[[], float],
    ) -> None:
        self._address = address
        self._selector = selector
        self._take = take
        self._spare = spare
        self._monotonic = monotonic
        self._listeners: list[socket.socket] = []
        self._attempts = 0
        self._listen_at = 0.0
        self._starved = 0
        self._starved_logged_at = -STARVED_LOG_SECONDS
        self._accept_at: float | None = None  # while no connection is taken
        self._reserve: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.trouble = ""  # why no connection is accepted; "" if nothing is wrong

    @property
    def port(self) -> int:
        """The port that it listens at; 0 while it does not listen."""
        return int(self._listeners[0].getsockname()[1]) if self._listeners else 0

    def turn(self, now: float) -> None:
        """Listen or accept again, if the pause before it is over."""
        if not self._listeners and now >= self._listen_at:
            self.open()
        if self._accept_at is not None and now >= self._accept_at:
            self._accept_at = None
            for listener in self._listeners:
                self._selector.register(listener, selectors.EVENT_READ, self.accept)

    def due_at(self) -> float | None:
        """Return when to call `turn` next; None: only after a connection came."""
        if not self._listeners:
            return self._listen_at
        return self._accept_at

    def open(self, *, resolve: bool = True) -> None:
        """Try to listen; without `resolve` a host name is left to the next `turn`, because resolving may take long."""
        try:
            self._listeners = listening.sockets(self._address, resolve=resolve)
        except socket.gaierror as error:
            if resolve:
                self._not_open(f"the host is not known: {error.strerror}")
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            taken = error.errno == errno.EADDRINUSE
            self._not_open(f"another program has this port ({words})" if taken else words)
        else:
            for listener in self._listeners:
                self._selector.register(listener, selectors.EVENT_READ, self.accept)
            self.trouble, self._attempts = "", 0
            log.info("serving", host=self._address.host, port=self.port)

    def _not_open(self, why: str) -> None:
        pause = LISTEN_PAUSES_SECONDS[min(self._attempts, len(LISTEN_PAUSES_SECONDS) - 1)]
        self._attempts += 1
        self._listen_at = self._monotonic() + pause
        what = f"cannot listen on --metrics-address {self._address}"
        trouble = f"{what}: {why}; metrics and probes are not served for now"
        if trouble != self.trouble:
            self.trouble = trouble
            log.warning(trouble)

    def accept(self, listener: socket.socket) -> None:
        """Accept the waiting connections, at most ACCEPTS_PER_TURN."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                taken, where = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _STARVED:
                    if self._spare():
                        continue
                    self._starve(listener)
                    return
                continue  # this connection was closed by its peer or by a firewall
            self._starved = 0
            self._take(taken, str(where[0]))
        self._pause(BUSY_PAUSE_SECONDS)

    def _starve(self, listener: socket.socket) -> None:
        """No descriptor is left and none can be freed: close the connection by means of the spare one, and pause."""
        now = self._monotonic()
        if now - self._starved_logged_at >= STARVED_LOG_SECONDS:
            self._starved_logged_at = now
            log.warning("no file descriptors are left; connections are sent away for now")
        self._pause(STARVED_PAUSES_SECONDS[min(self._starved, len(STARVED_PAUSES_SECONDS) - 1)])
        self._starved += 1
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            with contextlib.suppress(OSError):
                listener.accept()[0].close()
        with contextlib.suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _pause(self, seconds: float) -> None:
        if self._accept_at is None:
            for listener in self._listeners:
                self._selector.unregister(listener)
        self._accept_at = self._monotonic() + seconds

    def close(self) -> None:
        """Stop listening, finally."""
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
