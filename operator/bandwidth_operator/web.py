"""/metrics, /healthz and /readyz over HTTP. Owns one listening socket and the threads that answer."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST

from bandwidth_operator.health import Answer, Health

TEXT = "text/plain; charset=utf-8"


class Server:
    """Serves until closed."""

    def __init__(self, address: tuple[str, int], health: Health, metrics: Callable[[], bytes]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, metrics())
                elif path == "/healthz":
                    self._verdict(health.healthy())
                elif path == "/readyz":
                    self._verdict(health.ready())
                else:
                    self._answer(404, TEXT, b"/metrics, /healthz, /readyz\n")

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002
                """Probes are no news."""

            def _verdict(self, answer: Answer) -> None:
                self._answer(200 if answer.good else 503, TEXT, f"{answer.message}\n".encode())

            def _answer(self, code: int, content_type: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        class Listener(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            daemon_threads = True

        self._server = Listener(address, Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
