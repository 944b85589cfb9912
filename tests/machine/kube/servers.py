"""An API server with TLS and a proxy before it, on real sockets: what arrived there is what a test looks at."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import NamedTuple

from machine.kube.authority import Authority

ANSWER = json.dumps({"kind": "List", "metadata": {"resourceVersion": "7"}, "items": []}).encode()


class Arrived(NamedTuple):
    """One request as the server saw it."""

    path: str  # without the query
    authorization: str
    client: str  # the common name of the client's certificate


class _Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away, or does not trust us, is no news."""


class Server:
    """Answers every request with an empty list, or 401 to a token in `refused`. `present` may be called at any time."""

    def __init__(
        self, certificate: Authority | None, clients: Authority | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.arrived: list[Arrived] = []
        self.refused: set[str] = set()
        self._clients = clients
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self.present(certificate)
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002
                pass

        class Listener(_Listener):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def get_request(self) -> tuple[socket.socket, object]:
                connection, address = super().get_request()
                connection.settimeout(20.0)
                if server._tls is not None:
                    return server._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address
                return connection, address

        self._listener = Listener((host, 0), Handler)
        self.port = int(self._listener.server_address[1])
        scheme = "https" if certificate is not None else "http"
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"
        threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def present(self, certificate: Authority) -> None:
        """Show this certificate from now on, and to begin with close every connection after its next answer."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(certificate.certificate, certificate.key)
        if self._clients is not None:
            made.verify_mode = ssl.CERT_OPTIONAL
            made.load_verify_locations(self._clients.certificate)
        self._tls = made

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        known = handler.connection.getpeercert() if isinstance(handler.connection, ssl.SSLSocket) else None
        names = [value for part in (known or {}).get("subject", ()) for key, value in part if key == "commonName"]
        token = handler.headers.get("authorization", "")
        self.arrived.append(Arrived(handler.path.partition("?")[0], token, "".join(names)))
        handler.send_response(401 if token.removeprefix("Bearer ") in self.refused else 200)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(ANSWER)))
        handler.send_header("connection", "close")
        handler.end_headers()
        handler.wfile.write(ANSWER)

    def close(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()


class Proxy:
    """An HTTP proxy: CONNECT for TLS, whole URLs for plain HTTP. `asked` says what for, and by whom."""

    def __init__(self, certificate: Authority | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate.certificate, certificate.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inside, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(inside,), daemon=True).start()

    def _serve(self, inside: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if self._tls is not None:
                inside = self._tls.wrap_socket(inside, server_side=True)
            stack.enter_context(inside)
            head = b""
            while b"\r\n\r\n" not in head:
                head += inside.recv(65536) or b"\r\n\r\n"
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            said = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
            password = base64.b64decode(said.get("proxy-authorization", "").removeprefix("Basic ")).decode()
            self.asked.append((target, password))
            where = target if method == "CONNECT" else target.removeprefix("http://").partition("/")[0]
            # Whatever the name is: only the proxy needs to know where that is.
            outside = stack.enter_context(socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2]))))
            if method == "CONNECT":
                inside.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = target.removeprefix("http://").removeprefix(where)
                outside.sendall(head.replace(target.encode(), path.encode(), 1))
            back = threading.Thread(target=_pump, args=(outside, inside), daemon=True)
            back.start()
            _pump(inside, outside)
            back.join(20.0)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def serving(
    certificate: Authority | None = None, clients: Authority | None = None, host: str = "127.0.0.1"
) -> Iterator[Server]:
    made = Server(certificate, clients, host)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def proxying(certificate: Authority | None = None) -> Iterator[Proxy]:
    made = Proxy(certificate)
    try:
        yield made
    finally:
        made.close()
