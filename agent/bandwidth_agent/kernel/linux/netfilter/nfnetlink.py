"""Netfilter's variant of netlink: its message header, its transactions, and its refusals.

Owns nothing else; `ipset_wire` and `nftables` own the meaning of the messages. Used directly because a process per
change takes longer than the change (several ms against 0.05 ms), and because the kernel answers with an errno per
message where the tools print a text.
Must never decide anything about sets or rules.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator, Sequence

from bandwidth_agent.kernel import netlink

PROTOCOL = 12  # NETLINK_NETFILTER
NET_BYTEORDER = 0x4000  # in an attribute's type: its number is big-endian
NONREC = 0x100  # with a deletion: refuse when something is still inside
GENERIC = struct.Struct("=BB2s")  # nfgenmsg, before the attributes: family, version, resource id

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NLMSG_ERROR = 2
_ANSWER_BYTES = 1 << 17
_ANSWER_TIMEOUT = struct.pack("=qq", 10, 0)
_SEND_BUFFER_FORCE = 32  # SO_SNDBUFFORCE: a transaction is one datagram, of thousands of messages at times


def message(kind: int, flags: int, family: int, attributes: bytes) -> netlink.Message:
    """Encode one netfilter message; `kind` is subsystem << 8 | command."""
    return netlink.Message(kind, flags, GENERIC.pack(family, 0, b"\0\0") + attributes)


def fields(part: netlink.Part) -> dict[int, bytes]:
    """Return the attributes of an answer by type."""
    return netlink.payloads(part.buffer, part.start + GENERIC.size, part.end)


def inner(value: bytes) -> dict[int, bytes]:
    """Return the attributes inside an attribute, by type."""
    return netlink.payloads(value, 0, len(value))


@contextlib.contextmanager
def connection() -> Iterator[netlink.Socket]:
    """Open a socket in the network namespace of the calling thread, for a few requests."""
    with contextlib.closing(netlink.Socket(PROTOCOL)) as connected:
        yield connected


def send(connected: netlink.Socket, messages: Sequence[netlink.Message]) -> dict[int, int]:
    """Send commands in order; return the errno of each refused one by its position. The others are applied.

    Raises PermissionError. The first is sent alone: without the capability netfilter answers only the first message of
    a datagram, and the answer to the last one would never come.
    """
    refused = {position: each.errno for position, each in connected.execute(messages[:1]).items()}
    if errno.EPERM in refused.values():
        raise PermissionError(errno.EPERM, "netfilter asks for CAP_NET_ADMIN")
    refused.update({1 + position: each.errno for position, each in connected.execute(messages[1:]).items()})
    return refused


def ask(connected: netlink.Socket, question: netlink.Message) -> netlink.Part | None:
    """Request one object; return None if it does not exist. Raises OSError on any other refusal."""
    try:
        return connected.ask(question)
    except FileNotFoundError:
        return None


def transact(subsystem: int, messages: Sequence[netlink.Message]) -> int:
    """Apply all of these in one transaction or none; return 0, or the errno of the first refusal."""
    border = GENERIC.pack(socket.AF_UNSPEC, 0, subsystem.to_bytes(2, "big"))
    whole = [
        netlink.Message(_BATCH_BEGIN, 0, border),
        *messages[:-1],
        messages[-1]._replace(flags=messages[-1].flags | netlink.ACK),
        netlink.Message(_BATCH_END, 0, border),
    ]
    data = b"".join(
        netlink.HEADER.pack(netlink.HEADER.size + len(body), kind, flags | netlink.REQUEST, number, 0) + body
        for number, (kind, flags, body) in enumerate(whole)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, PROTOCOL) as batch:
        batch.bind((0, 0))
        batch.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ANSWER_TIMEOUT)
        with contextlib.suppress(PermissionError):  # who may not, may not make the transaction either
            batch.setsockopt(socket.SOL_SOCKET, _SEND_BUFFER_FORCE, 2 * len(data))
        batch.send(data)
        while True:
            # A refused message is answered where it stands, a refused transaction at its first message, and both
            # before the acknowledgement of the last. So the first answer that is an error, or that one, is enough.
            for number, code in _answers(batch.recv(_ANSWER_BYTES)):
                if code or number == len(messages):
                    return code


def _answers(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each answer in a datagram: (number of the message, errno)."""
    offset = 0
    while offset + netlink.HEADER.size + 4 <= len(data):
        length, kind, _, number, _ = netlink.HEADER.unpack_from(data, offset)
        if kind == _NLMSG_ERROR:
            yield number, -struct.unpack_from("=i", data, offset + netlink.HEADER.size)[0]
        offset += (max(length, netlink.HEADER.size) + 3) & ~3
