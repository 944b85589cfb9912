"""Writes the slices of a plan into the cluster: only those that changed, in the order that readers rely on.

Every write is conditional on the version that it was computed from. So if there were ever two leaders, one would fail;
and slices carry the term, and the API server accepts no lower one. A slice with a number that no term can have is
deleted and created again: agents keep its entries until it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import structlog

from bandwidth_api import names
from bandwidth_api.crds import slices
from bandwidth_api.kinds import Kind
from bandwidth_kube import client
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.cache import Cache
from bandwidth_operator.cache.history import History
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.publish import slicing

log = structlog.get_logger(__name__)


class Publisher:
    """Keeps the slices of one term equal to the plan, and their history, `plans`, which starts at `begin`.

    `turned` is called before each write: many take a while.
    """

    def __init__(
        self,
        api: client.Client,
        writer: Writer,
        cache: Cache,
        turned: Callable[[], object] = lambda: None,
    ) -> None:
        self._turned = turned
        self._api = api
        self._writer = writer
        self._cache = cache
        self.plans = History()

    def begin(self, seen: Iterable[slices.Decoded]) -> None:
        """Start the term with these slices."""
        self.plans = History(content for content in seen if isinstance(content, slices.Slice))

    def recognise(self, seen: Mapping[str, objects.Slice]) -> None:
        """Record slices that differ from what we wrote, because another program changed or deleted them."""
        present = {name: s.content for name, s in seen.items() if isinstance(s.content, slices.Slice)}
        for name in [n for n in self.plans.written if n not in present]:
            self.plans.delete(name)
        for name, content in present.items():
            written = self.plans.written.get(name)
            if written is None or written.digest != content.digest:
                self.plans.put(content)

    def carry_out(self, steps: slicing.Steps, seen: Mapping[str, objects.Slice]) -> bool:
        """Write all steps; return False if a slice had another version than expected: read it and try again.

        Raises client.ApiError, LeadershipLostError.
        """
        for item in steps.puts:
            if not self._put(item.name, item, seen.get(item.name)):
                return False
        if steps.head is not None and not self._put(slices.HEAD, steps.head, seen.get(slices.HEAD)):
            return False
        return all(self._delete(seen[name]) for name in steps.deletes)

    def _put(self, name: str, item: slices.Slice | slices.Head, before: objects.Slice | None) -> bool:
        self._turned()
        if before is not None and before.version < 0:
            self._look_again(name)
            return False
        if before is not None and before.content.term >= slices.TERM_MAX:
            log.warning("a slice of an impossible term is made again", slice=name, term=before.content.term)
            if not self._delete(before):
                return False
            before = None
        metadata = {"name": name}
        if before is not None:
            metadata["resourceVersion"] = str(before.version)
        body = {"apiVersion": names.API_VERSION, "kind": slices.KIND, "metadata": metadata, "spec": slices.write(item)}
        path = f"{Kind.SLICE.path}/{name}"
        asked = self._cache.mark()
        try:
            answer = self._writer.write("slice", "PATCH", path, body, client.APPLY_PATCH)
        except client.RefusedError as refused:
            # Where nothing was, "not found" (404) is about the kind, and to look again would help nothing.
            if refused.status not in ((409,) if before is None else (404, 409)):
                raise
            self._look_again(name)
            return False
        self._cache.learn(Kind.SLICE, answer, asked, own=True)
        written = slices.read(answer)
        if isinstance(written, slices.Slice):
            self.plans.put(written)
        return True

    def _delete(self, before: objects.Slice) -> bool:
        self._turned()
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": before.uid, "resourceVersion": str(before.version)},
        }
        try:
            self._writer.write("slice", "DELETE", f"{Kind.SLICE.path}/{before.name}", body)
        except client.RefusedError as refused:
            if refused.status == 409:
                self._look_again(before.name)
                return False
            if refused.status != 404:
                raise
        self._cache.drop(Kind.SLICE, before.name)
        self.plans.delete(before.name)
        return True

    def _look_again(self, name: str) -> None:
        log.info("a slice is other than expected and is read again", slice=name)
        asked = self._cache.mark()
        try:
            self._cache.learn(Kind.SLICE, self._api.request("GET", f"{Kind.SLICE.path}/{name}"), asked)
        except client.RefusedError as refused:
            if refused.status != 404:
                raise
            self._cache.drop(Kind.SLICE, name)
