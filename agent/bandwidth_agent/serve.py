"""The agent's web server: /metrics, /healthz, /readyz; for reading only.

Owns the listening socket and its threads, which never touch the loop: they see what it left in `health.Health`.
"""

from __future__ import annotations

import http.server
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from bandwidth_agent import health, metrics

_TIMEOUT_SECONDS = 10.0  # for one request, so that a silent client holds no thread for ever

log = structlog.get_logger("serve")


class Server:
    """Listens from the time it is made (OSError when it cannot), serves while it is entered."""

    def __init__(
        self,
        host: str,
        port: int,
        vitals: health.Health,
        page: metrics.Page,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        class Handler(_Handler):
            pass

        Handler.vitals, Handler.page, Handler.monotonic = vitals, page, staticmethod(monotonic)
        self._server = _listening(host, port, Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="serve", daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        # Not HTTPServer's own: that one asks the resolver for a host name, which can take seconds.
        if self.address_family == socket.AF_INET6 and self.server_address[0] == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, _request: object, client_address: tuple[object, ...]) -> None:
        """Say what became of a request, as a line of the log; socketserver's own prints a traceback."""
        error = sys.exception()
        if isinstance(error, OSError):  # who asked is gone before the answer was
            log.debug("request not answered", client=client_address[0], error=str(error))
        else:
            log.error("request not answered", client=client_address[0], exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


def _listening(host: str, port: int, handler: type[_Handler]) -> _Server:
    if not host:
        try:
            return _Server6(("::", port), handler)
        except OSError:  # a kernel without IPv6
            return _Server(("0.0.0.0", port), handler)  # noqa: S104 - an empty host asks for every address
    return (_Server6 if ":" in host else _Server)((host, port), handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    vitals: health.Health
    page: metrics.Page
    monotonic: Callable[[], float]

    timeout = _TIMEOUT_SECONDS
    server_version = "bandwidth-agent"
    sys_version = ""

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(200, metrics.CONTENT_TYPE, self.page.text())
            case "/healthz":
                self._verdict(self.vitals.healthy(self.monotonic()))
            case "/readyz":
                self._verdict(self.vitals.ready())
            case _:
                self._answer(404, "text/plain; charset=utf-8", b"here are /metrics, /healthz and /readyz\n")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _verdict(self, verdict: health.Verdict) -> None:
        self._answer(200 if verdict.good else 503, "text/plain; charset=utf-8", f"{verdict.message}\n".encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        log.debug("request", client=self.client_address[0], line=format % args)
