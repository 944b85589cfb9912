"""A way out of a namespace for one port: what dials 127.0.0.1:PORT inside is connected to 127.0.0.1:PORT outside.

So an agent in a namespace reaches an API server on this machine's loopback by the address that is in every
kubeconfig, and the namespace needs no interface for it that the agent could take for an uplink. Owns the listening
socket inside and plain connections outside; changes no interface and no route, and looks into nothing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from bandwidth_lab.namespaces import Namespace

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 65536
CONNECT_SECONDS = 10.0


class Relay:
    """Connects until it is closed. Whatever ends on one side ends on the other."""

    def __init__(self, namespace: Namespace, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._listener = namespace.call(lambda: socket.create_server((LOOPBACK, port)))
        self._spawn(self._accept)

    def close(self) -> None:
        """Break off every connection and refuse new ones. Idempotent."""
        with self._lock:
            self._closed = True
            sockets = [self._listener, *self._open]
        for each in sockets:
            _end(each)
        for thread in self._threads:
            thread.join(CONNECT_SECONDS)
        self._listener.close()

    def _spawn(self, function: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=function, args=arguments, name="relay", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._connect, inside)

    def _connect(self, inside: socket.socket) -> None:
        with inside:
            try:
                outside = socket.create_connection((LOOPBACK, self._port), CONNECT_SECONDS)
            except OSError:
                return  # to the one inside this is a connection that breaks off at once
            with outside:
                outside.settimeout(None)
                with self._lock:
                    if self._closed:
                        return
                    self._open |= {inside, outside}
                back = threading.Thread(target=_pump, args=(outside, inside), name="relay", daemon=True)
                back.start()
                _pump(inside, outside)
                back.join()
                with self._lock:
                    self._open -= {inside, outside}


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes until either side ends, then end both."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            sink.sendall(data)
    _end(source)
    _end(sink)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
