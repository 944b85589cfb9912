"""Addresses to listen on: which sockets each of them becomes."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from bandwidth_runtime.web import listening
from bandwidth_runtime.web.address import Address

EVERY_IPV4 = "0.0.0.0"  # noqa: S104


def reached(port: int, host: str) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "v4", "v6"),
    [("", True, True), ("::", True, True), (EVERY_IPV4, True, False), ("::1", False, True), ("127.0.0.1", True, False)],
)
def test_every_address_is_of_both_families(host: str, v4: bool, v6: bool) -> None:
    """And one address is that one only."""
    made = listening.sockets(Address(host, 0))
    try:
        port = made[0].getsockname()[1]
        assert (reached(port, "127.0.0.1"), reached(port, "::1")) == (v4, v6)
    finally:
        for one in made:
            one.close()


@pytest.mark.parametrize("refused", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize("host", ["", "::"])
def test_a_kernel_without_ipv6_serves_by_ipv4(monkeypatch: pytest.MonkeyPatch, host: str, refused: int) -> None:
    """Where no IPv6 socket can be made, or none can be bound."""
    real = socket.socket

    class WithoutIPv6(real):  # type: ignore[valid-type, misc]
        def __init__(self, family: int = -1, *rest: Any, **more: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(refused, "no IPv6")
            super().__init__(family, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", WithoutIPv6)
        [made] = listening.sockets(Address(host, 0))
    with made:
        assert reached(made.getsockname()[1], "127.0.0.1")


def test_a_port_of_a_name_is_one_port() -> None:
    """`localhost` is served on both its addresses, on the same port."""
    made = listening.sockets(Address("localhost", 0))
    ports = {one.getsockname()[1] for one in made}
    hosts = {one.getsockname()[0] for one in made}
    for one in made:
        one.close()
    assert (len(ports), hosts) == (1, {"127.0.0.1", "::1"})


def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    """The error says in use, and a name is not half listened on."""
    [taken] = listening.sockets(Address("127.0.0.1", 0))
    with taken, pytest.raises(OSError, match="in use") as refused:
        listening.sockets(Address("127.0.0.1", taken.getsockname()[1]))
    assert refused.value.errno == errno.EADDRINUSE


def test_without_resolving_a_name_is_not_asked_for() -> None:
    """A name server that is silent must not hold up a start."""
    with pytest.raises(socket.gaierror):
        listening.sockets(Address("node.invalid", 0), resolve=False)
