"""The digests of the plans of this term, and when each limit last changed: so one digest of a node covers all limits.

A node that reports the digest of step n has programmed every limit that last changed at step n or before, except
those that it lists as failing. Steps are counted per term; nothing of this is stored. No I/O, no clock.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping

from bandwidth_api.crds import slices

DIGESTS_MAX = 5_000


class History:
    """The steps of one term, starting with the slices that existed. Slices are given as read back."""

    def __init__(self, written: Iterable[slices.Slice] = ()) -> None:
        self._slices = {item.name: item for item in written}
        self._step = 0
        self._changed_at: dict[str, int] = {e.limit: 0 for item in self._slices.values() for e in item.entries}
        self._digests: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._remember()

    @property
    def digest(self) -> str:
        """The digest of the plan as last written."""
        return slices.plan_digest({name: item.digest for name, item in self._slices.items()})

    @property
    def written(self) -> Mapping[str, slices.Slice]:
        """The slices as last written, by name."""
        return self._slices

    def put(self, item: slices.Slice) -> None:
        """Record that a slice was written, or was found with other content."""
        before = self._slices.get(item.name)
        entries_before = {} if before is None else {e.limit: e for e in before.entries}
        self._slices[item.name] = item
        self._step += 1
        for entry in item.entries:
            if entries_before.pop(entry.limit, None) != entry:
                self._changed_at[entry.limit] = self._step
        self._forget(entries_before)
        self._remember()

    def delete(self, name: str) -> None:
        """Record that a slice was deleted."""
        before = self._slices.pop(name, None)
        if before is not None:
            self._step += 1
            self._forget(e.limit for e in before.entries)
            self._remember()

    def step_of(self, digest: str) -> int | None:
        """Return the last step at which the plan had this digest; None if it never did in this term."""
        return self._digests.get(digest)

    def changed_at(self, limit: str) -> int | None:
        """Return the step at which this limit came into the plan or last changed; None if it is not in it."""
        return self._changed_at.get(limit)

    def _forget(self, limits: Iterable[str]) -> None:
        for name in limits:
            self._changed_at.pop(name, None)

    def _remember(self) -> None:
        digest = self.digest
        self._digests.pop(digest, None)
        self._digests[digest] = self._step
        while len(self._digests) > DIGESTS_MAX:
            self._digests.popitem(last=False)
