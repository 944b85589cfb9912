"""Netlink: one socket, framing of messages, whole dumps, and batches whose errors belong to single messages.

Owns bytes and errno only; contains nothing about links, qdiscs or filters. Reads are complete or raise OSError; a
refusal of one message of a batch is a value, because it must not stop the others from being applied.

Why not pyroute2's sockets and messages: encoding one class takes 800 µs and decoding one 100 µs there, 2 µs each here,
and importing it takes 24 MiB. All that this program sends to rtnetlink fits in these few functions.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port id
ATTRIBUTE = struct.Struct("=HH")  # length, type

REQUEST = 0x1
ACK = 0x4
DUMP = 0x300
REPLACE = 0x100
EXCLUSIVE = 0x200
CREATE = 0x400

NESTED = 0x8000

_NOOP, _ERROR, _DONE = 1, 2, 3
_DUMP_INTERRUPTED = 0x10
_ACK_ATTRIBUTES = 0x200
_ACK_MESSAGE_TEXT = 1  # NLMSGERR_ATTR_MSG
_TYPE_MASK = 0x3FFF

_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK, _STRICT_CHECK = 10, 11, 12
_RECEIVE_BUFFER_FORCE = 33  # SO_RCVBUFFORCE

_RECEIVE_BUFFER_BYTES = 4 << 20  # room for an error message per message of a chunk
_RECEIVE_BYTES = 1 << 17  # the kernel builds dumps in pieces of at most 32 KiB
_TIMEOUT = struct.pack("=qq", 30, 0)  # the kernel answers at once; after 30 s something is broken
_CHUNK_MESSAGES = 256
_CHUNK_BYTES = 60_000
_DUMP_ATTEMPTS = 10


class Message(NamedTuple):
    """One request without its netlink header."""

    type: int
    flags: int
    body: bytes


class Refusal(NamedTuple):
    """The errno with which the kernel refused a message; `text` is for people only."""

    errno: int
    text: str


class Part(NamedTuple):
    """One message of a dump: the bytes of `buffer` from `start` (behind the netlink header) to `end`."""

    buffer: bytes
    start: int
    end: int


def attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute, padded."""
    length = 4 + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length & 3)


def text_attribute(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def int_attribute(kind: int, value: int) -> bytes:
    """Encode an attribute of 32 bits."""
    return attribute(kind, struct.pack("=I", value))


def nest(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(attributes))


def attributes(buffer: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield each attribute between `start` and `end` as (type, start of payload, end of payload)."""
    unpack = ATTRIBUTE.unpack_from
    while start + 4 <= end:
        length, kind = unpack(buffer, start)
        if length < 4 or start + length > end:
            raise OSError(errno.EBADMSG, "netlink attribute longer than its message")
        yield kind & _TYPE_MASK, start + 4, start + length
        start += (length + 3) & ~3


def payloads(buffer: bytes, start: int, end: int) -> dict[int, bytes]:
    """Return the attributes between `start` and `end` by type; of several of one type the last."""
    return {kind: buffer[first:last] for kind, first, last in attributes(buffer, start, end)}


def text(payload: bytes) -> str:
    return payload.partition(b"\0")[0].decode(errors="replace")


def end(buffer: bytes, start: int) -> int:
    """Return the end of the message whose header ends at `start`."""
    return start - 16 + int.from_bytes(buffer[start - 16 : start - 12], sys.byteorder)


class Socket:
    """A request socket in the network namespace of the calling thread. Blocking; not thread-safe."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
            enlarge_receive_buffer(self._socket, _RECEIVE_BUFFER_BYTES)
        except BaseException:
            self._socket.close()
            raise
        self.port_id: int = self._socket.getsockname()[0]

    def close(self) -> None:
        self._socket.close()

    def hand_down(self) -> None:
        """Let programs that this process starts inherit the socket; it is closed when the last of them ends."""
        self._socket.set_inheritable(True)

    def dump(self, message_type: int, body: bytes) -> list[Part]:
        """Return all messages that answer a dump request; read again while the kernel reports an inconsistent dump."""
        return [
            Part(buffer, start, end(buffer, start))
            for buffer, starts in self.dump_pieces(message_type, body)
            for start in starts
        ]

    def dump_pieces(self, message_type: int, body: bytes) -> list[tuple[bytes, list[int]]]:
        """Return the same as buffers, each with the offsets behind the netlink headers in it.

        For hot paths: avoids one object per message, which would double the decoding time.
        """
        for _ in range(_DUMP_ATTEMPTS):
            pieces = self._dump_once(message_type, body)
            if pieces is not None:
                return pieces
        raise OSError(errno.EAGAIN, "every reading was torn by changes of others")

    def _dump_once(self, message_type: int, body: bytes) -> list[tuple[bytes, list[int]]] | None:
        sequence = self._send([Message(message_type, DUMP, body)], acknowledge=False)
        pieces: list[tuple[bytes, list[int]]] = []
        torn = 0
        unpack = HEADER.unpack_from
        while True:
            buffer = self._socket.recv(_RECEIVE_BYTES)
            starts: list[int] = []
            pieces.append((buffer, starts))
            offset, end = 0, len(buffer)
            while offset + 16 <= end:
                length, kind, flags, answered, _ = unpack(buffer, offset)
                if length < 16:
                    raise OSError(errno.EBADMSG, "netlink message shorter than its header")
                if answered == sequence:
                    torn |= flags & _DUMP_INTERRUPTED
                    if kind > _DONE:
                        starts.append(offset + 16)
                    elif kind != _NOOP:
                        refusal = _refusal(buffer, offset, length, flags)
                        if refusal.errno:
                            raise OSError(refusal.errno, refusal.text)
                        return None if torn else pieces
                offset += (length + 3) & ~3

    def execute(self, messages: Sequence[Message], *, together: bool = False) -> dict[int, Refusal]:
        """Send messages and return the refusals by position; an empty dict means that all were applied.

        Each message is applied or refused by itself, in order. `together`: in a single system call, so that the process
        cannot be killed between two of them.
        """
        refusals: dict[int, Refusal] = {}
        first = 0
        while first < len(messages):
            last, size = first, 0
            while last < len(messages) and (together or (last - first < _CHUNK_MESSAGES and size < _CHUNK_BYTES)):
                size += 16 + len(messages[last].body)
                last += 1
            sequence = self._send(messages[first:last], acknowledge=True)
            self._collect(refusals, sequence - (last - first - 1), sequence, first)
            first = last
        return refusals

    def demand(self, *messages: Message) -> None:
        """Send messages in a single system call. Raises OSError if one was refused."""
        for refusal in self.execute(messages, together=True).values():
            raise OSError(refusal.errno, refusal.text)

    def ask(self, message: Message) -> Part:
        """Send a request that is answered by exactly one message. Raises OSError for a refusal or no answer.

        An acknowledgement is requested too, because there may be no answer at all (of a qdisc that was just deleted)
        and we would wait for it; the next read skips the acknowledgement.
        """
        sequence = self._send([message], acknowledge=True)
        while True:
            buffer = self._socket.recv(_RECEIVE_BYTES)
            length, kind, flags, answered, _ = HEADER.unpack_from(buffer)
            if answered != sequence:
                continue
            if kind <= _DONE:
                refusal = _refusal(buffer, 0, length, flags)
                raise OSError(refusal.errno or errno.ENODATA, refusal.text or "the kernel has no answer")
            return Part(buffer, 16, length)

    def ask_all(self, messages: Sequence[Message]) -> list[Part | Refusal]:
        """Send requests that are each answered by one message or refused; return the answers in their order."""
        answers: dict[int, Part | Refusal] = {}
        for first in range(0, len(messages), _CHUNK_MESSAGES):
            chunk = messages[first : first + _CHUNK_MESSAGES]
            begin = (self._send(chunk, acknowledge=False) - len(chunk)) % 0xFFFF_FFFF + 1
            expected = set(range(len(chunk)))
            while expected:
                buffer = self._socket.recv(_RECEIVE_BYTES)
                offset = 0
                while offset + 16 <= len(buffer):
                    length, kind, flags, answered, _ = HEADER.unpack_from(buffer, offset)
                    position = (answered - begin) % 0xFFFF_FFFF
                    if position in expected:
                        expected.discard(position)
                        refused = kind <= _DONE
                        answers[first + position] = (
                            _refusal(buffer, offset, length, flags)
                            if refused
                            else Part(buffer, offset + 16, offset + length)
                        )
                    offset += (max(length, 16) + 3) & ~3
        return [answers[position] for position in range(len(messages))]

    def _send(self, messages: Sequence[Message], *, acknowledge: bool) -> int:
        """Send messages in one system call with rising sequence numbers; return the last number."""
        pieces: list[bytes] = []
        last = len(messages) - 1
        for position, (kind, flags, body) in enumerate(messages):
            self._sequence = self._sequence % 0xFFFF_FFFF + 1
            if acknowledge and position == last:
                flags |= ACK
            padding = -len(body) & 3
            pieces.append(HEADER.pack(16 + len(body), kind, flags | REQUEST, self._sequence, 0))
            pieces.append(body + b"\0" * padding if padding else body)
        self._socket.send(b"".join(pieces))
        return self._sequence

    def _collect(self, refusals: dict[int, Refusal], first: int, last: int, position: int) -> None:
        """Read answers until the one to sequence number `last`; `first` belongs to `position`."""
        while True:
            buffer = self._socket.recv(_RECEIVE_BYTES)
            offset, end = 0, len(buffer)
            while offset + 16 <= end:
                length, kind, flags, answered, _ = HEADER.unpack_from(buffer, offset)
                behind = (answered - first) % 0xFFFF_FFFF
                if kind == _ERROR and behind <= (last - first) % 0xFFFF_FFFF:
                    refusal = _refusal(buffer, offset, length, flags)
                    if refusal.errno:
                        refusals[position + behind] = refusal
                    if answered == last:
                        return
                offset += (max(length, 16) + 3) & ~3


def _refusal(buffer: bytes, offset: int, length: int, flags: int) -> Refusal:
    """Decode an error, an acknowledgement or the end of a dump; errno 0 means success."""
    kind = HEADER.unpack_from(buffer, offset)[1]
    if length < 20:
        return Refusal(0, "")
    number = -struct.unpack_from("=i", buffer, offset + 16)[0]
    words = ""
    if flags & _ACK_ATTRIBUTES:
        start = offset + 20 + (16 if kind == _ERROR else 0)  # an error repeats the header of the request
        words = text(payloads(buffer, start, offset + length).get(_ACK_MESSAGE_TEXT, b""))
    return Refusal(number, words or (os.strerror(number) if number else ""))


def enlarge_receive_buffer(netlink_socket: socket.socket, size: int) -> None:
    """Enlarge a socket's receive buffer, beyond the system's limit if we have the right to, else up to it."""
    try:
        netlink_socket.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, size)
    except PermissionError:
        netlink_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
