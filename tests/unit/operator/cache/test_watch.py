"""The thread in which kopf watches: whatever ends kopf, it is begun again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import aiohttp
import kopf
import pytest

from bandwidth_api.kinds import Kind
from bandwidth_kube import connection
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.cache.watch import Streams, Watch


class Answer:
    """As much of an answer as `Streams` looks at."""

    status = 200

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        protocol = aiohttp.base_protocol.BaseProtocol(loop)
        self.content = aiohttp.StreamReader(protocol, 2**16, loop=loop)


@pytest.mark.parametrize("ends", [True, False])
def test_a_stream_that_ended_is_told_from_one_that_was_cut(ends: bool) -> None:
    """Also when its end was followed by its closing, before the next one was opened."""
    loop = asyncio.new_event_loop()
    try:
        ended: list[Kind] = []
        streams = Streams(lambda kind: None, ended.append)
        first, second = Answer(loop), Answer(loop)
        streams.opened(Kind.SLICE.path, first, watch=True)  # type: ignore[arg-type]
        if ends:
            first.content.feed_eof()
        first.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        streams.opened(Kind.SLICE.path, second, watch=True)  # type: ignore[arg-type]
        assert ended == ([Kind.SLICE] if ends else [])
    finally:
        loop.close()


@pytest.mark.parametrize("end", [asyncio.CancelledError(), RuntimeError("kopf"), SystemExit(1), None])
def test_kopf_is_begun_again_whatever_ended_it(monkeypatch: pytest.MonkeyPatch, end: BaseException | None) -> None:
    """An error, tasks that cancel each other, a wish to end the process, or no reason at all."""
    again = threading.Event()
    begun: list[int] = []

    async def operator(*, stop_flag: asyncio.Event, **_: Any) -> None:
        begun.append(1)
        if len(begun) > 1:
            again.set()
            await stop_flag.wait()
        elif end is not None:
            raise end

    monkeypatch.setattr(kopf, "operator", operator)
    access = connection.Connection(lambda *, renew: connection.Access("http://127.0.0.1:9"))
    watch = Watch(access, Cache(), "test")
    watch.start()
    try:
        assert again.wait(20)
    finally:
        watch.stop()
