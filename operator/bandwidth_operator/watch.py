"""kopf: events into the memory, and nothing else.

Owns a thread with an event loop in which kopf watches four kinds of objects. No index, no finalizer, no diff base, no
events of kopf's own. kopf tells its handlers neither when a list is complete nor which objects vanished while a watch
was interrupted; whoever uses this listens to `relisted` and makes a whole list of its own then. So kopf's list is
asked for a name that nobody can have: it brings the version to watch from and no object.

A watch lasts SERVER_SECONDS; then the server ends it, and kopf begins the next one where it was. So a stream that is
frozen is noticed soon, by kopf and by `silence_seconds`: bytes and a proper end are signs of life. (Bookmarks are
too, but the server sends them about once a minute.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import aiohttp
import kopf
import structlog

from bandwidth_api import names, node_state, slices
from bandwidth_kube.connection import Connection
from bandwidth_operator.known import Kind
from bandwidth_operator.memory import Memory

# kopf would ask the system for the name of our user, and in a container there is none. (A NewType of its own.)
IDENTITY: Any = "client-bandwidth-operator"
GROUP_PATH = f"/apis/{names.GROUP}/{names.VERSION}"
PATHS = {
    Kind.LIMIT: f"{GROUP_PATH}/clientbandwidthlimits",
    Kind.NODE: "/api/v1/nodes",
    Kind.SLICE: f"{GROUP_PATH}/{slices.PLURAL}",
    Kind.STATE: f"{GROUP_PATH}/{node_state.PLURAL}",
}
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0)  # the last one again and again
SERVER_SECONDS = 20
INACTIVE_SECONDS = 25.0  # a stream without an event for so long is frozen: it should have ended
NOBODY = "Nobody"  # capital letters: no object can have this name
STOP_SECONDS = 15.0
LOOK_SECONDS = 0.5
GIVEN_UP_SECONDS = 3.0  # without a session, or after being told to stop
UNASKED_SECONDS = 10.0  # kopf asks for a kind at once, or, where its CRD was away when it began, never

log = structlog.get_logger(__name__)


class Streams:
    """Signs of life of the watches, and which kinds were listed. Written by kopf's thread, read by others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._alive_at = dict.fromkeys(Kind, clock())
        self._open: dict[Kind, tuple[aiohttp.ClientResponse, int]] = {}
        self._relisted: set[Kind] = set()
        self._asked: set[Kind] = set()

    def opened(self, path: str, response: aiohttp.ClientResponse, *, watch: bool) -> None:
        """The server began to answer a list or a watch. That a watch was opened is no sign that it brings anything."""
        kind = next((k for k, p in PATHS.items() if p == path), None)
        if kind is None:
            return
        with self._lock:
            self._asked.add(kind)
            if response.status == HTTPStatus.NOT_FOUND:
                self._asked.remove(kind)  # kopf asks no second time
            elif watch:
                self._look(kind)
                self._open[kind] = (response, response.content.total_bytes)
            else:
                self._alive_at[kind] = self._clock()
                self._relisted.add(kind)

    def silence_seconds(self) -> dict[Kind, float]:
        """For how long each kind's stream has given no sign of life. Right only when asked every few seconds."""
        with self._lock:
            for kind in list(self._open):
                self._look(kind)
            now = self._clock()
            return {kind: now - alive_at for kind, alive_at in self._alive_at.items()}

    def _look(self, kind: Kind) -> None:
        if kind in self._open:
            response, seen = self._open[kind]
            total = response.content.total_bytes
            ended = response.content.is_eof() and response.content.exception() is None
            if total != seen or ended:
                self._alive_at[kind] = self._clock()
                self._open[kind] = (response, total)
            if ended:
                del self._open[kind]  # a sign of life once

    def begin(self) -> None:
        """kopf begins anew."""
        with self._lock:
            self._asked.clear()

    def unasked(self) -> frozenset[Kind]:
        """The kinds that kopf leaves alone, unless it has just begun; none while nothing is answered at all."""
        with self._lock:
            return frozenset(set(Kind) - self._asked) if self._asked else frozenset()

    def take_relisted(self) -> frozenset[Kind]:
        """The kinds that kopf listed since the last call."""
        with self._lock:
            relisted, self._relisted = frozenset(self._relisted), set()
            return relisted


class Watch:
    """kopf in a thread of its own, begun again when it ends or leaves a kind alone. One start and one stop."""

    def __init__(self, connection: Connection, memory: Memory, user_agent: str) -> None:
        self._connection = connection
        self._memory = memory
        self._user_agent = user_agent
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._end: Callable[[], object] | None = None
        self._sessions: list[aiohttp.ClientSession] = []  # of the present loop, closed ones included
        self.streams = Streams()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop watching and wait for it."""
        self._stopping.set()
        if self._end is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._end()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        for seconds in _backoffs():
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(self._watch())
            except Exception as error:
                # Whatever kopf could not deal with: what was missed meanwhile is found by the list that follows.
                log.warning("the watch broke off and is begun again", error=repr(error), after_seconds=seconds)
            finally:
                _abandon(loop)
            if self._stopping.wait(seconds):
                return

    async def _watch(self) -> None:
        """kopf, until it ends, is told to, or has given up: after some errors it closes its sessions and never ends.

        After others it ends the watch of one kind and goes on with the rest.
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
        while not operator.done():
            await asyncio.wait({operator}, timeout=LOOK_SECONDS)
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
            return kopf.AiohttpSession(server=self._connection.server, aiohttp_session=self._session())

        def listen(kind: Kind, *resource: str) -> None:
            @kopf.on.event(*resource, registry=registry, id=kind.value)
            async def noted(event: Any, **_: Any) -> None:
                self._memory.note(kind, event["object"], deleted=event["type"] == "DELETED")

        listen(Kind.LIMIT, names.GROUP, names.VERSION, "clientbandwidthlimits")
        listen(Kind.NODE, "v1", "nodes")
        listen(Kind.SLICE, names.GROUP, names.VERSION, slices.PLURAL)
        listen(Kind.STATE, names.GROUP, names.VERSION, node_state.PLURAL)
        return registry

    def _session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()

        async def answered(_: object, __: SimpleNamespace, seen: aiohttp.TraceRequestEndParams) -> None:
            watch = seen.response.url.query.get("watch") == "true"
            self.streams.opened(seen.url.path, seen.response, watch=watch)

        trace.on_request_end.append(answered)
        tls = self._connection.tls()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls if tls is not None else True),
            headers={"user-agent": self._user_agent, **self._connection.headers()},
            trace_configs=[trace],
            middlewares=[_list_nobody],
        )
        self._sessions.append(session)
        return session


def settings() -> kopf.OperatorSettings:
    """kopf as measured: nothing but plain watching."""
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


async def _list_nobody(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    if request.url.path in PATHS.values() and request.url.query.get("watch") != "true":
        request.url = request.url.update_query(fieldSelector=f"metadata.name={NOBODY}")
    return await handler(request)


class _NoDiffBase(kopf.DiffBaseStorage):
    """kopf copies every object to compare it with what it has stored: a third of its time, for handlers we lack."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is stored."""


class _NoProgress(kopf.ProgressStorage):
    """As above."""

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
    """An API server that is away is asked again soon for as long as it takes; kopf's own waits grow to minutes."""

    def __iter__(self) -> Iterator[float]:
        return _backoffs()


def _backoffs() -> Iterator[float]:
    yield from BACKOFF_SECONDS
    while True:
        yield BACKOFF_SECONDS[-1]


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop whose tasks may not want to end."""
    for task in asyncio.all_tasks(loop):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):  # one of kopf's cancels all others, this one too
        loop.run_until_complete(asyncio.sleep(0.1))
    loop.close()


def quiet_kopf() -> None:
    """kopf logs each failed request as an error; we log what matters of it ourselves."""
    logging.getLogger("kopf").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
