"""The web server over real sockets: what it answers, and to whom while others mean harm."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bandwidth_runtime.web import http_server
from bandwidth_runtime.web.address import Address
from bandwidth_runtime.web.http_server import ASKING_MOST, ASKING_SECONDS, EXCHANGE_SECONDS, Server, Site
from unit.clock import Clock

PATIENCE_SECONDS = 10.0
LARGE = b"x" * 3_000_000
ASK = b"GET /metrics HTTP/1.1\r\n\r\n"


def site(page: Callable[[], bytes] = lambda: b"a 1\n") -> Site:
    return Site(page, "text/plain; version=0.0.4", {"/healthz": lambda: (True, "ok"), "/readyz": lambda: (False, "no")})


@contextlib.contextmanager
def serving(page: Callable[[], bytes] = lambda: b"a 1\n", clock: Clock | None = None) -> Iterator[Server]:
    """A server at a port of its own."""
    with Server(Address("127.0.0.1", 0), site(page), clock or time.monotonic) as server:
        yield server


def get(server: Server, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def connect(server: Server, said: bytes = b"", buffer_bytes: int = 0) -> socket.socket:
    made = socket.socket()
    if buffer_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    made.settimeout(PATIENCE_SECONDS)
    made.connect(("127.0.0.1", server.port))
    made.sendall(said)
    return made


def test_three_paths_are_served() -> None:
    """With a status that says good or not, and a word why; HEAD is the same without the body."""
    with serving() as server:
        assert get(server, "/metrics") == (200, b"a 1\n")
        assert get(server, "/healthz") == (200, b"ok\n")
        assert get(server, "/readyz") == (503, b"no\n")
        assert get(server, "/metrics", "HEAD") == (200, b"")
        assert get(server, "/") == (404, b"here are /healthz, /metrics, /readyz\n")
        assert get(server, "/metrics", "DELETE")[0] == 405


def test_half_requests_of_the_same_address_keep_no_probe_out() -> None:
    """A flood drives out its own connections: so many stay and no more, and each probe in between is answered."""
    with serving() as server, contextlib.ExitStack() as opened:
        flood = []
        for number in range(ASKING_MOST * 5):
            flood.append(opened.enter_context(connect(server, b"GET /metrics HTTP/1.1\r\nX: ")))
            if number % 20 == 0:
                assert get(server, "/healthz") == (200, b"ok\n")
        assert get(server, "/metrics") == (200, b"a 1\n")
        ended, _, _ = select.select(flood, [], [], 0)
        assert len(flood) - len(ended) <= ASKING_MOST


def test_whole_requests_that_are_never_read_keep_no_probe_out() -> None:
    """Slow readers of a large page give way to each other; who reads gets all of it."""
    with serving(lambda: LARGE) as server, contextlib.ExitStack() as opened:
        for _ in range(http_server.ANSWERING_MOST * 3):
            opened.enter_context(connect(server, ASK, buffer_bytes=4096))
        assert get(server, "/healthz") == (200, b"ok\n")
        assert get(server, "/metrics") == (200, LARGE)


def test_a_request_has_one_deadline_however_often_a_byte_of_it_comes() -> None:
    """A peer that says a little now and then is cut off as one that is silent."""
    clock = Clock()
    with serving(clock=clock) as server, connect(server, b"GET /met") as slow, connect(server) as silent:
        assert get(server, "/healthz")[0] == 200  # connections are taken in their order: both are known by now
        clock.now += ASKING_SECONDS * 0.9
        slow.sendall(b"r")
        assert get(server, "/healthz")[0] == 200
        clock.now += ASKING_SECONDS * 0.2
        assert (slow.recv(1), silent.recv(1)) == (b"", b"")


def test_an_answer_has_a_deadline_too() -> None:
    """Who stops reading is cut off, with most of the page unsent."""
    clock = Clock()
    with serving(lambda: LARGE, clock) as server, connect(server, ASK, buffer_bytes=4096) as slow:
        assert slow.recv(8) == b"HTTP/1.1"
        clock.now += EXCHANGE_SECONDS + 1
        assert get(server, "/healthz")[0] == 200
        wait_until(lambda: server.connections == 0)
        assert received(slow) < len(LARGE)


def received(of: socket.socket) -> int:
    """How many bytes still come before the connection ends, in whichever way."""
    count = 0
    with contextlib.suppress(ConnectionResetError):
        while data := of.recv(65536):
            count += len(data)
    return count


def test_a_page_is_made_once_for_all_who_ask_and_probes_do_not_wait_for_it() -> None:
    """While it is made /healthz is answered; then all get it, and for a while so does who comes later."""
    going, made = threading.Event(), []

    def page() -> bytes:
        assert going.wait(PATIENCE_SECONDS)
        made.append(1)
        return b"b 2\n"

    with serving(page, Clock()) as server, contextlib.ExitStack() as opened:
        asking = [opened.enter_context(connect(server, ASK)) for _ in range(8)]
        assert get(server, "/healthz") == (200, b"ok\n")
        going.set()
        for one in asking:
            answer = http.client.HTTPResponse(one)
            answer.begin()
            assert answer.read() == b"b 2\n"
    assert made == [1]


def test_a_page_that_cannot_be_made_is_an_answer() -> None:
    """500 for who asked; the server goes on."""

    def page() -> bytes:
        raise RuntimeError("no counters")

    with serving(page) as server:
        assert get(server, "/metrics")[0] == 500
        assert get(server, "/healthz")[0] == 200


def test_junk_behind_a_request_costs_nothing() -> None:
    """A body, more requests, a megabyte of anything: the one answer arrives whole."""
    with serving() as server, connect(server, b"GET /healthz HTTP/1.1\r\nContent-Length: 9\r\n\r\n") as junk:
        with contextlib.suppress(ConnectionError):
            junk.sendall(ASK * 20_000)
        answer = http.client.HTTPResponse(junk)
        answer.begin()
        assert (answer.status, answer.read()) == (200, b"ok\n")


def test_a_client_that_resets_its_connection_is_nothing_for_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    """A scraper whose patience is over leaves no traceback."""
    with serving() as server:
        with connect(server, b"GET /metr") as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert get(server, "/healthz")[0] == 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_port_that_is_taken_is_waited_for() -> None:
    """The trouble is named meanwhile; when the other program is gone it serves."""
    clock = Clock()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Server(Address("127.0.0.1", taken.getsockname()[1]), site(), clock)
        server.start()
        assert server.port == 0
        assert f"127.0.0.1:{taken.getsockname()[1]}: another program has this port" in server.trouble
    try:
        clock.now += 60.0
        server.look()
        wait_until(lambda: server.port != 0)
        assert server.trouble == ""
        assert get(server, "/healthz")[0] == 200
    finally:
        server.close()


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_the_end_waits_for_nobody() -> None:
    """Neither a silent client, nor a page that is still being made, holds up the end of the program."""
    going = threading.Event()

    def page() -> bytes:
        going.wait(PATIENCE_SECONDS)
        return b""

    with serving(page) as server, connect(server) as silent, connect(server, ASK) as asked:
        assert get(server, "/healthz")[0] == 200
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 2.0
        assert (received(silent), received(asked)) == (0, 0)
        going.set()
