"""An API server that answers what the test says, on a real socket, so that nothing of ours is replaced."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator

from bandwidth_kube import client, connection
from unit.kube.apis import Answer, Request


class Api:
    """Serves until closed. `answer` may be replaced at any time."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                try:
                    api._serve(self)
                except OSError:  # of a client that went away, or of lines that end by one: it is cut off
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.client = client.Client(connection.Connection(lambda *, renew: connection.Access(address)), "test")

    def close(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        path, _, query = handler.path.partition("?")
        request = Request(
            handler.command,
            path,
            dict(urllib.parse.parse_qsl(query)),
            {name.lower(): value for name, value in handler.headers.items()},
            json.loads(data) if data else None,
        )
        self.requests.append(request)
        answer = self.answer(request)
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        if answer.lines is None:
            body = json.dumps(answer.body or {}).encode()
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
            return
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        handler.wfile.flush()
        for line in answer.lines:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def serving(answer: Callable[[Request], Answer]) -> Iterator[Api]:
    """An API server of paper."""
    made = Api(answer)
    try:
        yield made
    finally:
        made.close()
