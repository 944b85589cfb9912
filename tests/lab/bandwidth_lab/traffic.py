"""Traffic from a server to a client, by plain sockets: TCP as fast as it goes or at a steady rate, and UDP.

The client always dials, so the server's packets are replies, as those of a real service are. The sockets belong to
the namespaces, the threads to the program. Measures only what the receiving application got; the wire is `meter`'s.
"""

from __future__ import annotations

import abc
import contextlib
import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from bandwidth_lab.topology import Host

CHUNK_BYTES = 256 * 1024
TICK_SECONDS = 0.005  # how often a steady sender sends what is due
OVERDUE_SECONDS = 1.0  # a steady sender that was held up catches up with so much, no more
PROMPT_SECONDS = 0.05  # the same for one that must never fill a queue, however busy the machine is
CONNECT_SECONDS = 10.0
UDP_SEGMENT = 103  # socket option: the kernel cuts one send into datagrams of this size
SO_RCVBUFFORCE = 33
SEQUENCE = struct.Struct("!Q")


def families(family: int) -> int:
    """The address family of sockets for IPv4 or IPv6."""
    return socket.AF_INET if family == 4 else socket.AF_INET6


class Progress(NamedTuple):
    """How far a steady flow has come: what it asked for so far, and what of it has arrived at the other host."""

    asked_bytes: float
    arrived_bytes: int


class Flow(abc.ABC):
    """Something that flows until it is stopped. `received_bytes` is application payload."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.sent_bytes = 0
        self.started_at = 0.0
        self._forgone_bytes = 0.0
        self._woken_at = 0.0  # when a steady sender last looked what is due
        self._overslept_seconds = 0.0  # what it did not catch up with because it was not woken
        self._overdue_seconds = OVERDUE_SECONDS
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abc.abstractmethod
    def start(self) -> None:
        """Begin to send."""

    def stop(self) -> None:
        """End the flow and its threads. Idempotent."""
        self._stopping.set()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5.0)
        for one in self._sockets:
            one.close()
        self._threads.clear()
        self._sockets.clear()

    def _spawn(self, *functions: Callable[[], None]) -> None:
        self.started_at = time.monotonic()
        for function in functions:
            thread = threading.Thread(target=self._until_stopped, args=(function,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _until_stopped(self, function: Callable[[], None]) -> None:
        """Run a sender or receiver; the error that a socket gives because it was shut down ends it quietly."""
        with contextlib.suppress(OSError):
            function()

    def _paced(self, rate_bits_per_second: float, unit_bytes: int) -> int:
        """Wait a tick; how many units of payload are due by now. What is overdue for long is not sent any more."""
        slept_at = time.monotonic()
        self._stopping.wait(TICK_SECONDS)
        self._woken_at = time.monotonic()
        self._overslept_seconds += max(0.0, self._woken_at - slept_at - self._overdue_seconds)
        asked = (self._woken_at - self.started_at) * rate_bits_per_second / 8
        self._forgone_bytes = max(
            self._forgone_bytes, asked - self.sent_bytes - self._overdue_seconds * rate_bits_per_second / 8
        )
        return int((asked - self.sent_bytes - self._forgone_bytes) // unit_bytes)


class TcpFlow(Flow):
    """One connection that the client dials and the server fills.

    `rate_bits_per_second`: payload at a steady rate; None: as fast as it goes. `dial`: address and port that the
    client dials where that differs from where the server listens (a DNAT between). `congestion`: cubic, bbr, reno;
    None: the system's.
    """

    def __init__(
        self,
        server: Host,
        client: Host,
        *,
        family: int = 4,
        congestion: str | None = None,
        rate_bits_per_second: float | None = None,
        port: int = 0,
        dial: tuple[str, int] | None = None,
    ) -> None:
        super().__init__()
        self._server, self._client, self._family = server, client, family
        self._congestion, self._rate = congestion, rate_bits_per_second
        self._port, self._dial = port, dial
        self._sending = False

    def start(self) -> None:
        kind = families(self._family)
        with self._server.namespace.socket(kind, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._congestion is not None:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._congestion.encode())
            listener.bind(("", self._port))
            listener.listen(1)
            listener.settimeout(CONNECT_SECONDS)
            receiver = self._client.namespace.socket(kind, socket.SOCK_STREAM)
            self._sockets.append(receiver)
            receiver.settimeout(CONNECT_SECONDS)
            receiver.bind((self._client.address(self._family), 0))
            receiver.connect(self._dial or (self._server.address(self._family), listener.getsockname()[1]))
            sender, _ = listener.accept()
        self._sockets.append(sender)
        receiver.settimeout(None)
        sender.settimeout(None)
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._rate is not None:  # what waits in the socket would be sent later, above the rate
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(32768, int(self._rate / 8 * 0.05)))
        self._spawn(lambda: self._send(sender), lambda: self._receive(receiver))

    def _send(self, sender: socket.socket) -> None:
        data = memoryview(bytes(CHUNK_BYTES))
        while not self._stopping.is_set():
            if self._rate is None:
                self.sent_bytes += sender.send(data)
                continue
            due = min(self._paced(self._rate, 1), CHUNK_BYTES)
            if due > 0:
                self._sending = True
                sender.sendall(data[:due])
                self._sending = False
                self.sent_bytes += due

    def progress(self) -> Progress:
        """Of a steady flow, what it asked for and what has arrived by now.

        While the network holds the sender up, the flow keeps asking; while a busy machine lets the sender sleep it
        asks for nothing. What waits to be read has arrived.
        """
        assert self._rate is not None
        receiver, _ = self._sockets
        until = time.monotonic() if self._sending else self._woken_at
        waiting = struct.unpack("i", fcntl.ioctl(receiver, termios.FIONREAD, b"\0" * 4))[0]
        asked_seconds = max(0.0, until - self.started_at - self._overslept_seconds)
        return Progress(asked_seconds * self._rate / 8, self.received_bytes + waiting)

    def _receive(self, receiver: socket.socket) -> None:
        room = bytearray(4 * CHUNK_BYTES)
        while count := receiver.recv_into(room, len(room), socket.MSG_TRUNC):  # discard in the kernel, copy nothing
            self.received_bytes += count


class UdpFlow(Flow):
    """Datagrams at a steady payload rate, numbered; the client first sends one, so that these are replies.

    `segments` > 1 hands that many datagrams to the kernel in one call (UDP GSO), for high rates. `overdue_seconds`:
    a sender that was held up for longer does not catch up with all of it.
    """

    def __init__(
        self,
        server: Host,
        client: Host,
        *,
        rate_bits_per_second: float,
        family: int = 4,
        payload_bytes: int = 1400,
        segments: int = 1,
        overdue_seconds: float = OVERDUE_SECONDS,
        port: int = 0,
        dial: tuple[str, int] | None = None,
    ) -> None:
        super().__init__()
        self._server, self._client, self._family = server, client, family
        self._overdue_seconds = overdue_seconds
        self._rate, self._payload_bytes, self._segments = rate_bits_per_second, payload_bytes, segments
        self._port, self._dial = port, dial
        self.sent_packets = 0
        self.received_packets = 0
        self.highest_sequence = -1

    @property
    def lost_packets(self) -> int:
        """Datagrams missing before the last that arrived; queued ones are not lost."""
        return self.highest_sequence + 1 - self.received_packets

    def start(self) -> None:
        kind = families(self._family)
        sender = self._server.namespace.socket(kind, socket.SOCK_DGRAM)
        self._sockets.append(sender)
        receiver = self._client.namespace.socket(kind, socket.SOCK_DGRAM)
        self._sockets.append(receiver)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)  # it never drops for want of room
        sender.bind(("", self._port))
        receiver.bind((self._client.address(self._family), 0))
        receiver.connect(self._dial or (self._server.address(self._family), sender.getsockname()[1]))
        receiver.send(b"hello")
        sender.settimeout(CONNECT_SECONDS)
        _, peer = sender.recvfrom(16)
        sender.settimeout(None)
        sender.connect(peer)
        if self._segments > 1:
            sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, self._payload_bytes)
        self._spawn(lambda: self._send(sender), lambda: self._receive(receiver))

    def _send(self, sender: socket.socket) -> None:
        size, segments = self._payload_bytes, self._segments
        data = bytearray(size * segments)
        while not self._stopping.is_set():
            for _ in range(min(self._paced(self._rate, size * segments), 4096)):
                for offset in range(segments):
                    SEQUENCE.pack_into(data, offset * size, self.sent_packets + offset)
                sender.send(data)
                self.sent_packets += segments
                self.sent_bytes += len(data)

    def _receive(self, receiver: socket.socket) -> None:
        room = bytearray(65536)
        while not self._stopping.is_set():
            count = receiver.recv_into(room)
            if count < SEQUENCE.size:
                continue
            (sequence,) = SEQUENCE.unpack_from(room)
            self.highest_sequence = max(self.highest_sequence, sequence)
            self.received_packets += 1
            self.received_bytes += count
