"""The one way to write: checks the fence, waits for a token, counts. Only the lease is written without it."""

from __future__ import annotations

import urllib.parse

from bandwidth_kube import client
from bandwidth_operator.election.fence import Fence, LeadershipLostError
from bandwidth_operator.election.token_bucket import TokenBucket
from bandwidth_operator.reporting.metrics import Metrics

FIELD_MANAGER = "bandwidth-operator"
LEFT = {
    "slice": 0.0,
    "status": 0.25,
    "question": 0.25,
    "made limit": 0.1,
    "policy": 0.25,
    "event": 0.5,
}  # the part of the token bucket that a kind of write leaves to others
WRITE_SECONDS = 3.0  # a write that takes longer is given up: it must not outlive the lease


class Writer:
    """The writes of one term."""

    def __init__(self, api: client.Client, fence: Fence, bucket: TokenBucket, metrics: Metrics) -> None:
        self._api = api
        self._bucket = bucket
        self.metrics = metrics
        self.fence = fence

    def write(
        self, what: str, method: str, path: str, body: client.Object, content_type: str = "application/json"
    ) -> client.Object:
        """Wait for a token, then write. Raises client.ApiError, LeadershipLostError."""
        while (seconds := self._bucket.wait_seconds(LEFT[what])) > 0:
            if self.fence.wait_ended(seconds):
                break
        return self._send(what, method, path, body, content_type)

    def has_room(self) -> bool:
        """Return whether there is room for writes that are not necessary."""
        return self._bucket.has_spare(LEFT["event"])

    def _send(self, what: str, method: str, path: str, body: client.Object, content_type: str) -> client.Object:
        self.fence.check()
        query = {"fieldManager": FIELD_MANAGER} if method in ("PATCH", "POST") else {}
        if content_type == client.APPLY_PATCH:
            query["force"] = "true"
        url = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        outcome = "failed"
        try:
            answer = self._api.request(method, url, body=body, content_type=content_type, timeout_seconds=WRITE_SECONDS)
            outcome = "done"
            return answer
        except client.RefusedError as refused:
            outcome = "conflict" if refused.status == 409 else "refused"
            if what == "slice" and refused.status == 422 and "FieldValueForbidden" in refused.causes:
                self.fence.end()
                raise LeadershipLostError(refused.message) from refused
            raise
        finally:
            self.metrics.writes.labels(what, outcome).inc()
