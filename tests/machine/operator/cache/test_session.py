"""What kopf gets to see of an API server: answers that are some, and connection errors for everything else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest

from bandwidth_kube import connection
from bandwidth_operator.cache import session
from machine.kube.apis import Api, serving
from unit.kube.apis import Answer, refusal

PATH = "/apis/clientbandwidth.io/v1alpha1/clientbandwidthlimits"
LIST = {"metadata": {"resourceVersion": "7"}, "items": []}

Ask = Callable[[session.Session], Coroutine[Any, Any, Any]]


def asked(api: Api, ask: Ask, heard: list[tuple[str, bool]] | None = None) -> Any:
    """What `ask` makes of a session before this server."""
    address = f"http://127.0.0.1:{api._server.server_address[1]}/below"
    where = connection.Connection(lambda *, renew: connection.Access(address, token="t"), environment={})  # noqa: S106

    async def run() -> Any:
        said = heard if heard is not None else []
        made = session.Session(where, "test", lambda path, _, watch: said.append((path, watch)))
        try:
            return await ask(made)
        finally:
            await made.close()

    return asyncio.run(run())


async def listed(made: session.Session) -> Any:
    async with await made.request("get", f"{session.SERVER}{PATH}?limit=500") as answer:
        return await answer.json()


async def watched(made: session.Session) -> list[bytes]:
    async with await made.request("get", f"{session.SERVER}{PATH}?watch=true&resourceVersion=7") as answer:
        return [piece async for piece in answer.content.iter_chunked(1 << 20)]


def test_lists_are_of_nobody_and_watches_of_all() -> None:
    """Both below the path of the server, with our token; what was answered is told by the path of the API."""
    heard: list[tuple[str, bool]] = []
    with serving(lambda _: Answer(body=LIST)) as api:
        assert asked(api, listed, heard) == LIST
        asked(api, watched, heard)
        one, other = api.requests
    assert (one.path, dict(one.query)) == (
        f"/below{PATH}",
        {"limit": "500", "fieldSelector": f"metadata.name={session.NO_OBJECT}"},
    )
    assert (other.path, dict(other.query)) == (f"/below{PATH}", {"watch": "true", "resourceVersion": "7"})
    assert one.headers["authorization"] == other.headers["authorization"] == "Bearer t"
    assert heard == [(PATH, False), (PATH, True)]


@pytest.mark.parametrize(
    "answer",
    [
        refusal(401, "Unauthorized"),
        Answer(302, headers={"location": "http://127.0.0.1:1/"}),
        Answer(304, headers={"location": "http://127.0.0.1:1/"}),
        refusal(429, "TooManyRequests", retry_after="0"),
        Answer(lines=[b"x" * 100_000] * 20),
    ],
)
def test_what_is_no_answer_is_tried_again(answer: Answer) -> None:
    """kopf tries a connection error again after a pause; it would not do so with these, or at once, or for ever."""
    heard: list[tuple[str, bool]] = []
    with serving(lambda _: answer) as api, pytest.raises((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
        asked(api, listed, heard)
    assert heard == [] or answer.lines is not None


@pytest.mark.parametrize(
    ("said", "least", "most"), [("1", 1.0, 20.0), ("", 0.0, 20.0), ("100000", 0.2, 20.0), ("²", 0.0, 20.0)]
)
def test_a_busy_server_is_waited_for_within_a_bound(
    said: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it asks for, but not for a day, and a moment where it asks for nothing."""
    if said != "1":
        monkeypatch.setattr(session, "BUSY_MAX_SECONDS", 0.2)
    monkeypatch.setattr(session, "BUSY_SECONDS", 0.1)
    with serving(lambda _: refusal(429, "TooManyRequests", retry_after=said)) as api:
        began = time.monotonic()
        with pytest.raises(aiohttp.ClientConnectionError):
            asked(api, listed)
        assert least <= time.monotonic() - began < most


@pytest.mark.parametrize("status", [403, 404, 409, 410, 500, 503])
def test_errors_of_an_api_server_are_left_to_kopf(status: int) -> None:
    """It knows them; but only that a kind is away says anything about the watch."""
    heard: list[tuple[str, bool]] = []
    with serving(lambda _: refusal(status, "Reason")) as api:
        assert asked(api, listed, heard)["code"] == status
    assert heard == ([(PATH, False)] if status == 404 else [])


def test_a_line_without_an_end_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the watch; lines that end are as long as objects are."""
    monkeypatch.setattr(session, "EVENT_MAX_BYTES", 100_000)
    event = json.dumps({"type": "ADDED", "object": {"a": "x" * 50_000}}).encode() + b"\n"
    with serving(lambda _: Answer(lines=[event] * 10)) as api:
        assert b"".join(asked(api, watched)) == event * 10
    with (
        serving(lambda _: Answer(lines=[event, *[b"x" * 60_000] * 10])) as api,
        pytest.raises(aiohttp.ClientPayloadError),
    ):
        asked(api, watched)


def test_a_connection_that_cannot_be_used_is_tried_again() -> None:
    """What is wrong with it may be mended."""

    class Broken(connection.Connection):
        def current(self) -> connection.Current:
            raise connection.NoConnectionError("half written")

    async def run() -> None:
        made = session.Session(
            Broken(lambda *, renew: connection.Access("http://127.0.0.1:1")), "test", lambda *_: None
        )
        try:
            with pytest.raises(aiohttp.ClientConnectionError, match="half written"):
                await made.request("get", f"{session.SERVER}{PATH}")
        finally:
            await made.close()

    asyncio.run(run())


def test_a_proxy_that_does_not_reach_the_server_is_tried_again() -> None:
    """Its refusal is not the server's."""
    with serving(lambda _: refusal(502, "BadGateway")) as api:
        proxy = f"http://127.0.0.1:{api._server.server_address[1]}"
        access = connection.Access("https://api.example.com", proxy_url=proxy)

        async def run() -> None:
            made = session.Session(connection.Connection(lambda *, renew: access), "test", lambda *_: None)
            try:
                with pytest.raises(aiohttp.ClientConnectionError):
                    await made.request("get", f"{session.SERVER}{PATH}")
            finally:
                await made.close()

        asyncio.run(run())
