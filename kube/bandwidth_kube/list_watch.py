"""Follows one collection of the API server in a thread of its own (a reflector): a list, then a watch, repeatedly.

Owns waiting, jitter and back-off towards the API server, and the rule of what counts as read:

    what happened                              what is done
    ─────────────────────────────────────────  ──────────────────────────────────────────────────────────────────────
    a list that came to its end                replaces everything known
    a list that broke off, or expired, or in
    which something cannot be read             nothing; begun again
    an event                                   changes one object; objects that did not change are not decoded again
    the server ended the watch in good order   a new watch from where the last one stood, at once
    a watch that was cut after a while         the same after a short pause: a proxy on the way may cut connections
                                               that seem idle, and that is no failure
    a watch cut at once, refused or frozen     the same after a pause that grows; half a line is nothing
    410, or an error event                     a new list after a pause, no older than what was seen before

Contains nothing about our kinds, and never hands out an incomplete list.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import structlog

from bandwidth_kube import client
from bandwidth_kube.collection import Collection, Listener, Reading

T = TypeVar("T")
Object = dict[str, Any]

BACKOFF_SECONDS = 1.0  # the first pause after a failure is at most so long; they double …
BACKOFF_MAX_SECONDS = 10.0  # … up to this
SPREAD = 0.2  # a pause is between this part of the longest and all of it: a server that comes back meets no crowd
RELIST_SECONDS = 0.5  # a new list comes at least this long after it was found wanting
PAUSE_MAX_SECONDS = 120.0  # whatever Retry-After asks for
STEP_SECONDS = 10.0  # a long pause still gives signs of life this often
SHORT_SECONDS = 1.0  # a watch that ends so soon, having brought nothing, counts as a failure
VERSION_MAX = 64  # characters; what is longer is no version of a server
CHANGES = frozenset({"ADDED", "MODIFIED", "DELETED"})

log = structlog.get_logger("cluster")


class Reader(Generic[T]):
    """Reads one collection and calls `report` with every new reading, from its own thread."""

    def __init__(
        self,
        api: client.Client,
        collection: Collection[T],
        report: Callable[[Reading[T]], None],
        listener: Listener,
        *,
        not_older_than: str = "",
        known: Mapping[str, T] | None = None,
        first_pause_seconds: float = 0.0,
        jitter_seconds: Callable[[], float] = lambda: 0.0,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """Prepare the reader. `not_older_than` and `known`: the version that an earlier process saw, and what it read.

        `jitter_seconds`: how far apart the lists of all nodes should be when all of them need a new one.
        `wait`: pauses for so many seconds, or until it is to stop, and then returns True.
        """
        self._api = api
        self._collection = collection
        self._report = report
        self._listener = listener
        self._first_pause = first_pause_seconds
        self._jitter_seconds = jitter_seconds
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._wait = wait if wait is not None else self._stopping.wait
        self._thread = threading.Thread(target=self.run, name=f"read {collection.name}", daemon=True)
        self._floor = not_older_than  # no list older than this is believed
        self._version: str | None = None  # where to go on watching; None: a list is needed
        # By name: resource version and content. The version of what is only known is not.
        self._items: dict[str, tuple[str, T]] = {name: ("", item) for name, item in (known or {}).items()}
        self._failures = 0
        self._overfull = False  # there are more objects than are kept
        self._opened_at = 0.0  # monotonic; when the server began to answer the last watch

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to stop, without waiting for a request."""
        self._stopping.set()

    def once(self) -> Reading[T]:
        """Read one whole list in the calling thread. Raises client.ApiError."""
        self._list()
        return self._reading()

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Read until stopped; the body of the thread."""
        try:
            self._pause(self._first_pause)
            while not self._stopping.is_set():
                self._listener.alive(self._collection.name)
                self._turn()
        except BaseException as error:
            self._listener.crashed(self._collection.name, error)

    def _turn(self) -> None:
        """One list, if one is needed, and one watch; then the pause that its end asks for."""
        try:
            if self._version is None:
                self._list()
                self._report(self._reading())
            self._watch(self._version or "")
        except client.ApiError as error:
            if self._stopping.is_set():
                return
            if isinstance(error, client.CutError) and self._monotonic() - self._opened_at >= SHORT_SECONDS:
                self._failures = 0
                self._listener.heard(self._collection.name)
                self._pause(backoff(1))
                return
            self._failures += 1
            self._listener.trouble(self._collection.name, error)
            self._pause(self._seconds_after(error))

    def _list(self) -> None:
        """One whole list. What is known stays as it is until its last page is there."""
        chosen = self._collection
        query = dict(chosen.query)
        if self._floor:
            # From the watch cache too, but never older than what was seen; it cannot be cut into pages.
            query |= {"resourceVersion": self._floor, "resourceVersionMatch": "NotOlderThan"}
        else:
            query |= {"resourceVersion": "0"}
        items: dict[str, tuple[str, T]] = {}
        version = ""
        try:
            pages = self._api.pages(
                chosen.path, query=query, accept=chosen.accept, limit=None if self._floor else client.PAGE
            )
            for page in pages:
                version = page.resource_version
                kept = page.items[: chosen.most - len(items)] if chosen.most else page.items
                for item in kept:
                    items.update([self._read(item)])
                self._overfull = len(kept) < len(page.items)
                if self._overfull:
                    break
        except client.RefusedError as refused:
            if self._floor and _too_new(refused):
                # The server's history does not reach that far: restored from a backup, or another cluster.
                log.warning("the API server is behind what was read before; believing it", collection=chosen.name)
                self._floor = ""
            raise
        if not version or len(version) > VERSION_MAX:
            raise client.UnreachableError(f"list {chosen.path}: it has no resource version")
        self._items = items
        self._version = self._floor = version
        self._listener.heard(chosen.name)
        self._listener.listed(chosen.name)

    def _watch(self, version: str) -> None:
        chosen = self._collection
        # Not all at once: the watches of all nodes that began together are to end apart.
        seconds = int(chosen.watch_seconds * random.uniform(0.8, 1.0))  # noqa: S311
        events = self._api.watch(
            chosen.path,
            version,
            query={**chosen.query, "timeoutSeconds": str(seconds)},
            accept=chosen.accept_watch,
            silence_seconds=chosen.silence_seconds,
            opened=self._opened,
        )
        began = self._monotonic()
        with contextlib.closing(events):
            for event in events:
                self._listener.alive(chosen.name)
                self._listener.heard(chosen.name)
                self._failures = 0
                self._take(event)
                if self._stopping.is_set():
                    return
        if self._monotonic() - began < SHORT_SECONDS and self._version == version:
            raise client.UnreachableError(f"watch {chosen.path}: it ended as soon as it had begun")
        self._failures = 0
        self._listener.heard(chosen.name)
        if self._overfull:
            self._version = None  # some of those that are kept may be gone

    def _opened(self) -> None:
        self._opened_at = self._monotonic()

    def _take(self, event: Object) -> None:
        """Note one event; a reading is reported when an object differs from the one before."""
        kind, item = event.get("type"), event.get("object")
        metadata = item.get("metadata") if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(metadata, dict) or not _understood(kind, metadata):
            self._version = None
            raise client.UnreachableError(f"watch {self._collection.path}: an event without an object that has a name")
        version = str(metadata.get("resourceVersion", ""))
        if kind == "BOOKMARK" and _older(version, self._floor):
            self._version, self._floor = None, ""
            raise client.UnreachableError(f"watch {self._collection.path}: the server went back in its history")
        self._version = self._floor = version or self._floor
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            if self._items.pop(metadata["name"], None) is None:
                return
        elif metadata["name"] not in self._items and 0 < self._collection.most <= len(self._items):
            self._overfull = True
            return
        else:
            name, now = self._read(item)
            before, self._items[name] = self._items.get(name), now
            if before is not None and before[1] == now[1]:
                return
        self._report(self._reading())

    def _read(self, item: Object) -> tuple[str, tuple[str, T]]:
        """An object that has a name."""
        name, version = item["metadata"]["name"], str(item["metadata"].get("resourceVersion", ""))
        known = self._items.get(name)
        if known is not None and version and known[0] == version:
            return name, known
        try:
            return name, (version, self._collection.decode(item, known[1] if known is not None else None))
        except ValueError as error:
            self._version = None
            raise client.UnreachableError(f"{self._collection.path}/{name} cannot be read: {error}") from error

    def _reading(self) -> Reading[T]:
        return Reading({name: decoded for name, (_, decoded) in self._items.items()}, self._floor)

    # ── pauses ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _seconds_after(self, error: client.ApiError) -> float:
        """How long to wait after this failure; decides too whether a new list is needed."""
        seconds = backoff(self._failures)
        if isinstance(error, client.RefusedError) and not _passing(error):
            self._version = None
        if isinstance(error, client.RefusedError) and error.retry_after_seconds is not None:
            # Later than asked, never sooner; and not all at once.
            asked = min(error.retry_after_seconds, PAUSE_MAX_SECONDS)
            seconds = max(seconds, asked * random.uniform(1.0, 1.3))  # noqa: S311
        if isinstance(error, client.RefusedError) and error.status == 403 and self._collection.forbidden_seconds:
            seconds = max(seconds, self._collection.forbidden_seconds * random.uniform(SPREAD, 1.0))  # noqa: S311
        if isinstance(error, client.RefusedError) and error.status == 404 and self._collection.absent_seconds:
            seconds = max(seconds, self._collection.absent_seconds * random.uniform(SPREAD, 1.0))  # noqa: S311
        if self._version is None:
            seconds = max(seconds, RELIST_SECONDS) + random.uniform(0.0, self._jitter_seconds())  # noqa: S311
        return seconds

    def _pause(self, seconds: float) -> None:
        end = self._monotonic() + seconds
        while (left := end - self._monotonic()) > 0:
            self._listener.alive(self._collection.name)
            if self._wait(min(left, STEP_SECONDS)):
                return


def backoff(failures: int) -> float:
    """Return the pause after the n-th failure in a row."""
    longest = min(BACKOFF_SECONDS * 2.0 ** max(0, failures - 1), BACKOFF_MAX_SECONDS)
    return longest * random.uniform(SPREAD, 1.0)  # noqa: S311


def _passing(refused: client.RefusedError) -> bool:
    """Whether a watch that was refused so may be asked for again as it was."""
    if isinstance(refused, client.EndedError) or _too_new(refused):
        return False
    return refused.temporary or refused.status in (401, 403)


def _too_new(refused: client.RefusedError) -> bool:
    """Whether the server does not know a version yet that we have seen."""
    return "ResourceVersionTooLarge" in (refused.reason, *refused.causes)


def _understood(kind: object, metadata: Object) -> bool:
    """Whether an event is of a kind that is known, of an object with a name and a version that may be one."""
    version = metadata.get("resourceVersion", "")
    if not isinstance(version, str) or len(version) > VERSION_MAX:
        return False
    name = metadata.get("name")
    return kind == "BOOKMARK" or (kind in CHANGES and isinstance(name, str) and name != "")


def _older(one: str, other: str) -> bool:
    return one.isdecimal() and other.isdecimal() and int(one) < int(other)
