"""Objects as an API server holds them, for tests of the plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bandwidth_cli.objects import limits

Json = dict[str, Any]

CREATED = "2030-01-01T00:00:00Z"
CREATED_AT = 1893456000.0
NOW = CREATED_AT + 600


def limit(
    name: str,
    clients: Sequence[str] = ("203.0.113.7",),
    rate: str = "5Mbit",
    *,
    ready: str = "True",
    because: str = "Ready",
    message: str = "",
    nodes: tuple[int, int] = (3, 3),
    created: str = CREATED,
    metadata: Json | None = None,
    egress: Json | None = None,
    status: Json | None = None,
    **spec: Any,
) -> limits.Limit:
    """A limit with its status; `nodes`: where it is in force, and where it should be."""
    return limits.read(
        {
            "apiVersion": "clientbandwidth.io/v1alpha1",
            "kind": "ClientBandwidthLimit",
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": "7",
                "generation": 1,
                "creationTimestamp": created,
                **(metadata or {}),
            },
            "spec": {"clients": list(clients), "egress": {"rate": rate, **(egress or {})}, **spec},
            "status": {
                "observedGeneration": 1,
                "nodes": {"programmed": nodes[0], "desired": nodes[1]},
                "conditions": [
                    {"type": "Ready", "status": ready, "reason": because, "message": message, "observedGeneration": 1}
                ],
                **(status or {}),
            },
        }
    )


def state(node: str, **status: Any) -> Json:
    """A NodeBandwidthState of a node that has everything in force."""
    return {
        "metadata": {"name": node},
        "status": {
            "schema": 1,
            "planDigest": "d",
            "planComplete": True,
            "lastReportTime": CREATED,
            "reportIntervalSeconds": 300,
            "limits": {"desired": 1, "programmed": 1, "failed": 0},
            "version": "0.1.0",
            **status,
        },
    }
