"""The Lease (coordination.k8s.io) by which one replica leads: takes it, renews it, releases it.

    another's record must stay unchanged for DURATION, by our own clock, before we take it
    ours is renewed every RENEW; if that failed for VALID, we stop writing
    VALID + the longest write < DURATION: a leader has stopped before the next one begins

Every holder has a name of its own (pod name and a random part), and `leaseTransitions` grows with each: it is the
term that slices carry. Values in the Lease are trusted within bounds only: an account that may edit it can write any
number and any time into it, and none of them may stop all operators. Renewing is also how a server that was restored
from a backup is noticed first: its record is not the one that we wrote last.
Owns the record and the fence, nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import secrets
import threading
from collections.abc import Callable

import structlog

from bandwidth_api.crds import slices
from bandwidth_kube import client
from bandwidth_operator.cache import objects
from bandwidth_operator.election import server_clock
from bandwidth_operator.election.fence import Fence, boot_clock

NAME = "client-bandwidth-operator"
DURATION_SECONDS = 12
RENEW_SECONDS = 2.5
VALID_SECONDS = 8.0
REQUEST_SECONDS = 2.5
SUSPICIOUS_SECONDS = 4.0  # a record is renewed every RENEW and looked at every LOOK
LOOK_SECONDS = 1.0
LEAST_SECONDS = 0.05
SEIZE_TRIES = 10
RETIRE = "retire"  # begins the name of a holder that keeps operators away for longer
LONGEST_SECONDS = 30.0  # an operator's record with more is not believed
LONGEST_RETIRE_SECONDS = 3600.0

log = structlog.get_logger(__name__)


def identity(pod_name: str) -> str:
    """Return a name of a holder that no other process ever had."""
    return f"{pod_name}_{secrets.token_hex(4)}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    """Another holder's record, and since when it has not changed."""

    record: str
    since: float  # boot clock
    duration_seconds: float


class Lease:
    """The lease as seen by one replica. Call `turn` again and again, every RENEW_SECONDS or a little more."""

    def __init__(
        self,
        api: client.Client,
        namespace: str,
        holder: str,
        clock: Callable[[], float] = boot_clock,
        *,
        duration_seconds: int = DURATION_SECONDS,
    ) -> None:
        self._api = api
        self._duration_seconds = duration_seconds
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._clock = clock
        self._lock = threading.RLock()  # one request at a time, so that answers come in their order
        self._seen: _Seen | None = None
        self._own: client.Object | None = None  # the record as we wrote it last
        self._acquired = _now()
        self._renewed = ""  # as the server has it
        self._server_ahead: float | None = None  # of the boot clock: the server's time, seconds since the epoch
        self._highest = -1  # of the versions of the record that were seen
        self.holder = holder
        self.fence: Fence | None = None  # while we hold the lease
        self.went_back = threading.Event()  # the server was restored from a backup; to be cleared by who acts on it

    def turn(self) -> Fence | None:
        """Take or renew the lease if possible; return the fence while we lead. Raises client.ApiError."""
        with self._lock:
            return self._turn()

    def _turn(self) -> Fence | None:
        if self.fence is not None and not self.fence.open:
            self.resign()
        asked_at = self._clock()
        if self.fence is not None and self._own is not None and self._renew(self._own, asked_at):
            return self.fence
        record = self._read()
        spec = _spec(record)
        if spec.get("holderIdentity") == self.holder and self.fence is not None:
            if spec.get("renewTime") != self._renewed:
                self.went_back.set()  # or a person edited it, and nothing is lost by looking
            self._renew(record, asked_at)
        elif self._free(spec, record):
            self._take(record, asked_at)
        elif self.fence is not None:
            log.error("the lease has another holder", holder=spec.get("holderIdentity"))
            self.resign()
        return self.fence

    def seize(self) -> bool:
        """Take the lease from its holder; only for the retirement of an installation.

        Returns whether another holder had it, which may not know yet that it is lost. Raises client.ApiError.
        """
        for _ in range(SEIZE_TRIES):
            asked_at = self._clock()
            record = self._read()
            held = _spec(record).get("holderIdentity") not in (None, "", self.holder)
            self._take(record, asked_at)
            if self.fence is not None:
                return held
        raise client.UnreachableError("the lease was written by its holder at every attempt to take it")

    @property
    def followed(self) -> bool:
        """Return whether another holder seems to lead."""
        return self._seen is not None and not self.suspicious

    @property
    def suspicious(self) -> bool:
        """Return whether another holder has missed a renewal, so that its lease may expire soon."""
        seen = self._seen
        return seen is not None and self._clock() - seen.since > SUSPICIOUS_SECONDS

    def turn_again_seconds(self) -> float:
        """Return how long to wait before the next `turn`: at most until the lease may be ours."""
        seen = self._seen
        if self.fence is not None:
            return RENEW_SECONDS
        if seen is None:
            return LOOK_SECONDS
        return max(LEAST_SECONDS, min(LOOK_SECONDS, seen.since + seen.duration_seconds - self._clock()))

    def at_least(self, term: int) -> None:
        """Raise our term above one that was found in a slice; needed after the Lease was deleted.

        Does nothing for a number that can be no term, or if another replica holds the lease. Raises client.ApiError;
        call it again then.
        """
        with self._lock:
            fence = self.fence
            if fence is None or fence.term > term or term >= slices.TERM_MAX:
                return
            record = self._get()
            if _spec(record).get("holderIdentity") == self.holder:
                if not self._put(record | {"spec": self._own_spec(term + 1, self._renewed)}):
                    raise client.UnreachableError("the lease was written meanwhile")
                fence.term = term + 1

    def ask_server_time(self) -> None:
        """Read the API server's clock: the server dates the objects that it would create, in a dry run too."""
        asked_at = self._clock()
        with contextlib.suppress(client.ApiError):  # a webhook may refuse a try; then ages begin with 0
            there = server_clock.now(self._api, self._namespace)
            self._server_ahead = None if there is None else there - asked_at

    def server_time(self) -> float | None:
        """Return the API server's time, seconds since the epoch; None before it is known."""
        return None if self._server_ahead is None else self._clock() + self._server_ahead

    def resign(self) -> None:
        """End the term in this process, without a request."""
        if self.fence is not None:
            self.fence.end()
            self.fence = None
        self._seen = self._own = None

    def release(self) -> None:
        """Release the lease, so that another replica can take it at once; call it after the last write."""
        with self._lock:
            self.resign()
            record = self._get()
            spec = _spec(record)
            if spec.get("holderIdentity") == self.holder:
                self._put(record | {"spec": spec | {"holderIdentity": "", "renewTime": _now()}})
            self._own = None

    def _free(self, spec: client.Object, record: client.Object) -> bool:
        if spec.get("holderIdentity") in (None, "", self.holder):
            return True  # without a holder, or ours from a term that ended because it could not be renewed
        now = self._clock()
        text = f"{spec.get('holderIdentity')} {record['metadata']['resourceVersion']}"
        if self._seen is None or self._seen.record != text:
            self._seen = _Seen(text, now, believed_seconds(spec))
        return now - self._seen.since > self._seen.duration_seconds

    def _take(self, record: client.Object, asked_at: float) -> None:
        term = next_term(_spec(record))
        self._acquired = _now()
        if self._put(record | {"spec": self._own_spec(term, self._acquired)}):
            self._seen = None
            if self.fence is not None:
                self.fence.end()  # another program deleted the Lease, and what was begun under it ends
            self.fence = Fence(term, asked_at + VALID_SECONDS, self._clock)
            log.info("leading", holder=self.holder, term=term)

    def _renew(self, record: client.Object, asked_at: float) -> bool:
        """Renew the record; return False if another program has written it since, so that it must be read again."""
        fence = self.fence
        if fence is None or not self._put(record | {"spec": self._own_spec(fence.term, _now())}):
            return False
        fence.extend(asked_at + VALID_SECONDS)
        return True

    def _own_spec(self, term: int, renewed: str) -> client.Object:
        """Return the whole record, so that no field of another writer stays in it."""
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self._duration_seconds,
            "acquireTime": self._acquired,
            "renewTime": renewed,
            "leaseTransitions": term,
        }

    def _get(self) -> client.Object:
        record = self._api.request("GET", f"{self._path}/{NAME}", timeout_seconds=REQUEST_SECONDS)
        self._observe(record)
        return record

    def _observe(self, record: client.Object) -> None:
        """Find out by a record's version whether the server's versions went back."""
        identity = objects.identify(record)
        if isinstance(identity, objects.Unreadable):
            raise client.UnreachableError(f"the answer is no Lease: {identity.message}")
        if identity.version < self._highest:
            self.went_back.set()
        self._highest = identity.version

    def _read(self) -> client.Object:
        try:
            return self._get()
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            return self._create()

    def _create(self) -> client.Object:
        metadata = {"name": NAME, "namespace": self._namespace}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
        record = self._api.request("POST", self._path, body=body, timeout_seconds=REQUEST_SECONDS)
        self._observe(record)
        return record

    def _put(self, record: client.Object) -> bool:
        """Write if the record has not changed since we read it; return False if it has."""
        self._own = None
        try:
            answer = self._api.request("PUT", f"{self._path}/{NAME}", body=record, timeout_seconds=REQUEST_SECONDS)
        except client.RefusedError as refused:
            if refused.status in (404, 409):
                return False
            raise
        self._observe(answer)
        self._own = answer
        self._renewed = str(_spec(answer).get("renewTime"))
        return True


def believed_seconds(spec: client.Object) -> float:
    """Return for how long another holder's record must stay unchanged: the duration in it, within bounds."""
    written = spec.get("leaseDurationSeconds")
    seconds = float(written) if type(written) is int and written > 0 else float(DURATION_SECONDS)
    if str(spec.get("holderIdentity")).startswith(f"{RETIRE}_"):
        return min(seconds, LONGEST_RETIRE_SECONDS)
    return min(max(seconds, DURATION_SECONDS), LONGEST_SECONDS)


def next_term(spec: client.Object) -> int:
    """Return the term of the next holder; after a number that no count of leaders can reach it starts again."""
    last = spec.get("leaseTransitions")
    return last + 1 if type(last) is int and 0 <= last < slices.TERM_MAX - 1 else 1


def _spec(record: client.Object) -> client.Object:
    spec = record.get("spec")
    return spec if isinstance(spec, dict) else {}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
