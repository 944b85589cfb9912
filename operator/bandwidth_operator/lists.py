"""Whole lists, to begin with and to check what the watches brought.

kopf says neither when its list is complete nor what vanished while a watch was interrupted. So every list of kopf's
is followed by one of our own, and one is made every few minutes anyway. Owns a thread; fills the memory and nothing
else.
"""

from __future__ import annotations

import threading
import time

import structlog

from bandwidth_kube import client
from bandwidth_operator import settings
from bandwidth_operator.known import Kind
from bandwidth_operator.memory import Memory
from bandwidth_operator.metrics import Metrics
from bandwidth_operator.watch import PATHS, Streams

AFTER_RELIST_SECONDS = 1.0
LOOK_SECONDS = 0.5

log = structlog.get_logger(__name__)


class MissingKindError(Exception):
    """A CRD is not installed; the message says which."""


def fill(api: client.Client, memory: Memory, kind: Kind) -> int:
    """Make one list and merge it into the memory. Returns how many objects it corrected. Raises client.ApiError."""
    try:
        return memory.merge(kind, ((page.items, int(page.resource_version)) for page in api.pages(PATHS[kind])))
    except client.RefusedError as refused:
        if refused.status == 404:
            raise MissingKindError(f"the API server does not know {PATHS[kind]}; apply deploy/crds") from refused
        raise


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
                due[kind] = now + AFTER_RELIST_SECONDS
            for kind in [k for k, at in due.items() if at <= now]:
                due[kind] = now + (settings.RELIST_SECONDS if self._list(kind) else AFTER_RELIST_SECONDS)

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
