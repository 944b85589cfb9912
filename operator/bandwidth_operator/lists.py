"""Whole lists, to begin with and to check what the watches brought.

kopf says neither when its list is complete nor what vanished while a watch was interrupted. So every list of kopf's,
which brings nothing but a version, is followed by one of our own, and one is made every few minutes anyway. Owns a
thread; fills the memory and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import structlog

from bandwidth_kube import client
from bandwidth_operator import settings
from bandwidth_operator.known import Kind
from bandwidth_operator.memory import Memory
from bandwidth_operator.metrics import Metrics
from bandwidth_operator.watch import PATHS, Streams

AGAIN_SECONDS = 1.0  # after a list that failed
LOOK_SECONDS = 0.25

log = structlog.get_logger(__name__)


class MissingKindError(Exception):
    """A CRD is not installed; the message says which."""


class NotWantedError(Exception):
    """A list was given up in the middle."""


def fill(api: client.Client, memory: Memory, kind: Kind, still_wanted: Callable[[], bool] = lambda: True) -> int:
    """Make one list and merge it into the memory. Returns how many objects it corrected.

    Raises client.ApiError, MissingKindError, NotWantedError.
    """

    def pages() -> Iterator[tuple[list[client.Object], int]]:
        for page in api.pages(PATHS[kind]):
            if not still_wanted():
                raise NotWantedError(f"the list of {kind.value}s")
            yield page.items, int(page.resource_version)

    try:
        return memory.merge(kind, pages())
    except client.RefusedError as refused:
        if refused.status == 404:
            raise MissingKindError(f"the API server does not know {PATHS[kind]}; apply deploy/crds") from refused
        raise


def prepared(api: client.Client, still_wanted: Callable[[], bool]) -> Memory | None:
    """Everything, listed by a replica that may lead soon; None if that is not wanted any more, or could not be done.

    Slices before limits: if no slice has changed when its term begins, then nobody has published a later version of a
    limit than is in here, and what the plan lacks is in no danger of being written over by what came before it.
    """
    memory = Memory()
    try:
        for kind in (Kind.SLICE, Kind.LIMIT, Kind.NODE, Kind.STATE):
            fill(api, memory, kind, still_wanted)
    except (client.ApiError, MissingKindError, NotWantedError) as error:
        log.debug("a list made ahead was given up", error=str(error))
        return None
    return memory


class Checker:
    """A thread that lists again what kopf listed, and everything every few minutes."""

    def __init__(self, api: client.Client, memory: Memory, streams: Streams, metrics: Metrics) -> None:
        self._api = api
        self._memory = memory
        self._streams = streams
        self._metrics = metrics
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lists", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for a list under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due = {kind: time.monotonic() + settings.RELIST_SECONDS for kind in Kind}
        while not self._stopping.wait(LOOK_SECONDS):
            now = time.monotonic()
            for kind in self._streams.take_relisted():
                due[kind] = now
            for kind in [k for k, at in due.items() if at <= now]:
                due[kind] = now + (settings.RELIST_SECONDS if self._list(kind) else AGAIN_SECONDS)

    def _list(self, kind: Kind) -> bool:
        try:
            corrected = fill(self._api, self._memory, kind)
        except (client.ApiError, MissingKindError) as error:
            log.warning("a list to check the watch failed and is made again", kind=kind.value, error=str(error))
            return False
        if corrected:
            self._metrics.corrected.labels(kind.value).inc(corrected)
            log.info("a list corrected what the watch had brought", kind=kind.value, objects=corrected)
        return True
