"""The HTTP session that kopf is given: it sends each request as the connection describes it at that moment.

kopf is configured with a server that does not exist; its requests are sent to the real one, below its path, with the
current certificates, proxy and credentials. So kopf never has to log in again after a renewal, and uses the same
connection as our own requests.
kopf's lists ask for a name that no object can have (docs/design/0007-kopf-watches-and-we-list.md).

An invalid answer, or one that takes too long, becomes a connection error for kopf, which it tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import multidict
import yarl

from bandwidth_kube.connection import Connection, Current
from bandwidth_kube.credentials.access import NoConnectionError

SERVER = "https://api"  # as kopf knows it; what it writes behind it is a path of the API
NO_OBJECT = "Nobody"  # capital letters: no object can have this name
BUSY_MAX_SECONDS = 30.0  # whatever Retry-After asks for
BUSY_SECONDS = 1.0  # where it is not given
LIST_MAX_BYTES = 1 << 20  # of an empty list, or of an error
EVENT_MAX_BYTES = 16 << 20  # of one line of a watch

# path, answer, whether it is a watch
Answered = Callable[[str, aiohttp.ClientResponse, bool], None]


class Session:
    """The part of aiohttp.ClientSession that kopf uses. For one event loop."""

    def __init__(self, connection: Connection, user_agent: str, answered: Answered) -> None:
        self._connection = connection
        self._answered = answered
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers={"user-agent": user_agent, "accept-encoding": "identity"},
            auto_decompress=False,
            response_class=_Bounded,
        )

    @property
    def headers(self) -> multidict.CIMultiDict[str]:
        return self._session.headers

    @property
    def closed(self) -> bool:
        return self._session.closed

    async def close(self) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request of kopf's; the signature is aiohttp's."""
        path, _, query = url.removeprefix(SERVER).partition("?")
        watch = "watch=true" in query.split("&")
        if not watch:
            query = "&".join(filter(None, (query, f"fieldSelector=metadata.name%3D{NO_OBJECT}")))
        try:
            now = await asyncio.to_thread(self._connection.current)  # which may read files, or wait for a program
        except NoConnectionError as error:
            raise aiohttp.ClientConnectionError(str(error)) from error
        try:
            response = await self._session.request(
                method,
                yarl.URL(f"{now.server}{path}?{query}", encoded=True),
                json=json,
                timeout=timeout or aiohttp.ClientTimeout(total=60.0),
                allow_redirects=False,
                **_arguments(now, headers or {}),
            )
        except aiohttp.ClientConnectorError as error:
            self._connection.disbelieved(now, error)  # kopf tries again in any case
            raise
        except aiohttp.ClientResponseError as error:  # of a proxy, or of what does not speak HTTP
            raise aiohttp.ClientConnectionError(f"{error.status} {error.message}") from error
        await self._check(response)
        if response.status < 300 or response.status == 404:
            self._answered(path, response, watch)
        return response

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise a connection error for an answer after which kopf should just try again: 401, 429, redirects."""
        status = response.status
        if status == 401:
            self._connection.refused()
            response.close()
            raise aiohttp.ClientConnectionError("401 the credentials are read again")
        if status == 429:
            asked = response.headers.get("retry-after", "")
            seconds = float(asked[:9]) if asked.isascii() and asked.isdecimal() else BUSY_SECONDS
            response.close()
            await asyncio.sleep(min(seconds, BUSY_MAX_SECONDS))
            raise aiohttp.ClientConnectionError("429 the server is busy")
        if status < 200 or 300 <= status < 400:
            response.close()
            raise aiohttp.ClientConnectionError(f"{status} is no answer of an API server")


def _arguments(now: Current, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of aiohttp for one request."""
    way: dict[str, Any] = {
        "headers": {**headers, **now.headers},
        "ssl": now.tls or now.proxy_tls or True,
        "server_hostname": now.server_name,
    }
    if now.proxy is not None:
        way |= {"proxy": now.proxy.url, "proxy_headers": dict(now.proxy.headers)}
        if now.tls is None:  # the proxy reads the request itself
            way["headers"] |= now.proxy.headers
    return way


class _Lines:
    """The stream of an answer with lines of bounded length; kopf would keep an endless line in memory."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        held = 0
        async for piece in self._stream.iter_chunked(size):
            end = piece.rfind(b"\n")
            held = held + len(piece) if end < 0 else len(piece) - end - 1
            if held > EVENT_MAX_BYTES:
                raise aiohttp.ClientPayloadError(f"a line of more than {EVENT_MAX_BYTES} bytes")
            yield piece


class _Bounded(aiohttp.ClientResponse):
    """An answer that can be read as a whole only if it is small, and whose lines are of bounded length."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        await super().start(connection)
        self.content: Any = _Lines(self.content)
        return self

    async def read(self) -> bytes:
        if self._body is None:
            body = bytearray()
            try:
                async for piece in self.content.iter_chunked(1 << 16):
                    body += piece
                    if len(body) > LIST_MAX_BYTES:
                        raise aiohttp.ClientPayloadError(f"an answer of more than {LIST_MAX_BYTES} bytes")
            except BaseException:
                self.close()
                raise
            self._body = bytes(body)
        return self._body
