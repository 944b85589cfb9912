"""One request to the API server, a list in pages, a watch; all on plain dictionaries.

Owns the pool of connections. Retries nothing and waits for nothing: a caller knows better what its request is worth.
Every failure is one of two exceptions: `RefusedError` (the server answered) or `UnreachableError` (it did not).
May be used by several threads.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NamedTuple

import urllib3

from bandwidth_kube.connection import Connection, NoConnectionError, Trust

Object = dict[str, Any]

PAGE = 500  # objects; the size that keeps both sides' memory small
TIMEOUT_SECONDS = 10.0
WATCH_SILENCE_SECONDS = 90.0  # bookmarks come about once a minute

_TEXT_MAX = 200  # bytes of an answer that is no Status, such as of a proxy, or of a kind that is not known

JSON = "application/json"
# Only names, labels and the like of each object: a Node's status is long, and changes all the time.
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
METADATA_WATCH = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML


class ApiError(Exception):
    """A request did not succeed."""


class UnreachableError(ApiError):
    """No answer, or half of one: it may or may not have been carried out."""


class RefusedError(ApiError):
    """The server answered with an error. `reason` is the CamelCase word of its Status object, "" if it sent none."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        retry_after_seconds: float | None = None,
        causes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(" ".join(filter(None, (str(status), reason and f"{reason}:", message))))
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.causes = causes  # CamelCase words of single fields

    @property
    def temporary(self) -> bool:
        """Whether the same request may succeed a little later: the server is overloaded, starting or stopping."""
        return self.status == 429 or self.status >= 500


class EndedError(RefusedError):
    """The server ended a watch with an error event. What it brought until then is whole; go on with a new list."""


class Page(NamedTuple):
    items: list[Object]
    resource_version: str  # of the whole list


class Client:
    """Requests over one pool of connections."""

    def __init__(self, connection: Connection, user_agent: str, *, connections: int = 8) -> None:
        self._connection = connection
        self._user_agent = user_agent
        self._connections = connections
        self._lock = threading.Lock()
        self._trust = connection.trust
        self._pool = self._new_pool(self._trust)

    def close(self) -> None:
        """Close all connections; a request under way fails."""
        self._pool.clear()

    def _new_pool(self, trust: Trust) -> urllib3.PoolManager:
        keywords: dict[str, Any] = {}
        name = trust.server_name
        if name:
            keywords |= {"server_hostname": name, "assert_hostname": name}
        tls = self._connection.tls()
        if tls is not None:
            keywords["ssl_context"] = tls
        return urllib3.PoolManager(num_pools=1, maxsize=self._connections, retries=False, **keywords)

    def _current_pool(self) -> urllib3.PoolManager:
        """The pool for the certificates of now; what runs over an older one goes on to its end."""
        trust = self._connection.trust
        with self._lock:
            if trust != self._trust:
                old, self._pool, self._trust = self._pool, self._new_pool(trust), trust
                old.clear()  # those that wait for a request; one under way is not among them
            return self._pool

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Object:
        """One request and its answer."""
        headers = {"accept": accept, "content-type": content_type}
        answer = self._send(method, path, query, body, headers, urllib3.Timeout(total=timeout_seconds), True)
        try:
            return _decoded(answer.data)
        except ValueError as error:
            raise UnreachableError(f"{method} {path}: the answer is no JSON: {error}") from error

    def pages(
        self,
        path: str,
        *,
        limit: int | None = PAGE,
        query: Mapping[str, str] | None = None,
        accept: str = JSON,
        timeout_seconds: float = 30.0,
    ) -> Iterator[Page]:
        """A list in pages of `limit`, all of one resource version.

        `RefusedError` with status 410 in between: it took too long, begin again.
        """
        parameters = dict(query or {}) if limit is None else {"limit": str(limit), **(query or {})}
        version: str | None = None
        while True:
            answer = self.request("GET", path, query=parameters, accept=accept, timeout_seconds=timeout_seconds)
            metadata = answer.get("metadata", {})
            page = Page(answer.get("items") or [], str(metadata.get("resourceVersion", "")))
            if version is not None and page.resource_version != version:
                raise RefusedError(410, "Expired", f"a page of another resource version in the list of {path}")
            version = page.resource_version
            yield page
            if not metadata.get("continue"):
                return
            # The token says which version; one beside it is an error to the server.
            parameters = {k: v for k, v in parameters.items() if not k.startswith("resourceVersion")}
            parameters["continue"] = metadata["continue"]

    def listed(self, path: str, *, query: Mapping[str, str] | None = None) -> Page:
        """A whole list, begun again once if the server forgot where it was."""
        for attempt in (1, 2):
            items: list[Object] = []
            version = ""
            try:
                for page in self.pages(path, query=query):
                    items += page.items
                    version = page.resource_version
            except RefusedError as refused:
                if refused.status != 410 or attempt == 2:
                    raise
                continue
            return Page(items, version)
        raise AssertionError("unreachable")

    def watch(
        self,
        path: str,
        resource_version: str,
        *,
        query: Mapping[str, str] | None = None,
        accept: str = JSON,
        silence_seconds: float = WATCH_SILENCE_SECONDS,
    ) -> Generator[Object, None, None]:
        """The events after a resource version, bookmarks included, until the server ends the stream.

        An event of type ERROR is raised as `EndedError`; a stream silent too long, or cut, as `UnreachableError`.
        """
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            **(query or {}),
        }
        timeout = urllib3.Timeout(connect=TIMEOUT_SECONDS, read=silence_seconds)
        answer = self._send("GET", path, parameters, None, {"accept": accept}, timeout, False)
        try:
            for line in _lines(answer):
                event = _decoded(line)
                if event.get("type") == "ERROR":
                    status = event.get("object")
                    if not isinstance(status, dict) or not isinstance(status.get("code", 500), int):
                        raise ValueError("an error event without a status")
                    raise _refusal(status.get("code", 500), status, None, EndedError)
                yield event
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise UnreachableError(f"watch {path}: {error}") from error
        finally:
            answer.close()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None,
        headers: Mapping[str, str],
        timeout: urllib3.Timeout,
        preload: bool,
    ) -> urllib3.BaseHTTPResponse:
        url = self._connection.server + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {**headers, "user-agent": self._user_agent, **self._connection.headers()}
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        try:
            answer = self._current_pool().request(
                method, url, body=payload, headers=headers, timeout=timeout, preload_content=preload
            )
            if answer.status < 300:
                return answer
            data = answer.data
        except (urllib3.exceptions.HTTPError, OSError, NoConnectionError) as error:
            raise UnreachableError(f"{method} {path}: {error}") from error
        if answer.status == 401:
            self._connection.refused()
        status: Object = {"message": data[:_TEXT_MAX].decode(errors="replace").strip()}
        with contextlib.suppress(ValueError):
            status = _decoded(data)
        raise _refusal(answer.status, status, answer.headers.get("retry-after"))


def _refusal(
    code: int, status: Object, retry_after: str | None, kind: type[RefusedError] = RefusedError
) -> RefusedError:
    seconds: float | None = None
    if retry_after is not None and retry_after.isdigit():
        seconds = float(retry_after)
    found = status.get("details")
    details = found if isinstance(found, dict) else {}
    asked = details.get("retryAfterSeconds")
    if seconds is None and isinstance(asked, int):
        seconds = float(asked)
    causes = tuple(str(cause.get("reason", "")) for cause in details.get("causes") or () if isinstance(cause, dict))
    return kind(code, str(status.get("reason", "")), str(status.get("message", "")), seconds, causes)


def _decoded(data: bytes) -> Object:
    decoded = json.loads(data)
    if not isinstance(decoded, dict):
        raise ValueError("not an object")
    return decoded


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Whole lines of a stream. What is behind the last line end is half a line and is passed over."""
    rest = b""
    for chunk in answer.stream(amt=None):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)
