"""An API server in memory, and a clock that stands still until a test moves it."""

from __future__ import annotations

import copy
import datetime
import threading
from collections.abc import Callable
from typing import Any

from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_runtime.clock import Clock
from unit.operator import examples

APPLY, MERGE = client.APPLY_PATCH, client.MERGE_PATCH


class Time:
    """Both clocks of a machine, and an event whose waiting makes the time pass."""

    def __init__(self) -> None:
        self.now = 1000.0  # monotonic
        self.clock = Clock(lambda: self.now, lambda: examples.NOW + self.now - 1000.0)
        self.stopping = _Waited(self)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class _Waited(threading.Event):
    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time = time
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        self._time.pass_by(timeout or 0.0)
        return self.is_set()


class Cluster(client.Client):
    """Objects by path, each with a version; every request is written down. `fault`, where it is set, may raise."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self.version = 100
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], object] = lambda method, path: None

    def close(self) -> None:
        """There is no connection."""

    def put(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        """As another program writes it."""
        self.version += 1
        metadata = {"uid": f"uid-{path}", "creationTimestamp": self._date()} | item.get("metadata", {})
        metadata |= {"name": path.rpartition("/")[2], "resourceVersion": str(self.version)}
        before = self.objects.get(path)
        if before is not None and "generation" in before["metadata"] and before.get("spec") != item.get("spec"):
            metadata["generation"] = max(metadata.get("generation", 0), before["metadata"]["generation"] + 1)
        self.objects[path] = item | {"metadata": metadata}
        return self.objects[path]

    def limit(self, name: str, **options: Any) -> None:
        self.put(f"{Kind.LIMIT.path}/{name}", examples.document(name, **options))

    def node(self, name: str, **labels: str) -> None:
        self.put(f"{Kind.NODE.path}/{name}", {"metadata": {"labels": labels}})

    def below(self, path: str) -> dict[str, dict[str, Any]]:
        """The objects of a collection by name."""
        return {p.rpartition("/")[2]: item for p, item in self.objects.items() if p.rpartition("/")[0] == path}

    def writes(self) -> list[str]:
        """What was written since the last call, but for the Lease."""
        found = [f"{m} {p.rpartition('/')[2]}" for m, p in self.requests if m != "GET" and "/leases" not in p]
        self.requests.clear()
        return found

    def request(self, method: str, path: str, **options: Any) -> client.Object:
        path, query = path.partition("?")[0], options.get("query") or {}
        body = copy.deepcopy(options.get("body")) or {}
        self.requests.append((method, path))
        self.fault(method, path)
        if query.get("dryRun"):
            return body | {"metadata": {"creationTimestamp": self._date(), "resourceVersion": "1"}}
        if method == "GET" and path not in self.objects:
            return self._listed(path, query)
        if method == "POST":
            return copy.deepcopy(self.put(f"{path}/{body['metadata']['name']}", body))
        there = path.removesuffix("/status")
        before = self.objects.get(there)
        if method == "DELETE" and self.below(path):
            for name in self.below(path):
                del self.objects[f"{path}/{name}"]
            return {}
        if before is None and options.get("content_type") != APPLY:
            raise client.RefusedError(404, "NotFound", there)
        if method == "GET" and before is not None:
            return copy.deepcopy(before)
        given = body.get("preconditions") or body.get("metadata") or {}
        held = str(given.get("resourceVersion", ""))
        if before is not None and held and held != before["metadata"]["resourceVersion"]:
            raise client.RefusedError(409, "Conflict", there)
        uid = before["metadata"]["uid"] if before is not None else ""
        if given.get("uid", uid) != uid:
            raise client.RefusedError(409, "Conflict", there)
        if method == "DELETE":
            return self.objects.pop(there)
        if options.get("content_type") == MERGE and not path.endswith("/status"):
            assert before is not None
            return copy.deepcopy(self.put(there, _merged(before, body)))
        if path.endswith("/status"):
            assert before is not None
            status = {k: v for k, v in {**before.get("status", {}), **body["status"]}.items() if v is not None}
            body = before | {"status": status}
        return copy.deepcopy(self.put(there, (before or {}) | body | {"metadata": (before or body)["metadata"]}))

    def _listed(self, path: str, query: dict[str, str]) -> client.Object:
        items = [copy.deepcopy(item) for _, item in sorted(self.below(path).items())]
        if not items and path.count("/") > 5:
            raise client.RefusedError(404, "NotFound", path)
        most = int(query.get("limit", len(items)))
        metadata: dict[str, Any] = {"resourceVersion": str(self.version)}
        if most < len(items):
            metadata |= {"continue": str(most), "remainingItemCount": len(items) - most}
        return {"metadata": metadata, "items": items[:most]}

    def _date(self) -> str:
        return datetime.datetime.fromtimestamp(self._time.clock.wall(), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _merged(before: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    made = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = _merged(made.get(key), value)
    return made
