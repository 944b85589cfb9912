"""An API server that answers what the test says, in memory: all of the client but its sockets is the real one."""

from __future__ import annotations

import io
import json
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import urllib3

from bandwidth_kube import client, connection

Object = dict[str, Any]


class Request(NamedTuple):
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Object | None


class Answer(NamedTuple):
    """`lines` are sent as they come, one piece each, until they end or raise OSError, which cuts the connection;
    without them the body is the answer."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = {}
    lines: Iterable[bytes] | None = None


def refusal(status: int, reason: str, **headers: str) -> Answer:
    """An error as the API server words it."""
    body = {"kind": "Status", "code": status, "reason": reason, "message": "as the test wants"}
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class Api:
    """Answers each request as it is made. `answer` may be replaced at any time."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self._passed = 0
        access = connection.Access("http://192.0.2.1")
        where = connection.Connection(lambda *, renew: access)
        self.client = client.Client(where, "test", manager=lambda **_: Manager(self._serve))

    def next(self, method: str = "", word: str = "") -> Request:
        """The next request with this method whose path and query hold this word; others are passed over."""
        while True:
            found = self.requests[self._passed]
            self._passed += 1
            if found.method.startswith(method) and word in f"{found.path}?{urllib.parse.urlencode(found.query)}":
                return found

    def _serve(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.answer(request)


class Manager(urllib3.PoolManager):
    """What the client sends its requests to: makes an answer of each, and no connection."""

    def __init__(self, serve: Callable[[Request], Answer]) -> None:
        super().__init__()
        self._serve = serve

    def request(  # type: ignore[override]
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], **_: Any
    ) -> urllib3.HTTPResponse:
        """Answer at once; the body is read piece by piece, as the client asks for it."""
        parts = urllib.parse.urlsplit(url)
        answer = self._serve(
            Request(
                method,
                parts.path,
                dict(urllib.parse.parse_qsl(parts.query)),
                {name.lower(): value for name, value in headers.items()},
                json.loads(body) if body else None,
            )
        )
        answered = {} if answer.body is None else answer.body
        pieces = answer.lines if answer.lines is not None else (json.dumps(answered).encode(),)
        return urllib3.HTTPResponse(
            io.BufferedReader(Pieces(iter(pieces)), 1), answer.headers, answer.status, preload_content=False
        )


class Pieces(io.RawIOBase):
    """A body that is made while it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Give what is there of one piece."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)
