"""Plan → slices in the cluster: only what changed, in the order that readers rely on.

Every write is conditional on the version that it was worked out from. So of two leaders, should there ever be two,
one fails; and slices carry the term, below which the API server accepts no other.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from bandwidth_api import names, slices
from bandwidth_kube import client
from bandwidth_operator import known, slicing
from bandwidth_operator.history import History
from bandwidth_operator.known import Kind
from bandwidth_operator.memory import Memory
from bandwidth_operator.watch import PATHS
from bandwidth_operator.writer import Writer

log = structlog.get_logger(__name__)


class Publisher:
    """Keeps the slices of one term as they should be."""

    def __init__(self, api: client.Client, writer: Writer, memory: Memory, plans: History) -> None:
        self._api = api
        self._writer = writer
        self._memory = memory
        self._plans = plans

    def recognise(self, seen: Mapping[str, known.Slice]) -> None:
        """Take note of slices that are other than we wrote them: changed or deleted by somebody else."""
        present = {name: s.content for name, s in seen.items() if isinstance(s.content, slices.Slice)}
        for name in [n for n in self._plans.written if n not in present]:
            self._plans.delete(name)
        for name, content in present.items():
            written = self._plans.written.get(name)
            if written is None or written.digest != content.digest:
                self._plans.put(content)

    def carry_out(self, steps: slicing.Steps, seen: Mapping[str, known.Slice]) -> bool:
        """Write all steps; False if one met another version than it was worked out from: look and try again.

        Raises client.ApiError, LeadershipLostError.
        """
        for item in steps.puts:
            if not self._put(item.name, item, seen.get(item.name)):
                return False
        if steps.head is not None and not self._put(slices.HEAD, steps.head, seen.get(slices.HEAD)):
            return False
        return all(self._delete(seen[name]) for name in steps.deletes)

    def _put(self, name: str, item: slices.Slice | slices.Head, before: known.Slice | None) -> bool:
        metadata = {"name": name}
        if before is not None:
            metadata["resourceVersion"] = str(before.version)
        body = {"apiVersion": names.API_VERSION, "kind": slices.KIND, "metadata": metadata, "spec": slices.write(item)}
        path = f"{PATHS[Kind.SLICE]}/{name}"
        try:
            answer = self._writer.write("slice", "PATCH", path, body, client.APPLY_PATCH)
        except client.RefusedError as refused:
            # Where nothing was, "not found" (404) is said of the kind, and to look again would help nothing.
            if refused.status not in ((409,) if before is None else (404, 409)):
                raise
            self._look_again(name)
            return False
        self._memory.note(Kind.SLICE, answer, own=True)
        written = slices.read(answer)
        if isinstance(written, slices.Slice):
            self._plans.put(written)
        return True

    def _delete(self, before: known.Slice) -> bool:
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": before.uid, "resourceVersion": str(before.version)},
        }
        try:
            self._writer.write("slice", "DELETE", f"{PATHS[Kind.SLICE]}/{before.name}", body)
        except client.RefusedError as refused:
            if refused.status == 409:
                self._look_again(before.name)
                return False
            if refused.status != 404:
                raise
        self._memory.drop(Kind.SLICE, before.name)
        self._plans.delete(before.name)
        return True

    def _look_again(self, name: str) -> None:
        log.info("a slice is other than expected and is read again", slice=name)
        try:
            self._memory.note(Kind.SLICE, self._api.request("GET", f"{PATHS[Kind.SLICE]}/{name}"))
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            self._memory.drop(Kind.SLICE, name)
