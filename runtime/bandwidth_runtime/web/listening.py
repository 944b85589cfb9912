"""Makes the sockets that listen at an address of the command line, for IPv4 and IPv6.

    host            listens on
    ──────────────  ─────────────────────────────────────────────────────────────────────────────────
    "" or ::        every address of both families; of IPv4 alone where the kernel has no IPv6
    0.0.0.0         every IPv4 address
    an address      this address
    localhost       127.0.0.1 and ::1, those of the two that exist; /etc/hosts is not read
    a name          each of its addresses whose family the kernel has

Owns the choice of addresses and the options of the sockets; accepts nothing.
"""

from __future__ import annotations

import errno
import socket

from bandwidth_runtime.web.address import Address

LOOPBACK = ("127.0.0.1", "::1")
BACKLOG = 1024  # connections that the kernel completes before we look at them; it may keep fewer (somaxconn)

# What a kernel without IPv6 answers, or one in which it is switched off, or an address that is not there (yet).
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
_ABSENT = (*_NO_SUCH_FAMILY, errno.EADDRNOTAVAIL)


def sockets(address: Address, *, resolve: bool = True) -> list[socket.socket]:
    """Return non-blocking sockets that listen at the same port, at least one; raises OSError if none is possible.

    Without `resolve` no name server is asked, and a host name raises an OSError.
    """
    if address.host in ("", "::"):
        return [_of_all(address.port)]
    flags = socket.AI_PASSIVE | (0 if resolve else socket.AI_NUMERICHOST)
    hosts = LOOPBACK if address.host == "localhost" else (address.host,)
    found = [
        one for host in hosts for one in socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=flags)
    ]
    made: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, _, _, _, where in dict.fromkeys(found):
            port = made[0].getsockname()[1] if made else address.port
            try:
                made.append(_listening(family, (where[0], port, *where[2:])))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                missing = error
    except OSError:
        for one in made:
            one.close()
        raise
    if not made:
        raise missing or OSError(errno.EADDRNOTAVAIL, "the host has no address")
    return made


def _of_all(port: int) -> socket.socket:
    try:
        return _listening(socket.AF_INET6, ("::", port))
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return _listening(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - asked for: every address


def _listening(family: int, where: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(where[0] != "::"))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made
