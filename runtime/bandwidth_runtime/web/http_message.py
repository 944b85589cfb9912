"""The part of HTTP that three pages need: the head of a request, and the head of a response. Pure.

Every response ends its connection; a body or a second request after the first head is ignored.
"""

from __future__ import annotations

import http
from typing import NamedTuple

HEAD_BYTES_MAX = 8192
LINE_BYTES_MAX = 2048
TEXT = "text/plain; charset=utf-8"


class Request(NamedTuple):
    path: str  # without the query
    head_only: bool


class Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes
    allow: str = ""  # the methods, where the one asked for is not among them


def read(received: bytes | bytearray) -> Request | Answer | None:
    """Parse the beginning of a request: a Request, the Answer that refuses it, or None if more bytes are needed."""
    line, found, _ = bytes(received[: LINE_BYTES_MAX + 2]).partition(b"\n")
    if not found:
        if len(received) > LINE_BYTES_MAX:
            return refusal(414, f"a request line has at most {LINE_BYTES_MAX} bytes")
        return _not_http(line) if line and not _may_begin(line) else None
    words = line.rstrip(b"\r").split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/"):
        return _not_http(line)
    if not words[2].startswith(b"HTTP/1."):
        return refusal(505, "this speaks HTTP/1.1")
    ends = [at for at in (received.find(b"\r\n\r\n"), received.find(b"\n\n"), received.find(b"\n\r\n")) if at >= 0]
    if not ends:
        if len(received) > HEAD_BYTES_MAX:
            return refusal(431, f"the head of a request has at most {HEAD_BYTES_MAX} bytes")
        return None
    if min(ends) > HEAD_BYTES_MAX:
        return refusal(431, f"the head of a request has at most {HEAD_BYTES_MAX} bytes")
    if words[0] not in (b"GET", b"HEAD"):
        return refusal(405, "there is nothing to write here")._replace(allow="GET, HEAD")
    target = words[1].decode("ascii", "replace")
    scheme, found_scheme, rest = target.partition("://")
    if found_scheme and scheme.lower() in ("http", "https"):
        target = "/" + rest.partition("/")[2]
    if not target.startswith("/"):
        return refusal(400, "the target of a request begins with /")
    return Request(target.partition("?")[0], words[0] == b"HEAD")


def refusal(status: int, why: str) -> Answer:
    """Return an answer that is one line of text."""
    return Answer(status, TEXT, f"{why}\n".encode())


def head(answer: Answer) -> bytes:
    """Return the status line and the headers of an answer, as bytes."""
    lines = [
        f"HTTP/1.1 {answer.status} {http.HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if answer.allow:
        lines.append(f"Allow: {answer.allow}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _may_begin(line: bytes) -> bool:
    """Whether this can become a request line: what begins TLS, or is no text, cannot."""
    return all(0x20 < byte < 0x7F for byte in line[:3])


def _not_http(line: bytes) -> Answer:
    if line[:1] == b"\x16":
        return refusal(400, "this is plain HTTP, without TLS")
    return refusal(400, "this is no HTTP/1.1 request")
