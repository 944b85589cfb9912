"""A proxy before an API server that misbehaves on command: cuts, freezes and ends watches, refuses requests.

    client ── TLS ──▶ FaultProxy ── TLS ──▶ API server

Speaks with the API server's own certificate, so that a kubeconfig only needs another address. Changes no request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import json
import pathlib
import secrets
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

JSON = "application/json"
TIMEOUT_SECONDS = 120.0


@dataclasses.dataclass
class _Refusal:
    matches: Callable[[str, str], bool]  # method, path with query
    status: int
    reason: str
    retry_after_seconds: int | None
    left: int


class FaultProxy:
    """Forwards everything until a method of it is called."""

    def __init__(self, server: str, certificates: pathlib.Path, *, prefix: str = "") -> None:
        """`prefix`: the path below which the API is found here, as behind other proxies; nothing else is forwarded."""
        self._upstream = server.removeprefix("https://")
        self._lock = threading.Lock()
        self._refusals: list[_Refusal] = []
        self._thawed = threading.Event()
        self._thawed.set()
        self._cuts = 0  # grows with each command to cut; a stream older than it is cut at its next line
        self._ends = 0
        self._error: dict[str, object] = {}
        self._alter: Callable[[str, dict[str, Any]], object] | None = None
        self._page_size: int | None = None
        self._rest: dict[str, dict[str, Any]] = {}  # what is left of lists, by continue token
        self.requests: list[str] = []  # method and path of each, for the tests to count
        self._prefix = prefix
        self.present(certificates / "apiserver.crt", certificates / "apiserver.key")
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    proxy._forward(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002
                pass

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[ssl.SSLSocket, object]:
                connection, address = super().get_request()
                connection.settimeout(TIMEOUT_SECONDS)
                return proxy._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

            def handle_error(self, *_: object) -> None:
                """A client that went away is no news."""

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._listener.serve_forever, name="proxy", daemon=True)
        self._thread.start()
        self.server = f"https://127.0.0.1:{self._listener.server_address[1]}{prefix}"

    def close(self) -> None:
        """Stop accepting; open streams end with this process."""
        self._thawed.set()
        self.cut()
        self._listener.shutdown()
        self._listener.server_close()

    def present(self, certificate: pathlib.Path, key: pathlib.Path) -> None:
        """Show this certificate on connections that come from now on."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(certificate, key)
        self._context = made

    # ── faults ─────────────────────────────────────────────────────────────────────────────────────────────────

    def refuse(
        self,
        status: int,
        reason: str,
        matches: Callable[[str, str], bool] = lambda method, path: True,
        *,
        times: int = 1,
        retry_after_seconds: int | None = None,
    ) -> None:
        """Answer the next so many matching requests with an error."""
        with self._lock:
            self._refusals.append(_Refusal(matches, status, reason, retry_after_seconds, times))

    def freeze(self) -> None:
        """Keep open watches open, but deliver no further event."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Deliver what was held back."""
        self._thawed.set()

    def cut(self) -> None:
        """Cut every open watch in the middle of its next line."""
        with self._lock:
            self._cuts += 1

    def end(self, code: int = 410, reason: str = "Expired") -> None:
        """End every open watch with an error in place of its next line."""
        with self._lock:
            self._ends += 1
            self._error = {"kind": "Status", "code": code, "reason": reason, "message": "fault"}

    def alter(self, lists: Callable[[str, dict[str, Any]], object] | None) -> None:
        """From now on hand out what this makes of each list, given its path, instead of the list."""
        self._alter = lists

    def split(self, size: int) -> None:
        """From now on lists come in pages of so many objects, whatever the client asks for."""
        self._page_size = size

    def count(self, method: str, word: str = "") -> int:
        """Return the number of requests with this method and this word in their path."""
        return sum(1 for each in list(self.requests) if each.startswith(f"{method} ") and word in each)

    # ── forwarding ─────────────────────────────────────────────────────────────────────────────────────────────

    def _forward(self, client: http.server.BaseHTTPRequestHandler) -> None:
        body = client.rfile.read(int(client.headers.get("content-length") or 0))
        if not client.path.startswith(f"{self._prefix}/"):
            _send(client, 404, b"404 page not found")
            return
        client.path = client.path.removeprefix(self._prefix)
        self.requests.append(f"{client.command} {client.path}")
        refusal = self._refusal(client.command, client.path)
        if refusal is not None:
            _answer(client, refusal)
            return
        token = urllib.parse.parse_qs(urllib.parse.urlsplit(client.path).query).get("continue", [""])[0]
        if token in self._rest:
            _send(client, 200, self._page(json.dumps(self._rest[token]).encode()))
            return
        context = ssl._create_unverified_context()  # noqa: S323
        upstream = http.client.HTTPSConnection(self._upstream, timeout=TIMEOUT_SECONDS, context=context)
        try:
            headers = {k: v for k, v in client.headers.items() if k.lower() not in ("host", "accept-encoding")}
            upstream.request(client.command, client.path, body=body or None, headers=headers)
            answer = upstream.getresponse()
            if "watch=true" in client.path and answer.status == 200:
                self._stream(client, answer)
            else:
                data = answer.read()
                if client.command == "GET" and answer.status == 200:
                    data = self._page(self._altered(client.path, data))
                _send(client, answer.status, data, {"content-type": answer.headers.get("content-type", JSON)})
        finally:
            upstream.close()

    def _altered(self, path: str, data: bytes) -> bytes:
        alter = self._alter
        if alter is None:
            return data
        with contextlib.suppress(ValueError):
            whole = json.loads(data)
            if "items" in whole:
                altered = alter(path, whole)
                return altered if isinstance(altered, bytes) else json.dumps(altered).encode()
        return data

    def _page(self, data: bytes) -> bytes:
        """The first page of a list; the rest is kept under its continue token. What is no long list stays whole."""
        size = self._page_size
        if size is None:
            return data
        with contextlib.suppress(ValueError):
            whole = json.loads(data)
            items = whole.get("items") or []
            if len(items) > size:
                token = secrets.token_hex(8)
                metadata = {k: v for k, v in whole["metadata"].items() if k != "continue"}
                self._rest[token] = whole | {"items": items[size:], "metadata": metadata}
                return json.dumps(whole | {"items": items[:size], "metadata": metadata | {"continue": token}}).encode()
        return data

    def _refusal(self, method: str, path: str) -> _Refusal | None:
        with self._lock:
            for refusal in self._refusals:
                if refusal.left > 0 and refusal.matches(method, path):
                    refusal.left -= 1
                    return refusal
        return None

    def _stream(self, client: http.server.BaseHTTPRequestHandler, answer: http.client.HTTPResponse) -> None:
        cuts, ends = self._cuts, self._ends
        client.send_response(200)
        client.send_header("content-type", "application/json")
        client.send_header("transfer-encoding", "chunked")
        client.end_headers()
        client.wfile.flush()
        client.close_connection = True
        for line in _lines(answer):
            self._thawed.wait()
            if self._cuts != cuts:
                _chunk(client, line[: len(line) // 2])
                client.connection.close()
                return
            if self._ends != ends:
                _chunk(client, json.dumps({"type": "ERROR", "object": self._error}).encode() + b"\n")
                break
            _chunk(client, line)
        client.wfile.write(b"0\r\n\r\n")


def _lines(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while line := answer.readline():
        yield line


def _chunk(client: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    client.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
    client.wfile.flush()


def _answer(client: http.server.BaseHTTPRequestHandler, refusal: _Refusal) -> None:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "code": refusal.status,
        "reason": refusal.reason,
        "message": "fault",
    }
    retry = {} if refusal.retry_after_seconds is None else {"retry-after": str(refusal.retry_after_seconds)}
    _send(client, refusal.status, json.dumps(status).encode(), retry)


def _send(
    client: http.server.BaseHTTPRequestHandler, status: int, data: bytes, headers: Mapping[str, str] | None = None
) -> None:
    client.send_response(status)
    for name, value in {"content-type": JSON, "content-length": str(len(data)), **(headers or {})}.items():
        client.send_header(name, value)
    client.end_headers()
    client.wfile.write(data)
