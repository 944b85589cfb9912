"""Deadlines for whole requests, however slowly a server sends its answer.

urllib3's timeouts are for single reads, so a byte from time to time keeps a request alive. Here a thread sets a
deadline for everything that it does within a block, and the sockets of this module wait at most until then while they
connect, negotiate TLS, send and receive. Without a deadline they behave like urllib3's own.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from bandwidth_kube.transport import peers

KEEPALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),  # a stream without events is no idle connection to what is between
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]

_of_thread = threading.local()


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Within the block, operations of this thread on sockets of this module raise TimeoutError after `seconds`.

    Of nested deadlines the earliest counts.
    """
    outer = getattr(_of_thread, "at", None)
    at = time.monotonic() + seconds
    _of_thread.at = at if outer is None else min(at, outer)
    try:
        yield
    finally:
        _of_thread.at = outer


@contextlib.contextmanager
def _shortened(sock: socket.socket) -> Iterator[None]:
    """Within the block, shorten the socket's timeout to what is left until the deadline."""
    at = getattr(_of_thread, "at", None)
    if at is None:
        yield
        return
    left = at - time.monotonic()
    if left <= 0.0:
        raise TimeoutError("timed out")
    known = sock.gettimeout()
    sock.settimeout(left if known is None else min(known, left))
    try:
        yield
    finally:
        if sock.fileno() >= 0:
            sock.settimeout(known)


class PlainSocket(socket.socket):
    """A socket that keeps to the deadline of its thread."""

    def recv_into(self, *arguments: Any, **keywords: Any) -> int:
        with _shortened(self):
            return super().recv_into(*arguments, **keywords)

    def sendall(self, *arguments: Any, **keywords: Any) -> None:
        with _shortened(self):
            super().sendall(*arguments, **keywords)


class TlsSocket(ssl.SSLSocket):
    """The same with TLS; an SSLContext that names this class makes it from a connected socket."""

    def recv_into(self, *arguments: Any, **keywords: Any) -> int:
        with _shortened(self):
            return super().recv_into(*arguments, **keywords)

    def send(self, *arguments: Any, **keywords: Any) -> int:
        with _shortened(self):
            return super().send(*arguments, **keywords)

    def do_handshake(self, *arguments: Any, **keywords: Any) -> None:
        with _shortened(self):
            super().do_handshake(*arguments, **keywords)


class Http(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class Https(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class HttpPool(HTTPConnectionPool):
    ConnectionCls = Http


class HttpsPool(HTTPSConnectionPool):
    ConnectionCls = Https

    def _validate_conn(self, conn: Any) -> None:
        """Connect, without urllib3's warning about an unverified server, because the kubeconfig asks for that."""
        if conn.is_closed:
            conn.connect()


def use(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """Make a pool manager use the connections of this module; return it."""
    manager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}
    return manager


def _connected(connection: HTTPConnection) -> socket.socket:
    """Connect to one of a host's addresses, with an equal part of the remaining time for each."""
    host = connection._dns_host.strip("[]")
    seconds = connection.timeout if isinstance(connection.timeout, (int, float)) else None
    at = getattr(_of_thread, "at", None)
    try:
        found = socket.getaddrinfo(host, connection.port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    except OSError as error:
        reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
        raise NameResolutionError(host, connection, reason) from error
    except UnicodeError as error:
        raise NewConnectionError(connection, f"{host!r} is no name of a host") from error
    last: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(found):
        made = PlainSocket(family, kind, protocol)
        try:
            for option in connection.socket_options or ():
                made.setsockopt(*option)
            left = seconds if at is None else max(0.001, at - time.monotonic()) / (len(found) - number)
            made.settimeout(left if seconds is None else min(seconds, left or seconds))
            made.connect(address)
            peers.note(str(address[0]))
            return made
        except OSError as error:
            made.close()
            last = error
    if isinstance(last, TimeoutError):
        raise ConnectTimeoutError(connection, f"no connection to {host} in time") from last
    raise NewConnectionError(connection, f"no connection: {last}") from last
