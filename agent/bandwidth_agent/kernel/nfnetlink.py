"""The netlink of netfilter: one socket, the coding of its messages, and nothing about what they mean.

Spoken directly because a process per change costs more than the change (several ms against some 0.1 ms), and
because the kernel answers with an errno per message where the tools answer with a text.

Every socket is opened where it is used and belongs to the network namespace of the thread that opens it.
Must never decide anything about sets or rules.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Self

NETLINK_NETFILTER = 12

REQUEST, ACK = 0x1, 0x4
DUMP = 0x300
CREATE, EXCL = 0x400, 0x200  # with commands that make something
NONREC = 0x100  # with commands that delete: refuse when something is still inside

NLMSG_ERROR, NLMSG_DONE = 2, 3
_DUMP_INTERRUPTED = 0x10

NESTED = 0x8000
NET_BYTEORDER = 0x4000
_TYPE_MASK = 0x3FFF

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_SO_RCVBUFFORCE = 33  # not in the socket module

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_GENERIC = struct.Struct("=BB2s")  # nfgenmsg: family, version, resource id
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
BODY = _HEADER.size + _GENERIC.size  # where the attributes of a message begin

_CHUNK_BYTES = 64 * 1024
_CHUNK_MESSAGES = 512  # as many errors must fit into the receive buffer at once
_RECEIVE_BUFFER_BYTES = 2 * 1024 * 1024
_ANSWER_BYTES = 256 * 1024
_ANSWER_TIMEOUT_S = 10  # only a kernel that hangs reaches it
_DUMP_ATTEMPTS = 5


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length & 3)


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string, as the kernel wants it: ended by a zero."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *inner: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(inner))


def message(kind: int, flags: int, family: int, attributes: bytes, resource: int = 0) -> bytes:
    """One netfilter message; `Socket` fills in its sequence number. `kind` is subsystem << 8 | command."""
    body = _GENERIC.pack(family, 0, resource.to_bytes(2, "big")) + attributes
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | REQUEST, 0, 0) + body


def attributes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Walk the attributes in data[start:end]: (type without flags, where the value begins, where it ends)."""
    stop = len(data) if end is None else end
    position = start
    while position + _ATTRIBUTE.size <= stop:
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size or position + length > stop:
            raise OSError(errno.EBADMSG, "a netlink attribute reaches over the end of its message")
        yield kind & _TYPE_MASK, position + _ATTRIBUTE.size, position + length
        position += (length + 3) & ~3


def fields(data: bytes, start: int = 0, end: int | None = None) -> dict[int, bytes]:
    """The attributes in data[start:end] by type; of a repeated one the last."""
    return {kind: data[begin:stop] for kind, begin, stop in attributes(data, start, end)}


def string(value: bytes) -> str:
    """Read a string attribute. What is no UTF-8 stays distinguishable and never raises."""
    return value.partition(b"\0")[0].decode(errors="surrogateescape")


class Socket:
    """A netfilter netlink socket in the network namespace of the calling thread."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            # Answers do not repeat the request: half of the bytes of a refused batch.
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _ANSWER_TIMEOUT_S, 0))
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, messages: Sequence[bytes]) -> dict[int, int]:
        """Send commands in order; return the errno of each that was refused, by its index in `messages`.

        A refused message does not stop those behind it. Raises OSError when the socket itself fails.
        """
        refused: dict[int, int] = {}
        start = 0
        while start < len(messages):
            end, size = start, 0
            while end < len(messages) and end - start < _CHUNK_MESSAGES and size < _CHUNK_BYTES:
                size += len(messages[end])
                end += 1
            chunk = b"".join(
                _stamp(messages[index], index + 1, ACK if index == end - 1 else 0) for index in range(start, end)
            )
            self._socket.send(chunk)
            self._collect(end, refused)
            start = end
        return refused

    def send_batch(self, messages: Sequence[bytes]) -> int:
        """Send the messages of one nf_tables transaction; return 0, or the first errno: then nothing happened."""
        last = len(messages) - 1
        # The kernel answers the batch as a whole only by errors, so the last message but the end mark asks for an ACK.
        self._socket.send(
            b"".join(_stamp(each, index + 1, ACK if index == last - 1 else 0) for index, each in enumerate(messages))
        )
        refused: dict[int, int] = {}
        self._collect(last, refused, whole=True)
        return next(iter(refused.values()), 0)

    def dump(self, request: bytes) -> list[bytes]:
        """Ask for a list; return the answering messages whole. Raises OSError when the list is not complete."""
        for _ in range(_DUMP_ATTEMPTS):
            answers = self._dump_once(request)
            if answers is not None:
                return answers
        raise OSError(errno.EINTR, "the kernel's list changed while it was read, each time")

    def ask(self, request: bytes) -> bytes | None:
        """Ask for one object; None when there is none. Raises OSError with any other errno."""
        self._socket.send(_stamp(request, 1, ACK))
        answer: bytes | None = None
        while True:
            for kind, _, data in self._receive(1):
                if kind != NLMSG_ERROR:
                    answer = data
                    continue
                code = _errno(data)
                if code not in (0, errno.ENOENT):
                    raise OSError(code, os.strerror(code))
                return None if code else answer

    def _dump_once(self, request: bytes) -> list[bytes] | None:
        self._socket.send(_stamp(request, 1, DUMP))
        answers: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, data in self._receive(1):
                interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    code = _errno(data) if len(data) >= _HEADER.size + _ERROR.size else 0
                    if code == errno.ENOENT:
                        return []
                    if code:
                        raise OSError(code, os.strerror(code))
                    return None if interrupted else answers
                answers.append(data)

    def _collect(self, last: int, refused: dict[int, int], whole: bool = False) -> None:
        """Read answers until the one to message number `last`.

        Without the capability the kernel answers the first message of a datagram only; so it does with a
        transaction (`whole`) that it refuses at its first message.
        """
        while True:
            for kind, _, data in self._receive(None):
                if kind != NLMSG_ERROR:
                    continue
                number = _HEADER.unpack_from(data)[3]
                code = _errno(data)
                if code == errno.EPERM:
                    raise OSError(code, os.strerror(code))
                if code:
                    refused[number - 1] = code
                if number == last or (whole and number == 1 and code):
                    return

    def _receive(self, number: int | None) -> Iterator[tuple[int, int, bytes]]:
        """One datagram's messages: (type, flags, the whole message)."""
        data = self._socket.recv(_ANSWER_BYTES)
        position = 0
        while position + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, position)
            if length < _HEADER.size:
                raise OSError(errno.EBADMSG, "a netlink message without a length")
            if number is None or sequence == number:
                yield kind, flags, data[position : position + length]
            position += (length + 3) & ~3


def _stamp(request: bytes, number: int, flags: int) -> bytes:
    """The message with its sequence number and further flags."""
    length, kind, present, _, port = _HEADER.unpack_from(request)
    return _HEADER.pack(length, kind, present | flags, number, port) + request[_HEADER.size :]


def _errno(data: bytes) -> int:
    return -int(_ERROR.unpack_from(data, _HEADER.size)[0])
