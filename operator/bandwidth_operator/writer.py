"""The one door for writes: fence, token bucket, count. The lease alone does not pass through it."""

from __future__ import annotations

import urllib.parse

from bandwidth_kube import client
from bandwidth_operator.bucket import TokenBucket
from bandwidth_operator.fence import Fence, LeadershipLostError
from bandwidth_operator.metrics import Metrics

FIELD_MANAGER = "bandwidth-operator"
WRITE_SECONDS = 3.0  # a write that takes longer is given up: it must not outlive the lease


class Writer:
    """Writes of one term."""

    def __init__(self, api: client.Client, fence: Fence, bucket: TokenBucket, metrics: Metrics) -> None:
        self._api = api
        self._bucket = bucket
        self._metrics = metrics
        self.fence = fence

    def write(
        self, what: str, method: str, path: str, body: client.Object, content_type: str = "application/json"
    ) -> client.Object:
        """Wait for a token, then write. Raises client.ApiError, LeadershipLostError."""
        while (seconds := self._bucket.wait_seconds()) > 0:
            if self.fence.wait_ended(seconds):
                break
        return self._send(what, method, path, body, content_type)

    def write_if_spare(self, what: str, method: str, path: str, body: client.Object) -> bool:
        """Write if there is much room; False if not."""
        if not self._bucket.spare(0.5):
            return False
        self._send(what, method, path, body, "application/json")
        return True

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
            if refused.status == 422 and "FieldValueForbidden" in refused.causes:
                self.fence.end()
                raise LeadershipLostError(refused.message) from refused
            raise
        finally:
            self._metrics.writes.labels(what, outcome).inc()
