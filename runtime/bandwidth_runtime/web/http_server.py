"""The web server of both programs: /metrics, /healthz and /readyz, for reading only, without TLS.

    acceptor ──▶ asking ───────▶ answering ───────────────────▶ leaving
                 until the head   until the page is made         until the peer
                 is whole: 5 s    and all bytes are sent: 30 s   closes: 1 s

Owns one thread, its connections and their deadlines. Built for hostile clients: the number of connections is bounded
(`bounded_set` decides which one is closed for a new one), and so is the duration of each. No error in here, and no
port that is taken, ever reaches the rest of the process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog

from bandwidth_runtime import descriptors
from bandwidth_runtime.web import http_message, http_page
from bandwidth_runtime.web.acceptor import Acceptor
from bandwidth_runtime.web.address import Address
from bandwidth_runtime.web.bounded_set import BoundedSet, peer_of

PAGE = "/metrics"
ASKING_MOST, ANSWERING_MOST, LEAVING_MOST = 96, 16, 16  # connections
ASKING_SECONDS, EXCHANGE_SECONDS, LEAVING_SECONDS = 5.0, 30.0, 1.0
DESCRIPTORS_SHARE = 4  # of the descriptors that the process may have, at most one in so many is for connections
FEWEST = 4  # of each sort, however few descriptors there are
STARVED_SECONDS = 60.0  # without a lack of descriptors, until there may be as many connections as before
EXPIRY_SECONDS = 0.25  # between two looks at who has run out of time
TROUBLE_PAUSE_SECONDS = 1.0
END_SECONDS = 2.0  # for the thread to end
SEND_BUFFER_BYTES = 262_144  # of the kernel, for each connection
READ_BYTES = 16_384

log = structlog.get_logger("http")


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """What is served: one page, which may take time, and probes (good or not, and why), which must answer at once."""

    page: Callable[[], bytes]
    page_type: str
    probes: Mapping[str, Callable[[], tuple[bool, str]]]  # by path


def _bounds() -> list[int]:
    """Return how many connections of each kind there may be, given how many descriptors the process may have."""
    share = min(1.0, descriptors.limit() / DESCRIPTORS_SHARE / (ASKING_MOST + ANSWERING_MOST + LEAVING_MOST))
    return [max(FEWEST, int(most * share)) for most in (ASKING_MOST, ANSWERING_MOST, LEAVING_MOST)]


class _Connection:
    __slots__ = ("deadline", "ends_at", "head_only", "peer", "place", "received", "socket", "unsent")

    def __init__(self, of: socket.socket, peer: str, now: float, place: BoundedSet[_Connection]) -> None:
        self.socket = of
        self.peer = peer
        self.place = place
        self.deadline = now + ASKING_SECONDS
        self.ends_at = now + EXCHANGE_SECONDS
        self.received = bytearray()
        self.head_only = False
        self.unsent: list[memoryview] = []


class Server:
    """Serves from `start` to `close`; waits for the port if it is not available yet."""

    def __init__(self, address: Address, site: Site, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._site = site
        self._monotonic = monotonic
        self._page = http_page.Page(site.page_type, site.page, self.look)
        descriptors.raise_limit()
        self._asking, self._answering, self._leaving = (BoundedSet[_Connection](most) for most in _bounds())
        self._starved_at: float | None = None  # since when there may be fewer
        self._connections: dict[_Connection, None] = {}
        self._waiting: dict[_Connection, None] = {}  # for the page
        self._expire_at = 0.0
        self._closing = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._page_is_made)
        self._acceptor = Acceptor(address, self._selector, self._take, self._spare, monotonic)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens at; 0 while it does not listen."""
        return self._acceptor.port

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    @property
    def trouble(self) -> str:
        """Why nothing is served now; "" if nothing is wrong."""
        return self._acceptor.trouble

    def start(self) -> None:
        """Begin to serve; when this returns it listens, unless the port is taken or the host is a name to resolve."""
        self._acceptor.open(resolve=False)
        self._page.start()
        self._thread.start()

    def close(self) -> None:
        """Stop serving; requests without an answer so far get none."""
        self._closing.set()
        self._page.close()
        self.look()
        self._thread.join(END_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._turn()
                except Exception as error:
                    # Without probes the process would be killed though its work needs no web server: start again.
                    log.error("the web server failed, going on", why=str(error), exc_info=True)
                    self._drop_all()
                    self._closing.wait(TROUBLE_PAUSE_SECONDS)
        finally:
            self._drop_all()
            self._acceptor.close()
            self._selector.close()
            self._woken.close()
            self._waker.close()

    def _turn(self) -> None:
        now = self._monotonic()
        self._acceptor.turn(now)
        due = [at for at in (self._acceptor.due_at(), self._expire_at if self._connections else None) if at is not None]
        for key, _ in self._selector.select(max(0.0, min(due) - now) if due else None):
            if isinstance(key.data, _Connection):
                self._step(key.data)
            else:
                key.data(key.fileobj)
        now = self._monotonic()
        if now >= self._expire_at:
            self._expire_at = now + EXPIRY_SECONDS
            for connection in [c for c in self._connections if now >= c.deadline]:
                self._drop(connection)
            if self._starved_at is not None and now - self._starved_at >= STARVED_SECONDS:
                self._starved_at = None
                self._bound(_bounds())

    def look(self) -> None:
        """Wake the thread, so that it looks at once at what is due, instead of at the next event."""
        with contextlib.suppress(OSError):  # full: it will wake up; closed: there is no thread to wake
            self._waker.send(b"\0")

    # ── one connection ─────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, taken: socket.socket, host: str) -> None:
        connection = _Connection(taken, peer_of(host), self._monotonic(), self._asking)
        self._connections[connection] = None
        self._into(connection, self._asking)
        try:
            taken.setblocking(False)
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            self._selector.register(taken, selectors.EVENT_READ, connection)
        except OSError:
            self._drop(connection)
            return
        self._step(connection)  # most requests have arrived already

    def _step(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return  # it was closed in this very turn, to make room
        try:
            if connection.place is self._asking:
                self._read(connection)
            elif connection.place is self._answering:
                self._send(connection)
            elif not connection.socket.recv(READ_BYTES):
                # Other bytes that came were read before: a close with unread bytes would discard our answer.
                self._drop(connection)
        except BlockingIOError:
            return
        except OSError as error:  # the client is gone before the answer was sent
            log.debug("request not answered", peer=connection.peer, error=str(error))
            self._drop(connection)

    def _read(self, connection: _Connection) -> None:
        data = connection.socket.recv(READ_BYTES)
        if not data:
            self._drop(connection)
            return
        connection.received += data
        request = http_message.read(connection.received)
        if request is None:
            return
        connection.received.clear()
        connection.deadline = connection.ends_at
        self._into(connection, self._answering)
        if isinstance(request, http_message.Answer):
            self._answer(connection, request)
            return
        connection.head_only = request.head_only
        answer = self._page.ask() if request.path == PAGE else self._probe(request.path)
        if answer is not None:
            self._answer(connection, answer)
        else:
            self._waiting[connection] = None
            self._selector.unregister(connection.socket)  # nothing that it may send now matters

    def _probe(self, path: str) -> http_message.Answer:
        probe = self._site.probes.get(path)
        if probe is None:
            return http_message.refusal(404, f"here are {', '.join(sorted({PAGE, *self._site.probes}))}")
        good, message = probe()
        return http_message.refusal(200 if good else 503, message)

    def _page_is_made(self, woken: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            woken.recv(READ_BYTES)
        answer = self._page.take() if self._waiting else None
        if answer is None:
            return
        waiting, self._waiting = self._waiting, {}
        for connection in waiting:
            try:
                self._selector.register(connection.socket, selectors.EVENT_READ, connection)
                self._answer(connection, answer)
            except OSError:
                self._drop(connection)

    def _answer(self, connection: _Connection, answer: http_message.Answer) -> None:
        connection.unsent = [memoryview(http_message.head(answer))]
        if answer.body and not connection.head_only:
            connection.unsent.append(memoryview(answer.body))  # one body for all who get it
        self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        """Send as much as the kernel accepts; after the last byte wait for the peer to close."""
        unsent = connection.unsent
        while unsent:
            try:
                sent = connection.socket.sendmsg(unsent)
            except BlockingIOError:
                return
            while unsent and sent >= len(unsent[0]):
                sent -= len(unsent.pop(0))
            if unsent:
                unsent[0] = unsent[0][sent:]
        connection.socket.shutdown(socket.SHUT_WR)
        connection.deadline = min(connection.ends_at, self._monotonic() + LEAVING_SECONDS)
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
        self._into(connection, self._leaving)

    # ── who is here ────────────────────────────────────────────────────────────────────────────────────────────

    def _into(self, connection: _Connection, place: BoundedSet[_Connection]) -> None:
        connection.place.remove(connection.peer, connection)
        connection.place = place
        gone = place.add(connection.peer, connection)
        if gone is not None:
            self._drop(gone)

    def _spare(self) -> bool:
        """The process has no descriptor left: close half of the connections, so that the rest of it can work."""
        self._starved_at = self._monotonic()
        halved = (max(FEWEST, len(place) // 2) for place in (self._asking, self._answering, self._leaving))
        return self._bound([min(pair) for pair in zip(halved, _bounds(), strict=True)])

    def _bound(self, most: Sequence[int]) -> bool:
        """Allow at most so many connections asking, answering and leaving; return whether any was closed for it."""
        places = (self._asking, self._answering, self._leaving)
        gone = [each for place, bound in zip(places, most, strict=True) for each in place.bound(bound)]
        for connection in gone:
            self._drop(connection)
        return bool(gone)

    def _drop(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        del self._connections[connection]
        self._waiting.pop(connection, None)
        connection.place.remove(connection.peer, connection)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _drop_all(self) -> None:
        for connection in list(self._connections):
            self._drop(connection)
