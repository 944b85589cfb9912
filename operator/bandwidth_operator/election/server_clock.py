"""Reads the API server's clock: asks it by dry run to create a Lease, and takes the time that the answer bears."""

from __future__ import annotations

from bandwidth_kube import client
from bandwidth_operator.cache import objects

REQUEST_SECONDS = 2.5


def now(api: client.Client, namespace: str) -> float | None:
    """Return the API server's time, in whole seconds since the epoch. Raises client.ApiError."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "client-bandwidth-operator-clock", "namespace": namespace},
        "spec": {},
    }
    answer = api.request("POST", path, query={"dryRun": "All"}, body=body, timeout_seconds=REQUEST_SECONDS)
    metadata = answer.get("metadata")
    return objects.seconds(metadata.get("creationTimestamp")) if isinstance(metadata, dict) else None
