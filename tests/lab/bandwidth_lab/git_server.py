"""A Git repository with one branch, served on loopback over HTTP by Git's own program, for tests of GitOps tools."""

from __future__ import annotations

import http.server
import os
import pathlib
import subprocess
import threading
import urllib.parse
from collections.abc import Mapping
from types import TracebackType
from typing import Self

BRANCH = "main"
_IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org")


class GitServer:
    """A repository in a folder, and the server of it. Commits are made here, by nobody else."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._tree = folder / "tree"
        self._bare = folder / "repositories" / "platform.git"
        self._tree.mkdir(parents=True)
        self._bare.mkdir(parents=True)
        self._git("init", "-q", "--bare", f"--initial-branch={BRANCH}", str(self._bare))
        self._git("init", "-q", f"--initial-branch={BRANCH}", ".")

        served = self._bare.parent

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(self, served)

            def do_POST(self) -> None:
                _answer(self, served)

            def log_message(self, *values: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/{self._bare.name}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(self, files: Mapping[str, str | None]) -> str:
        """Write these files, None deletes one; commit and publish. Returns the id of the commit."""
        for name, text in files.items():
            path = self._tree / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self._git("add", "-A")
        self._git(*_IDENTITY, "commit", "-q", "-m", ", ".join(files))
        self._git("push", "-q", str(self._bare), BRANCH)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *words: str) -> str:
        """What git prints; nothing of the user's settings counts."""
        alone = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *words], cwd=self._tree, env=alone, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout


def _answer(request: http.server.BaseHTTPRequestHandler, served: pathlib.Path) -> None:
    """Answer by `git http-backend`, a program after the rules of CGI."""
    path, _, query = request.path.partition("?")
    length = int(request.headers.get("Content-Length") or 0)
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(served),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "REQUEST_METHOD": request.command,
        "PATH_INFO": urllib.parse.unquote(path),
        "QUERY_STRING": query,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(length),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
    }
    body = request.rfile.read(length)
    backend = ["git", "http-backend"]
    done = subprocess.run(backend, env=environment, input=body, capture_output=True, timeout=60, check=False)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
    request.send_response(int(fields.pop("Status", "200 OK" if done.returncode == 0 else "500").split()[0]))
    for name, value in fields.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)
