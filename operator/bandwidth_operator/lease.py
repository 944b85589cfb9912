"""One acting replica: our own coordination.k8s.io Lease, held by renewing it.

    another's record must stay unchanged for DURATION, by our own clock, before we take it
    ours is renewed every RENEW; if that failed for VALID, we stop writing
    VALID + the longest write < DURATION: a leader has stopped before the next one begins

Every holder has a name of its own (pod name and a random part), and `leaseTransitions` grows with each: it is the
term that slices carry. Owns the record and the fence, nothing else. Uses one thread.
"""

from __future__ import annotations

import dataclasses
import datetime
import secrets
import threading
from collections.abc import Callable

import structlog

from bandwidth_kube import client
from bandwidth_operator.fence import Fence, boot_clock
from bandwidth_operator.health import Health

NAME = "client-bandwidth-operator"
DURATION_SECONDS = 12
RENEW_SECONDS = 2.5
VALID_SECONDS = 8.0
REQUEST_SECONDS = 2.5
SUSPICIOUS_SECONDS = 4.0  # a record is renewed every RENEW and looked at every LOOK
LOOK_SECONDS = 1.0
LEAST_SECONDS = 0.05
SEIZE_TRIES = 10

log = structlog.get_logger(__name__)


def identity(pod_name: str) -> str:
    """A holder's name that no other process ever had."""
    return f"{pod_name}_{secrets.token_hex(4)}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    """Another holder's record, and since when it has been like that."""

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
        self._seen: _Seen | None = None
        self._own: client.Object | None = None  # the record as we wrote it last
        self.holder = holder
        self.fence: Fence | None = None  # while we hold the lease

    def turn(self) -> Fence | None:
        """Take or renew the lease if that is possible. Returns the fence while we lead. Raises client.ApiError."""
        if self.fence is not None and not self.fence.open:
            self.resign()
        asked_at = self._clock()
        if self.fence is not None and self._own is not None and self._renew(self._own, asked_at):
            return self.fence
        record = self._read()
        spec = record.get("spec") or {}
        if spec.get("holderIdentity") == self.holder and self.fence is not None:
            self._renew(record, asked_at)
        elif self._free(spec, record):
            self._take(record, asked_at)
        elif self.fence is not None:
            log.error("the lease has another holder", holder=spec.get("holderIdentity"))
            self.resign()
        return self.fence

    def seize(self) -> bool:
        """Take the lease from whoever holds it; for what comes before the end of an installation, and nothing else.

        Returns whether somebody held it, who may not know yet that it is gone. Raises client.ApiError.
        """
        for _ in range(SEIZE_TRIES):
            asked_at = self._clock()
            record = self._read()
            held = (record.get("spec") or {}).get("holderIdentity") not in (None, "", self.holder)
            self._take(record, asked_at)
            if self.fence is not None:
                return held
        raise client.UnreachableError("the lease was written by its holder at every attempt to take it")

    @property
    def followed(self) -> bool:
        """Whether another holder acts, as far as can be seen."""
        return self._seen is not None and not self.suspicious

    @property
    def suspicious(self) -> bool:
        """Whether another holder has missed a renewal, so that its end may be near."""
        seen = self._seen
        return seen is not None and self._clock() - seen.since > SUSPICIOUS_SECONDS

    def turn_again_seconds(self) -> float:
        """How long to wait before the next `turn`: not longer than until the lease may be ours."""
        seen = self._seen
        if self.fence is not None:
            return RENEW_SECONDS
        if seen is None:
            return LOOK_SECONDS
        return max(LEAST_SECONDS, min(LOOK_SECONDS, seen.since + seen.duration_seconds - self._clock()))

    def at_least(self, term: int) -> None:
        """Begin a term that is higher than one seen in a slice; needed when somebody deleted the Lease.

        Raises client.ApiError; to be tried again then.
        """
        fence = self.fence
        if fence is None or fence.term > term:
            return
        record = self._api.request("GET", f"{self._path}/{NAME}", timeout_seconds=REQUEST_SECONDS)
        if record["spec"].get("holderIdentity") == self.holder:
            record["spec"]["leaseTransitions"] = term + 1
            if not self._put(record):  # by our own renewal, at the same moment
                raise client.UnreachableError("the lease was written meanwhile")
            fence.term = term + 1

    def resign(self) -> None:
        """End the term here, without telling anybody."""
        if self.fence is not None:
            self.fence.end()
            self.fence = None
        self._seen = self._own = None

    def release(self) -> None:
        """Give the lease up, so that another replica takes it at once. To be called after the last write."""
        self.resign()
        record = self._api.request("GET", f"{self._path}/{NAME}", timeout_seconds=REQUEST_SECONDS)
        if record["spec"].get("holderIdentity") == self.holder:
            record["spec"] |= {"holderIdentity": "", "renewTime": _now()}
            self._put(record)

    def _free(self, spec: client.Object, record: client.Object) -> bool:
        if spec.get("holderIdentity") in (None, "", self.holder):
            return True  # nobody's, or ours from a term that ended because it could not be renewed
        now = self._clock()
        text = f"{spec.get('holderIdentity')} {record['metadata']['resourceVersion']}"
        if self._seen is None or self._seen.record != text:
            self._seen = _Seen(text, now, float(spec.get("leaseDurationSeconds") or DURATION_SECONDS))
        return now - self._seen.since > self._seen.duration_seconds

    def _take(self, record: client.Object, asked_at: float) -> None:
        spec = record.get("spec") or {}
        term = int(spec.get("leaseTransitions") or 0) + 1
        record["spec"] = {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self._duration_seconds,
            "acquireTime": _now(),
            "renewTime": _now(),
            "leaseTransitions": term,
        }
        if self._put(record):
            self._seen = None
            self.fence = Fence(term, asked_at + VALID_SECONDS)
            log.info("leading", holder=self.holder, term=term)

    def _renew(self, record: client.Object, asked_at: float) -> bool:
        """False if somebody wrote the record since; then it has to be looked at."""
        record["spec"] |= {"renewTime": _now()}
        fence = self.fence
        if fence is None or not self._put(record):
            return False
        fence.extend(asked_at + VALID_SECONDS)
        return True

    def _read(self) -> client.Object:
        try:
            return self._api.request("GET", f"{self._path}/{NAME}", timeout_seconds=REQUEST_SECONDS)
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            return self._create()

    def _create(self) -> client.Object:
        metadata = {"name": NAME, "namespace": self._namespace}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
        return self._api.request("POST", self._path, body=body, timeout_seconds=REQUEST_SECONDS)

    def _put(self, record: client.Object) -> bool:
        """Write on condition that nobody wrote since we read; False if somebody did."""
        self._own = None
        try:
            answer = self._api.request("PUT", f"{self._path}/{NAME}", body=record, timeout_seconds=REQUEST_SECONDS)
        except client.RefusedError as refused:
            if refused.status in (404, 409):
                return False
            raise
        self._own = answer
        return True


class Keeper:
    """A thread that turns the lease."""

    def __init__(self, lease: Lease, signs: Health) -> None:
        self._lease = lease
        self._signs = signs
        self._stopping = threading.Event()
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop turning; the lease stays as it is."""
        self._stopping.set()
        self._thread.join()

    def wait_leading(self, seconds: float) -> Fence | None:
        """Wait until this replica leads, so long at most."""
        fence = self._lease.fence
        if fence is None or not fence.open:
            self._changed.wait(seconds)
            self._changed.clear()
        fence = self._lease.fence
        return fence if fence is not None and fence.open else None

    def _run(self) -> None:
        while not self._stopping.is_set():
            before = self._lease.fence
            try:
                self._lease.turn()
                self._signs.heard()
            except client.ApiError as error:
                log.warning("the lease could not be turned", error=str(error), leading=before is not None)
            self._signs.turned("lease")
            if self._lease.fence is not before:
                self._changed.set()
            self._stopping.wait(self._lease.turn_again_seconds())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
