"""The guard of the unit tests: what they must not do fails, from whichever module it is done."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

import pytest


async def _connect() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


@pytest.mark.parametrize(
    "act",
    [
        lambda: socket.socket(),
        lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        lambda: socket.create_server(("127.0.0.1", 0)),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: urllib.request.urlopen("http://127.0.0.1:9/"),
        lambda: asyncio.run(_connect()),
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda: os.system("true"),  # noqa: S605
        lambda: time.sleep(0.0),
    ],
    ids=["TCP", "UDP", "netlink", "server", "name", "urllib", "asyncio", "program", "shell", "sleep"],
)
def test_what_is_not_pure_fails(act: Callable[[], object]) -> None:
    """Sockets, names, other programs and sleeping; and no handler of errors hides it."""
    with pytest.raises(BaseException, match="a unit test must not do this") as refused:
        act()
    assert not isinstance(refused.value, Exception)


def test_a_pair_of_sockets_is_allowed() -> None:
    """It leads nowhere but into this process; event loops wake themselves by one."""
    for one in socket.socketpair():
        one.close()
