"""Runs kopf, which watches the cluster and puts events into the cache, and does nothing else.

Owns a thread with an event loop in which kopf watches four kinds of objects. No index, no finalizer, no diff base, no
events of kopf's own. kopf's handlers learn neither when a list is complete nor which objects were deleted while a
watch was interrupted; so after each list of kopf's (`take_relisted`) we make a whole list of our own. kopf's list asks
for a name that no object can have: it brings the version to watch from and no object.

A watch lasts SERVER_SECONDS; then the server ends it, and kopf starts the next one at the same version. kopf restarts a
frozen stream after INACTIVE_SECONDS. Whether a watch brings all changes cannot be seen here, because only some servers
send bookmarks: `watch_health` finds out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import aiohttp
import kopf
import structlog

from bandwidth_api import names
from bandwidth_api.crds import node_state, slices
from bandwidth_api.kinds import Kind
from bandwidth_kube.connection import Connection
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.cache.session import SERVER, Session

# kopf would ask the system for the name of our user, and in a container there is none. (A NewType of its own.)
IDENTITY: Any = "client-bandwidth-operator"
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0)  # the last one again and again
SERVER_SECONDS = 20
INACTIVE_SECONDS = 25.0  # a stream without an event for so long is frozen: it should have ended
STOP_SECONDS = 15.0
LOOK_SECONDS = 0.5
GIVEN_UP_SECONDS = 3.0  # without a session, or after the request to stop
UNASKED_SECONDS = 10.0  # kopf asks for a kind at once, or, where its CRD was away when it began, never

log = structlog.get_logger(__name__)


class Streams:
    """The kinds that kopf has requested, and those that it has listed. Written by kopf's thread, read by others.

    `began` is called with a kind when its watch begins, `ended` when a stream ended normally.
    """

    def __init__(self, began: Callable[[Kind], object], ended: Callable[[Kind], object]) -> None:
        self._lock = threading.Lock()
        self._began = began
        self._ended = ended
        self._relisted: set[Kind] = set()
        self._asked: set[Kind] = set()
        self._open: dict[Kind, aiohttp.ClientResponse] = {}  # the last stream of each

    def opened(self, path: str, response: aiohttp.ClientResponse, watch: bool) -> None:
        """Record that the server began to answer a list or a watch; an opened watch may still bring nothing."""
        kind = next((each for each in Kind if each.path == path), None)
        if kind is None:
            return
        listed = not watch and response.status < HTTPStatus.MULTIPLE_CHOICES
        with self._lock:
            before = self._open.pop(kind, None)
            self._asked.add(kind)
            if response.status == HTTPStatus.NOT_FOUND:
                self._asked.remove(kind)  # kopf asks no second time
            elif listed:
                self._relisted.add(kind)
            elif watch:
                self._open[kind] = response
        if listed:
            self._began(kind)
        elif before is not None and before.content.is_eof():
            self._ended(kind)  # whatever its closing did to it afterwards; one that was cut has no end

    def begin(self) -> None:
        """Record that kopf starts again."""
        with self._lock:
            self._asked.clear()
            self._open.clear()

    def unasked(self) -> frozenset[Kind]:
        """Return the kinds that kopf does not watch; none if it has just started, or the server answers nothing."""
        with self._lock:
            return frozenset(set(Kind) - self._asked) if self._asked else frozenset()

    def take_relisted(self) -> frozenset[Kind]:
        """Return the kinds that kopf has listed since the last call."""
        with self._lock:
            relisted, self._relisted = frozenset(self._relisted), set()
            return relisted


class Watch:
    """Runs kopf in a thread of its own, and restarts it when it ends or leaves a kind out. Started and stopped once."""

    def __init__(self, connection: Connection, cache: Cache, user_agent: str) -> None:
        self._connection = connection
        self._cache = cache
        self._user_agent = user_agent
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._end: Callable[[], object] | None = None
        self._sessions: list[Session] = []  # of the present loop, closed ones included
        self._again = threading.Event()
        self.streams = Streams(cache.began, cache.watch_health.ended)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and wait for the thread."""
        self._stopping.set()
        if self._end is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._end()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def begin_again(self) -> None:
        """End all watches and start them again at the server's present state; whole lists must follow."""
        self._again.set()

    def _run(self) -> None:
        for seconds in _backoffs():
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(self._watch())
            except BaseException as error:
                # Whatever kopf could not deal with, tasks that cancel each other included, which is no Exception: what
                # was missed meanwhile is found by the list that follows.
                log.warning("the watch broke off and is begun again", error=repr(error), after_seconds=seconds)
            finally:
                _abandon(loop)
            if self._stopping.wait(seconds):
                return

    async def _watch(self) -> None:
        """Run kopf until it ends, is stopped, or has failed: after some errors it closes its sessions and never ends.

        After other errors it ends the watch of one kind and continues with the rest.
        """
        # No threading.Event: kopf would wait for it in a thread that nothing ends.
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._end = lambda: loop.call_soon_threadsafe(stop.set)
        self._sessions.clear()
        operator = asyncio.create_task(
            kopf.operator(
                registry=self._registry(),
                settings=settings(),
                clusterwide=True,
                standalone=True,
                identity=IDENTITY,
                stop_flag=stop,
            )
        )
        began = loop.time()
        idle_since: float | None = None
        self.streams.begin()
        self._again.clear()
        while not operator.done():
            await asyncio.wait({operator}, timeout=LOOK_SECONDS)
            if self._again.is_set():
                raise RuntimeError("it brought nothing of what happened")
            alone = self.streams.unasked() if loop.time() - began > UNASKED_SECONDS else frozenset()
            if alone:
                raise RuntimeError(f"nothing comes of {', '.join(sorted(kind.value for kind in alone))}")
            connected = not self._sessions or any(not session.closed for session in self._sessions)
            if connected and not self._stopping.is_set():
                idle_since = None
            elif idle_since is None:
                idle_since = loop.time()
            elif loop.time() - idle_since > GIVEN_UP_SECONDS:
                break
        if operator.done():
            operator.result()
        elif not self._stopping.is_set():
            raise RuntimeError("kopf has given up")

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session: Any = Session(self._connection, self._user_agent, self.streams.opened)
            self._sessions.append(session)
            return kopf.AiohttpSession(server=SERVER, aiohttp_session=session)

        def listen(kind: Kind, *resource: str) -> None:
            @kopf.on.event(*resource, registry=registry, id=kind.value)
            async def noted(event: Any, **_: Any) -> None:
                odd = self._cache.note(kind, event["object"], deleted=event["type"] == "DELETED")
                if odd is not None:
                    log.warning(
                        "an event cannot be read and is passed over", kind=kind.value, name=odd.name, why=odd[1]
                    )

        listen(Kind.LIMIT, names.GROUP, names.VERSION, "clientbandwidthlimits")
        listen(Kind.NODE, "v1", "nodes")
        listen(Kind.SLICE, names.GROUP, names.VERSION, slices.PLURAL)
        listen(Kind.STATE, names.GROUP, names.VERSION, node_state.PLURAL)
        return registry


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings: plain watching and nothing else, as measured."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.scanning.disabled = True  # the kinds are known; no right to read all CRDs is needed
    chosen.watching.chunk_size = 500
    chosen.watching.initial_streaming = False  # it loses objects when the first stream is cut
    chosen.watching.server_timeout = SERVER_SECONDS
    chosen.watching.inactivity_timeout = INACTIVE_SECONDS
    chosen.watching.connect_timeout = 5.0
    chosen.networking.request_timeout = 60.0
    chosen.networking.error_backoffs = _Backoffs()
    chosen.queueing.worker_limit = None
    chosen.queueing.idle_timeout = 0.05  # a worker per object; do not keep 10,000 of them
    chosen.persistence.diffbase_storage = _NoDiffBase()
    chosen.persistence.progress_storage = _NoProgress()
    chosen.process.ultimate_exiting_timeout = None
    return chosen


class _NoDiffBase(kopf.DiffBaseStorage):
    """Switches off kopf's copy of every object, which takes a third of its time for handlers that we have not."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is stored."""


class _NoProgress(kopf.ProgressStorage):
    """Switches off kopf's stored progress of handlers, which we have not."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is stored."""

    def purge(self, **_: Any) -> None:
        """Nothing is stored."""

    def touch(self, **_: Any) -> None:
        """Nothing is stored."""

    def clear(self, *, essence: Any) -> Any:
        return essence


class _Backoffs:
    """Short pauses between attempts, without end, while the API server is away; kopf's own pauses grow to minutes."""

    def __iter__(self) -> Iterator[float]:
        return _backoffs()


def _backoffs() -> Iterator[float]:
    yield from BACKOFF_SECONDS
    while True:
        yield BACKOFF_SECONDS[-1]


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Close an event loop whose tasks may refuse to end."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):  # one of kopf's cancels all others, this one too
        loop.run_until_complete(asyncio.sleep(0.1))
    loop.close()


def quiet_kopf() -> None:
    """Silence kopf, which logs each failed request as an error; we log what matters ourselves."""
    logging.getLogger("kopf").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
