"""Sends one request to the API server, reads a list in pages, follows a watch; all with plain dictionaries.

Owns the bounds on each answer: its duration, its size and its form. Never retries and never pauses: only the caller
knows what its request is worth.
Every failure is one of two exceptions: `RefusedError` (the server answered with an error) or `UnreachableError` (it
did not answer, or the answer was invalid). May be used by several threads.
"""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple

import urllib3

from bandwidth_kube import answers
from bandwidth_kube.connection import Connection
from bandwidth_kube.credentials.access import NoConnectionError
from bandwidth_kube.pool import Pool
from bandwidth_kube.transport import deadline

Object = dict[str, Any]

PAGE = 500  # objects; the size that keeps both sides' memory small
PAGES_MAX = 10_000  # of one list
TIMEOUT_SECONDS = 10.0  # for a whole request, to the last byte of its answer
LIST_SECONDS = 30.0  # for one page
WATCH_SILENCE_SECONDS = 90.0  # bookmarks come about once a minute
ANSWER_MAX_BYTES = 16 << 20  # one object; the server takes none beyond 3 MiB
LIST_MAX_BYTES = 128 << 20  # one page, or a whole list where the server does not cut it
EVENT_MAX_BYTES = 16 << 20
RETRY_AFTER_MAX_SECONDS = 120.0  # whatever the server asks for

_TEXT_MAX = 200  # bytes of an answer that is no Status, such as of a proxy, or of a kind that is not known
_TEXT_READ_MAX = 1 << 20  # bytes of an answer that is an error

JSON = "application/json"
# Only names, labels and the like of each object: a Node's status is long, and changes all the time.
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
METADATA_WATCH = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML


class ApiError(Exception):
    """A request did not succeed."""


class UnreachableError(ApiError):
    """There was no answer, or an incomplete one: the request may or may not have been carried out."""


class CutError(UnreachableError):
    """A watch was cut off after the server had begun to answer; not by silence."""


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
        """Whether the same request may succeed later: the server is overloaded, starting or stopping."""
        return self.status == 429 or self.status >= 500


class EndedError(RefusedError):
    """The server ended a watch with an error event; all events before it are complete. Continue with a new list."""


class Page(NamedTuple):
    items: list[Object]
    resource_version: str  # of the whole list
    remaining: int | None = None  # objects that follow, where the server reports it


class Client:
    """Sends requests over one pool of connections, always with the current credentials."""

    def __init__(
        self,
        connection: Connection,
        user_agent: str,
        *,
        connections: int = 8,
        manager: Callable[..., urllib3.PoolManager] = urllib3.PoolManager,
    ) -> None:
        """`manager` makes the pools of connections to a server that is reached without a proxy."""
        self._connection = connection
        self._user_agent = user_agent
        self._pool = Pool(connection, connections, manager)

    def close(self) -> None:
        """Close all connections; a request under way fails."""
        self._pool.close()

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
        most_bytes: int = ANSWER_MAX_BYTES,
    ) -> Object:
        """Send one request and return its answer, a JSON object of at most `most_bytes`. Raises ApiError."""
        headers = {"accept": accept, "content-type": content_type}
        with self._exchange(method, path), deadline.within(timeout_seconds):
            answer = self._send(method, path, query, body, headers, timeout_seconds)
            return answers.decoded(answers.body(answer, most_bytes))

    def pages(
        self,
        path: str,
        *,
        limit: int | None = PAGE,
        query: Mapping[str, str] | None = None,
        accept: str = JSON,
        timeout_seconds: float = LIST_SECONDS,
    ) -> Iterator[Page]:
        """Yield a list in pages of `limit` objects, all of one resource version; each item has a name.

        Raises RefusedError with status 410 when the pages took too long: list again from the beginning.
        """
        parameters = dict(query or {}) if limit is None else {"limit": str(limit), **(query or {})}
        version: str | None = None
        for _ in range(PAGES_MAX):
            answer = self.request(
                "GET",
                path,
                query=parameters,
                accept=accept,
                timeout_seconds=timeout_seconds,
                most_bytes=LIST_MAX_BYTES,
            )
            with self._exchange("GET", path):
                items, found, more, remaining = answers.listed(answer)
            if version is not None and found != version:
                raise RefusedError(410, "Expired", f"a page of another resource version in the list of {path}")
            version = found
            yield Page(items, found, remaining)
            if not more:
                return
            # The token holds the version; one beside it is an error to the server.
            parameters = {k: v for k, v in parameters.items() if not k.startswith("resourceVersion")}
            parameters["continue"] = more
        raise UnreachableError(f"GET {path}: the list does not end")

    def listed(self, path: str, *, query: Mapping[str, str] | None = None) -> Page:
        """Return a whole list; it is read again once if the token of a page has expired."""
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
        opened: Callable[[], object] = lambda: None,
    ) -> Generator[Object, None, None]:
        """Yield the events after a resource version, with bookmarks, until the server ends the stream.

        `opened` is called when the server begins to answer. Raises EndedError for an event of type ERROR, CutError for
        a stream that is cut off, UnreachableError for one that is silent for longer than `silence_seconds`.
        """
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            **(query or {}),
        }
        with self._exchange("GET", path), deadline.within(TIMEOUT_SECONDS + silence_seconds):
            answer = self._send("GET", path, parameters, None, {"accept": accept}, silence_seconds)
        opened()
        try:
            for line in answers.lines(answer, EVENT_MAX_BYTES):
                event = answers.decoded(line)
                if event.get("type") == "ERROR":
                    status = event.get("object")
                    if not isinstance(status, dict) or type(status.get("code", 500)) is not int:
                        raise ValueError("an error event without a status")
                    raise _refusal(status.get("code", 500), status, None, EndedError)
                yield event
        except (urllib3.exceptions.TimeoutError, ValueError) as error:
            raise UnreachableError(f"watch {path}: {error}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise CutError(f"watch {path}: {error}") from error
        finally:
            answer.close()

    @contextlib.contextmanager
    def _exchange(self, method: str, path: str) -> Iterator[None]:
        """Turn every kind of missing or invalid answer into an UnreachableError that names the request."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError, NoConnectionError, ValueError) as error:
            raise UnreachableError(f"{method} {path}: {error}") from error

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None,
        headers: Mapping[str, str],
        silence_seconds: float,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the answer, its body unread. Raises RefusedError for the status of an error."""
        payload = None if body is None else answers.encoded(body)
        answer = self._pool.send(
            method,
            path + (f"?{urllib.parse.urlencode(query)}" if query else ""),
            payload,
            {**headers, "accept-encoding": "identity", "user-agent": self._user_agent},
            urllib3.Timeout(connect=TIMEOUT_SECONDS, read=silence_seconds),
        )
        if answer.status < 300:
            return answer
        if answer.status == 401:
            self._connection.refused()
        with deadline.within(TIMEOUT_SECONDS):
            data = answers.body(answer, _TEXT_READ_MAX)
        status: Object = {"message": data[:_TEXT_MAX].decode(errors="replace").strip()}
        with contextlib.suppress(ValueError):
            status = answers.decoded(data)
        raise _refusal(answer.status, status, answer.headers.get("retry-after"))


def _refusal(
    code: int, status: Object, retry_after: str | None, kind: type[RefusedError] = RefusedError
) -> RefusedError:
    found = status.get("details")
    details = found if isinstance(found, dict) else {}
    seconds = _seconds(retry_after)
    if seconds is None:
        seconds = _seconds(details.get("retryAfterSeconds"))
    listed = details.get("causes")
    causes = listed if isinstance(listed, list) else []
    words = tuple(str(each.get("reason", "")) for each in causes if isinstance(each, dict))
    return kind(code, str(status.get("reason", "")), str(status.get("message", "")), seconds, words)


def _seconds(asked: object) -> float | None:
    """Return the pause that the server asks for, at most RETRY_AFTER_MAX_SECONDS; None if it names no seconds."""
    if isinstance(asked, str) and asked.isascii() and asked.isdecimal():
        asked = int(asked[:10])
    if type(asked) is not int or asked < 0:
        return None
    return min(float(min(asked, 1 << 31)), RETRY_AFTER_MAX_SECONDS)
