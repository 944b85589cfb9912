"""What the client makes of answers that are errors, or none: too slow, too large, of another form."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bandwidth_kube import client, connection
from machine.kube.apis import Api, serving
from unit.kube.apis import Answer, Request, refusal

LONG_SECONDS = 8.0  # a request with a deadline of half a second that takes so long has none


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(409, "Conflict"), "409 Conflict: as the test wants"),
        (Answer(404, lines=[b"404 page not found\n"]), "404 404 page not found"),
        (Answer(502, lines=[b"<html>" + b"x" * 1000]), f"502 <html>{'x' * 194}"),
        (Answer(500, lines=[b""]), "500"),
        (Answer(500, lines=[b"[" * 100_000]), f"500 {'[' * 200}"),
        (Answer(302, headers={"location": "http://192.0.2.1/"}), "302"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_server(answer: Answer, said: str) -> None:
    """Of an answer that is no Status, such as that of a proxy, its beginning."""
    with serving(lambda _: answer) as api, pytest.raises(client.RefusedError) as refused:
        api.client.request("GET", "/things")
    assert str(refused.value) == said


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def dripping(first: bytes, then: bytes = b"x") -> Iterator[str]:
    """The address of a server that says something, and then a byte now and then for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(first)
            while not over.wait(0.05):
                connection.sendall(then)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.close()


OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
DRIPS = {
    "a body": ("http", OK + b"content-length: 1000000\r\n\r\n", b"x"),
    "chunks": ("http", OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "the size of a chunk": ("http", OK + b"transfer-encoding: chunked\r\n\r\n", b"0"),
    "a body without an end": ("http", OK + b"\r\n", b"x"),
    "an error": ("http", b"HTTP/1.1 500 Broken\r\ncontent-length: 1000000\r\n\r\n", b"x"),
    "headers": ("http", OK, b"x: y\r\n"),
    "one header": ("http", OK, b"x"),
    "a status line": ("http", b"", b"H"),
    "a handshake": ("https", b"\x16\x03\x03\xff\xff", b"x"),
}


@pytest.mark.parametrize("name", DRIPS)
def test_a_request_has_one_deadline(name: str) -> None:
    """However slowly something comes, and whatever it is, the request is over in time."""
    scheme, first, then = DRIPS[name]
    with dripping(first, then) as address:
        trust = connection.Trust(verify=False)
        where = connection.Connection(lambda *, renew: connection.Access(f"{scheme}://{address}", trust))
        api = client.Client(where, "test")
        began = time.monotonic()
        with pytest.raises(client.UnreachableError):
            api.request("GET", "/things", timeout_seconds=0.5)
        assert time.monotonic() - began < LONG_SECONDS
        api.close()


def test_a_server_that_reads_slowly_has_a_deadline_too() -> None:
    """A large request that is not read is over in time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        api = client.Client(connection.Connection(lambda *, renew: connection.Access(address)), "test")
        began = time.monotonic()
        with pytest.raises(client.UnreachableError):
            api.request("POST", "/things", body={"x": "y" * 50_000_000}, timeout_seconds=0.5)
        assert time.monotonic() - began < LONG_SECONDS
        api.close()


def test_a_watch_begins_in_time() -> None:
    """Headers that drip end a watch before it has begun."""
    with dripping(OK, b"x: y\r\n") as address:
        api = client.Client(connection.Connection(lambda *, renew: connection.Access(f"http://{address}")), "test")
        with pytest.raises(client.UnreachableError) as caught:
            list(api.watch("/things", "1", silence_seconds=-client.TIMEOUT_SECONDS + 0.5))
        assert not isinstance(caught.value, client.CutError)
        api.close()


# ── size and form ──────────────────────────────────────────────────────────────────────────────────────────────


def _packed(data: bytes) -> Answer:
    return Answer(headers={"content-encoding": "gzip"}, lines=[gzip.compress(data, 9)])


NO_ANSWERS: dict[str, tuple[Answer, str]] = {
    "large": (Answer(lines=[b"x" * 1_000_000] * 30), "more than"),
    "large when unpacked": (_packed(b"x" * 100_000_000), "more than"),
    "packed and cut": (Answer(headers={"content-encoding": "gzip"}, lines=[gzip.compress(b"{}")[:-9]]), "cut off"),
    "not packed, but said to be": (Answer(headers={"content-encoding": "gzip"}, lines=[b"{}"]), "unpacked"),
    "packed in another way": (Answer(headers={"content-encoding": "br"}, lines=[b"{}"]), "'br'"),
    "deep": (Answer(lines=[b'{"a":' + b"[" * 200_000]), "deeply"),
    "a page": (Answer(lines=[b"<html>please log in</html>"]), "no JSON"),
    "no text": (Answer(lines=[b'{"a":"\xff"}']), "no JSON"),
    "no number": (Answer(lines=[b'{"a":NaN}']), "no JSON"),
    "a number of many digits": (Answer(lines=[b'{"a":' + b"9" * 100_000 + b"}"]), "no JSON"),
    "a list": (Answer(lines=[b"[]"]), "not an object"),
    "nothing": (Answer(lines=[]), "no JSON"),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_what_is_no_answer(name: str) -> None:
    """It is an error as any other, and the next request is answered as before."""
    answer, why = NO_ANSWERS[name]
    with serving(lambda request: answer if request.path == "/odd" else Answer(body={"a": 1})) as api:
        with pytest.raises(client.UnreachableError, match=why):
            api.client.request("GET", "/odd")
        assert api.client.request("GET", "/things") == {"a": 1}


def test_a_packed_answer_is_unpacked() -> None:
    """As something between us and the server may pack it."""
    with serving(lambda _: _packed(b'{"a": 1}')) as api:
        assert api.client.request("GET", "/things") == {"a": 1}
        assert api.requests[0].headers["accept-encoding"] == "identity"


ITEM = {"metadata": {"name": "a", "resourceVersion": "1"}}
LIST: dict[str, Any] = {"metadata": {"resourceVersion": "7"}, "items": [ITEM]}
NO_LISTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no items": {"metadata": {"resourceVersion": "7"}},
    "no metadata": {"items": []},
    "metadata that is none": LIST | {"metadata": [1]},
    "items that are one": LIST | {"items": ITEM},
    "null": LIST | {"items": [None]},
    "a list": LIST | {"items": [[]]},
    "an object without metadata": LIST | {"items": [{"spec": {}}]},
    "an object with odd metadata": LIST | {"items": [{"metadata": "a"}]},
    "an object without a name": LIST | {"items": [{"metadata": {"name": ""}}]},
    "an object with an odd name": LIST | {"items": [{"metadata": {"name": 7}}]},
    "an odd version": LIST | {"metadata": {"resourceVersion": 7}},
    "an odd token": LIST | {"metadata": {"resourceVersion": "7", "continue": [1]}},
}


@pytest.mark.parametrize("name", NO_LISTS)
def test_what_is_no_list(name: str) -> None:
    """Nothing is concluded from it: an object that cannot be read might be any."""
    with serving(lambda _: Answer(body=NO_LISTS[name])) as api, pytest.raises(client.UnreachableError, match="list"):
        api.client.listed("/things")


@pytest.mark.parametrize("items", [[], None, [ITEM], [ITEM, ITEM]])
def test_what_is_a_list(items: list[Any] | None) -> None:
    """Without any object too, in either form that servers give it."""
    with serving(lambda _: Answer(body=LIST | {"items": items})) as api:
        assert api.client.listed("/things") == client.Page(items or [], "7")


def test_a_list_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many pages as no cluster has it is an error."""
    monkeypatch.setattr(client, "PAGES_MAX", 20)
    body = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [ITEM]}
    with serving(lambda _: Answer(body=body)) as api:
        with pytest.raises(client.UnreachableError, match="does not end"):
            api.client.listed("/things")
        assert len(api.requests) == 20


EVENTS: dict[str, tuple[bytes, str]] = {
    "a line without an end": (b"x" * 1_000_000, "more than"),
    "no JSON": (b"} not json\n", "no JSON"),
    "a list": (b"[1]\n", "not an object"),
    "deep": (b"[" * 100_000 + b"\n", "deeply"),
    "an error without a status": (b'{"type":"ERROR","object":null}\n', "without a status"),
    "an error with an odd status": (b'{"type":"ERROR","object":{"code":true}}\n', "without a status"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_what_is_no_event(name: str) -> None:
    """The watch ends with an error; what came before it is whole."""
    line, why = EVENTS[name]
    event = {"type": "ADDED", "object": ITEM}

    def answer(_: Request) -> Answer:
        return Answer(lines=[json.dumps(event).encode() + b"\n", *[line] * 20])

    with serving(answer) as api:
        events = api.client.watch("/things", "1")
        assert next(events) == event
        with pytest.raises(client.UnreachableError, match=why):
            next(events)
        events.close()


# ── what the server asks for ───────────────────────────────────────────────────────────────────────────────────


def _asked(api: Api) -> float | None:
    with pytest.raises(client.RefusedError) as refused:
        api.client.request("GET", "/things")
    return refused.value.retry_after_seconds


@pytest.mark.parametrize(
    ("said", "heeded"),
    [
        ("1", 1.0),
        ("0", 0.0),
        ("100000", client.RETRY_AFTER_MAX_SECONDS),
        ("9" * 400, client.RETRY_AFTER_MAX_SECONDS),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("Wed, 21 Oct 2099 07:28:00 GMT", None),
    ],
)
def test_how_long_the_server_asks_to_wait(said: str, heeded: float | None) -> None:
    """A number of seconds is heeded, within a bound; nothing else is."""
    with serving(lambda _: refusal(429, "TooManyRequests", retry_after=said)) as api:
        assert _asked(api) == heeded


@pytest.mark.parametrize(
    ("said", "heeded"),
    [
        (5, 5.0),
        (100_000, client.RETRY_AFTER_MAX_SECONDS),
        (10**400, client.RETRY_AFTER_MAX_SECONDS),
        (-1, None),
        (True, None),
        ("5", 5.0),
        ([], None),
    ],
)
def test_how_long_a_status_asks_to_wait(said: object, heeded: float | None) -> None:
    """The same in the words of a Status, whatever its details are."""
    body = {"kind": "Status", "details": {"retryAfterSeconds": said, "causes": [None, {"reason": 7}]}}
    text = json.dumps(body, separators=(",", ":")).encode()
    with serving(lambda _: Answer(503, lines=[text])) as api:
        assert _asked(api) == heeded
