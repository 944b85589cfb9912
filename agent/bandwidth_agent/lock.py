"""One agent per network namespace.

The lock is an abstract unix socket: it lives in the network namespace, needs no file and vanishes with its process,
however that ends.
"""

from __future__ import annotations

import errno
import socket
import struct
from types import TracebackType
from typing import Self

NAME = "\0client-bandwidth-agent"
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_ASKED_MOST = 1024  # nobody accepts; so many may ask who holds the lock before they get no answer


class Lock:
    """Held from the time it is made; raises `HeldError` if another process of this network namespace holds it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(NAME)
            self._socket.listen(_ASKED_MOST)
        except OSError as error:
            self._socket.close()
            if error.errno == errno.EADDRINUSE:
                raise HeldError(holder()) from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


class HeldError(Exception):
    """Another process holds the lock; `pid` is 0 where the kernel does not say which."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"process {pid}" if pid else "another process")
        self.pid = pid


def holder() -> int:
    """The process that holds the lock in this network namespace; 0 if none does, or none that we may see."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(NAME)
        except OSError:
            return 0
        pid, _, _ = _CREDENTIALS.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(pid)
