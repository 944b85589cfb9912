"""Kubernetes Events about limits and policies, for `kubectl describe`: written when something changes, where room is.

Bounded as in client-go (tools/record/events_cache.go), so that no author of limits can fill the API server with events:

    the same event again                 its count is raised
    ten similar ones within ten minutes  the count of one event is raised for all that follow
    more than 25 about one limit         one in five minutes

Pure, except for `post`. Events about cluster-scoped objects are in the namespace default.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import secrets
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import structlog

from bandwidth_api import names
from bandwidth_api.conditions import ConditionType, Reason
from bandwidth_kube import client
from bandwidth_operator.cache import objects
from bandwidth_operator.election.writer import Writer

COMPONENT = "client-bandwidth-operator"
MESSAGE_MAX = 1024
NAME_MAX = 253
PATH = "/api/v1/namespaces/default/events"

REMEMBERED_MAX = 4_096  # of each kind of memory
SIMILAR_MAX = 10
SIMILAR_SECONDS = 600.0
BURST = 25.0
PER_SECOND = 1 / 300.0
COMBINED = "(combined from similar events): "

log = structlog.get_logger(__name__)

V = TypeVar("V")


class Subject(NamedTuple):
    """The object that an event is about."""

    kind: str
    name: str
    uid: str
    version: str


def about(limit: objects.Limit) -> Subject:
    """Return a limit as the subject of events."""
    return Subject(names.LIMIT_KIND, limit.name, limit.uid, str(limit.version))


class Occurrence(NamedTuple):
    warning: bool
    reason: str
    message: str


def between(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Occurrence]:
    """Return the events for the change from one list of conditions to the next."""
    was = {str(c.get("type")): (c.get("status"), c.get("reason")) for c in before}
    for condition in after:
        kind, status, reason = condition["type"], condition["status"], condition["reason"]
        if was.get(kind) == (status, reason) or reason == Reason.PENDING:
            continue
        message = str(condition["message"])
        if kind == ConditionType.READY:
            expected = (Reason.READY, Reason.DISABLED, Reason.EXPIRED, Reason.UNVERIFIED)
            yield Occurrence(reason not in expected, reason, message)
        elif kind == ConditionType.CONFLICTED and (status == "True" or was.get(kind, ("False",))[0] == "True"):
            yield Occurrence(status == "True", reason, message)


class Written(NamedTuple):
    """An event as it was last written."""

    name: str
    times: int


@dataclasses.dataclass(slots=True)
class _Similar:
    """Events that differ only in their messages."""

    messages: set[str]
    last_at: float


@dataclasses.dataclass(slots=True)
class _Tokens:
    left: float
    at: float


class _Recent(Generic[V]):
    """A mapping of bounded size that drops the entry that was not used for the longest time."""

    def __init__(self) -> None:
        self._held: collections.OrderedDict[Hashable, V] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> V | None:
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)

    def put(self, key: Hashable, value: V) -> None:
        self._held[key] = value
        self._held.move_to_end(key)
        if len(self._held) > REMEMBERED_MAX:
            self._held.popitem(last=False)

    def drop(self, key: Hashable) -> None:
        self._held.pop(key, None)


class Post(NamedTuple):
    """What to write for an event. `before`: the written event whose count is raised; None: a new one."""

    key: Hashable
    message: str
    before: Written | None


class Correlator:
    """Decides which events are written and which counted. For the whole process; times in seconds since the epoch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._similar: _Recent[_Similar] = _Recent()
        self._written: _Recent[Written] = _Recent()
        self._tokens: _Recent[_Tokens] = _Recent()

    def correlate(self, subject: Subject, occurrence: Occurrence, now: float) -> Post | None:
        """Return what to write; None if too much was written about this object."""
        about = (subject.name, subject.uid)
        similar = (*about, occurrence.warning, occurrence.reason)
        message = occurrence.message[:MESSAGE_MAX]
        with self._lock:
            key: Hashable = (*similar, message)
            if self._is_one_of_many(similar, message, now):
                key, message = similar, f"{COMBINED}{message}"[:MESSAGE_MAX]
            if not self._take_token(about, now):
                return None
            return Post(key, message, self._written.get(key))

    def written(self, post: Post, name: str) -> None:
        """Record that it was written."""
        with self._lock:
            self._written.put(post.key, Written(name, 1 if post.before is None else post.before.times + 1))

    def gone(self, post: Post) -> None:
        """Record that the event whose count should be raised no longer exists."""
        with self._lock:
            self._written.drop(post.key)

    def _is_one_of_many(self, key: Hashable, message: str, now: float) -> bool:
        seen = self._similar.get(key)
        if seen is None or now - seen.last_at > SIMILAR_SECONDS:
            seen = _Similar(set(), now)
            self._similar.put(key, seen)
        seen.last_at = now
        if message in seen.messages:
            return len(seen.messages) >= SIMILAR_MAX
        if len(seen.messages) >= SIMILAR_MAX:
            return True
        seen.messages.add(message)
        return len(seen.messages) >= SIMILAR_MAX

    def _take_token(self, key: Hashable, now: float) -> bool:
        tokens = self._tokens.get(key)
        if tokens is None:
            tokens = _Tokens(BURST, now)
            self._tokens.put(key, tokens)
        tokens.left = min(BURST, tokens.left + max(0.0, now - tokens.at) * PER_SECOND)
        tokens.at = now
        if tokens.left < 1:
            return False
        tokens.left -= 1
        return True


def post(writer: Writer, correlator: Correlator, subject: Subject, occurrence: Occurrence, now: float) -> bool:
    """Write an event if there is room; return False if there is none now. A refused event is dropped."""
    if not writer.has_room():
        return False
    wanted = correlator.correlate(subject, occurrence, now)
    if wanted is None:
        writer.metrics.events_dropped.inc()
        return True
    try:
        if wanted.before is not None and _count(writer, wanted, wanted.before, now):
            correlator.written(wanted, wanted.before.name)
            return True
        correlator.gone(wanted)
        event = _event(subject, occurrence, wanted.message, now)
        writer.write("event", "POST", PATH, event)
        correlator.written(wanted._replace(before=None), event["metadata"]["name"])
    except client.ApiError as error:
        log.info("an event could not be written", kind=subject.kind, name=subject.name, error=str(error))
    return True


def _count(writer: Writer, wanted: Post, before: Written, now: float) -> bool:
    """Raise the count of an event; return False if it no longer exists."""
    body = {"count": before.times + 1, "lastTimestamp": _moment(now), "message": wanted.message}
    try:
        writer.write("event", "PATCH", f"{PATH}/{before.name}", body, client.MERGE_PATCH)
    except client.RefusedError as refused:
        if refused.status != 404:
            raise
        return False
    return True


def _moment(now: float) -> str:
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _event(subject: Subject, occurrence: Occurrence, message: str, now: float) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{subject.name[: NAME_MAX - 17].rstrip('.-')}.{secrets.token_hex(8)}",
            "namespace": "default",
        },
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": subject.kind,
            "name": subject.name,
            "uid": subject.uid,
            "resourceVersion": subject.version,
        },
        "type": "Warning" if occurrence.warning else "Normal",
        "reason": occurrence.reason,
        "message": message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": _moment(now),
        "lastTimestamp": _moment(now),
        "count": 1,
    }
