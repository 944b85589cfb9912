"""One question about traffic, from its first word to its last: asked, renewed, watched, asked again, deleted.

What is asked ends by itself: the operator deletes a question that is not renewed within a minute, whatever became of
the program that asked it. While the API server is away the question is kept, and asked again where it is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import secrets
import select
import threading
import time
from typing import NoReturn

from bandwidth_api import names
from bandwidth_api.crds import traffic_answer, traffic_query
from bandwidth_api.crds.traffic_answer import Answer
from bandwidth_api.crds.traffic_query import Spec
from bandwidth_cli.kubectl import failures, paths
from bandwidth_cli.kubectl.failures import Asked, Kind, KubectlError
from bandwidth_cli.kubectl.program import Json, Kubectl
from bandwidth_cli.kubectl.watching import Watch
from bandwidth_cli.objects import limits, manifest
from bandwidth_cli.outcome import FailedError

LIFE_SECONDS = 60.0
RENEW_SECONDS = 20.0
RETRY_SECONDS = 1.0
TICK_SECONDS = 0.25
LOST_SECONDS = 120.0  # so long without the API server, and there is nothing to wait for
ATTEMPTS = 4  # to renew: the answer is written into the same object meanwhile
WATCH_SECONDS = 300
CLOSE_SECONDS = 3  # nobody who leaves waits longer for a server that says nothing
NAME_MAX = 63
# These do not pass by themselves.
_FINAL = (Kind.FORBIDDEN, Kind.UNAUTHORIZED, Kind.INVALID, Kind.MISSING_PROGRAM, Kind.CONFIGURATION)


class Question:
    """A question that lives until `close`. Calls come from one thread; it is renewed in another."""

    def __init__(self, kubectl: Kubectl, spec: Spec, asker: str) -> None:
        """Ask. Raises FailedError, also where the cluster answers no questions."""
        self._kubectl = kubectl
        self._spec = spec
        self._asker = asker
        self.name = name(asker)
        self._lock = threading.Lock()
        self._object: Json = {}
        self._renewed_at = time.monotonic()
        self._gone = False  # deleted by the operator, while we could not renew it
        self._failure: KubectlError | None = None  # that does not pass
        self._unreachable_since: float | None = None
        self._trouble = ""
        self._watch: Watch | None = None
        self._watch_at = 0.0
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._renewing = threading.Thread(target=self._keep, name="renewing", daemon=True)
        try:
            self._object = self._first()
            self._renewed_at = time.monotonic()
            self._renewing.start()
        except KubectlError as error:
            if error.kind is Kind.NOT_FOUND:
                raise FailedError(failures.OLD_OPERATOR.format(kind=traffic_query.KIND)) from None
            _end(error)
        except BaseException:  # interrupted: it may be there already
            self.close()
            raise

    @property
    def names_clients(self) -> bool:
        """Whether it asks for single clients, and the cluster knows what that is."""
        return bool(self._spec.clients)

    @property
    def trouble(self) -> str:
        """Why nothing new comes, for people; "" while something may."""
        return self._trouble

    def descriptor(self) -> int | None:
        """Return what becomes readable when there may be something new; None while only time brings it."""
        return self._watch.fileno() if self._watch is not None else None

    def poll(self) -> Answer | None:
        """Return the newest answer if it is new; waits for nothing. Raises FailedError when there will be no more."""
        if self._failure is not None:
            _end(self._failure)
        lost = self._unreachable_since
        if lost is not None and time.monotonic() - lost > LOST_SECONDS:
            raise FailedError(f"the cluster has not answered for {LOST_SECONDS:g} s: {self._trouble}")
        if self._watch is None:
            if time.monotonic() < self._watch_at:
                return None
            self._begin_watch()
        try:
            return self._read()
        except KubectlError as error:
            if error.kind in _FINAL:
                _end(error)
            self._end_watch()
            self._noticed(error)
            return None

    def wait(self, seconds: float) -> Answer | None:
        """Return the next answer; None if there is none within so many seconds. Raises FailedError."""
        ends = time.monotonic() + seconds
        while True:
            answer = self.poll()
            left = ends - time.monotonic()
            if answer is not None or left <= 0:
                return answer
            descriptor = self.descriptor()
            readable = [] if descriptor is None else [descriptor]
            select.select(readable, [], [], min(left, TICK_SECONDS))

    def close(self) -> None:
        """Take the question back; if that fails it ends by itself."""
        self._closing.set()
        self._wake.set()
        self._end_watch()
        held = self._lock.acquire(timeout=CLOSE_SECONDS)  # a renewal may be under way, and hang
        try:
            with contextlib.suppress(KubectlError):
                options = {"apiVersion": "v1", "kind": "DeleteOptions"}
                self._kubectl.delete(f"{paths.QUERIES}/{self.name}", options, seconds=CLOSE_SECONDS)
        finally:
            if held:
                self._lock.release()

    # ── the watch ──────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_watch(self) -> None:
        query = f"fieldSelector=metadata.name%3D{self.name}&timeoutSeconds={WATCH_SECONDS}"
        if self._watch_at == 0.0:  # the first one, from the beginning on; later ones begin with what is there
            query += f"&resourceVersion={self._object['metadata']['resourceVersion']}"
        self._watch = Watch(self._kubectl.watch(paths.QUERIES, query))

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._watch_at = time.monotonic() + RETRY_SECONDS

    def _read(self) -> Answer | None:
        if self._watch is None:
            return None
        events = self._watch.poll()
        if events is None:  # its time is over, or the API server is: whether the question is still there is to be seen
            self._end_watch()
            self._wake.set()
            return None
        newest: Answer | None = None
        for event in events:
            if event.type == "DELETED":
                self._deleted()
            elif event.type in ("ADDED", "MODIFIED"):
                self._reached()
                self._object = event.object
                newest = traffic_answer.read_answer(event.object) or newest
        return newest

    def _deleted(self) -> None:
        if time.monotonic() - self._renewed_at < LIFE_SECONDS / 2:
            raise FailedError(f"somebody has deleted the question {self.name}; whoever asks on may ask again")
        self._gone = True
        self._wake.set()

    # ── the thread that keeps it alive ─────────────────────────────────────────────────────────────────────────

    def _keep(self) -> None:
        wait = RENEW_SECONDS
        while not self._closing.is_set():
            self._wake.wait(wait)
            self._wake.clear()
            with self._lock:
                if self._closing.is_set():
                    return
                try:
                    self._renew()
                    wait = RENEW_SECONDS
                except KubectlError as error:
                    self._noticed(error)
                    wait = RETRY_SECONDS
            if wait == RETRY_SECONDS:
                self._closing.wait(RETRY_SECONDS)

    def _renew(self) -> None:
        """Write another number into the question; ask again where it is gone."""
        spec = dataclasses.replace(self._spec, renewal=int(time.time() * 1000))
        for attempt in range(ATTEMPTS):
            if self._closing.is_set():
                return
            try:
                if self._gone:
                    self._object = self._create()
                    self._gone = False
                else:
                    item = self._object if attempt == 0 else self._kubectl.get(f"{paths.QUERIES}/{self.name}")
                    metadata = {"name": self.name, "resourceVersion": item["metadata"]["resourceVersion"]}
                    kept = {key: item["metadata"][key] for key in ("labels", "annotations") if key in item["metadata"]}
                    body = _body(metadata | kept, spec)
                    self._object = self._kubectl.replace(f"{paths.QUERIES}/{self.name}", body)
                self._reached()
                self._renewed_at = time.monotonic()
                return
            except KubectlError as error:
                if error.kind is Kind.NOT_FOUND:
                    self._gone = True
                elif error.kind is Kind.EXISTS:
                    self._gone = False
                elif error.kind is not Kind.CONFLICT:
                    raise
        raise KubectlError(Kind.OTHER, "the question cannot be renewed: it is written too often")

    def _first(self) -> Json:
        """Ask for the first time; a cluster that knows no questions about single clients is asked for the largest."""
        try:
            return self._create()
        except KubectlError as error:
            if error.kind is not Kind.INVALID or not self._spec.clients:
                raise
        self._spec = dataclasses.replace(self._spec, clients=())
        return self._create()

    def _create(self) -> Json:
        metadata: Json = {"name": self.name, "labels": {limits.MADE_BY: manifest.PROGRAM}}
        if self._asker:
            metadata["annotations"] = {limits.AUTHOR: self._asker[: manifest.AUTHOR_MAX]}
        spec = dataclasses.replace(self._spec, renewal=int(time.time() * 1000))
        return self._kubectl.create(paths.QUERIES, _body(metadata, spec))

    def _noticed(self, error: KubectlError) -> None:
        if error.kind in _FINAL:
            self._failure = error
        if self._unreachable_since is None:
            self._unreachable_since = time.monotonic()
        self._trouble = error.text.partition("\n")[0]

    def _reached(self) -> None:
        self._unreachable_since = None
        self._trouble = ""


def name(asker: str) -> str:
    """Return a name for a question that nobody else has, and that says who asks."""
    words = re.sub(r"[^a-z0-9]+", "-", asker.lower()).strip("-")
    ending = secrets.token_hex(4)
    beginning = f"look-{words}"[: NAME_MAX - len(ending) - 1].strip("-") if words else "look"
    return f"{beginning}-{ending}"


def _body(metadata: Json, spec: Spec) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": traffic_query.KIND,
        "metadata": metadata,
        "spec": traffic_query.write_spec(spec),
    }


def _end(error: KubectlError) -> NoReturn:
    raise FailedError(failures.explained(error, Asked("create", traffic_query.PLURAL))) from None
