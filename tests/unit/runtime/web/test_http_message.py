"""Requests as bytes: what they ask for, what is refused, and what is not whole yet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_runtime.web import http_message
from bandwidth_runtime.web.http_message import Answer, Request

END = b"\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        (b"GET /metrics HTTP/1.1" + END, Request("/metrics", False)),
        (b"HEAD /healthz HTTP/1.0" + END, Request("/healthz", True)),
        (b"GET /metrics?x=/readyz HTTP/1.1\r\nHost: a" + END, Request("/metrics", False)),
        (b"GET http://node:9732/readyz HTTP/1.1" + END, Request("/readyz", False)),
        (b"GET /healthz HTTP/1.1\nHost: a\n\n", Request("/healthz", False)),
        (b"GET /healthz HTTP/1.1" + END + b"GET /metrics HTTP/1.1" + END, Request("/healthz", False)),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 3" + END + b"abc", Request("/healthz", False)),
    ],
)
def test_a_request_is_its_first_head(text: bytes, request_: Request) -> None:
    """Method and path; a query, a body, or more requests behind it change nothing."""
    assert http_message.read(text) == request_


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"POST /metrics HTTP/1.1" + END, 405),
        (b"GET metrics HTTP/1.1" + END, 400),
        (b"GET /metrics\r\n", 400),
        (b"GET /metrics HTTP/2.0" + END, 505),
        (b"PRI * HTTP/2.0" + END, 505),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"\0\0\0\0", 400),
        (b"nonsense\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /" + b"a" * http_message.LINE_BYTES_MAX, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * http_message.HEAD_BYTES_MAX, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * http_message.HEAD_BYTES_MAX + END, 431),
    ],
)
def test_what_is_no_request_of_ours_is_refused_at_once(text: bytes, status: int) -> None:
    """TLS, other versions, other methods, too much: each with its own status, before more of it is read."""
    answer = http_message.read(text)
    assert isinstance(answer, Answer)
    assert answer.status == status
    assert http_message.head(answer).startswith(f"HTTP/1.1 {status} ".encode())


@given(st.binary(max_size=300))
def test_no_bytes_are_too_odd(text: bytes) -> None:
    """Whatever comes is a request, an answer or not whole yet."""
    assert isinstance(http_message.read(text), Request | Answer | None)


@given(st.integers(0, 60))
def test_a_request_that_comes_in_parts_is_the_same(cut: int) -> None:
    """A part asks for more, unless it is the whole."""
    whole = b"GET /metrics HTTP/1.1\r\nHost: node" + END
    assert http_message.read(whole[:cut]) == (http_message.read(whole) if cut >= len(whole) else None)


def test_an_answer_ends_its_connection() -> None:
    """Length, type, and that nothing more comes; the methods where another one was asked for."""
    refused = http_message.read(b"PUT / HTTP/1.1" + END)
    assert isinstance(refused, Answer)
    head = http_message.head(refused).decode()
    assert "\r\nConnection: close\r\n" in head
    assert "\r\nAllow: GET, HEAD\r\n" in head
    assert f"\r\nContent-Length: {len(refused.body)}\r\n" in head
    assert head.endswith("\r\n\r\n")
