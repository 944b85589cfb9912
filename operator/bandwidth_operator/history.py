"""Which plan had which digest, and when each limit last changed: how a node's one digest speaks for all its limits.

A node that reports the digest of step n has programmed every limit that last changed at step n or before, except
those that it lists as failing. Steps are counted per term; nothing of this is stored. No I/O, no clock.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping

from bandwidth_api import slices

DIGESTS_MAX = 5_000


class History:
    """The steps of one term, beginning with the slices that were there. Slices are given as read back."""

    def __init__(self, written: Iterable[slices.Slice] = ()) -> None:
        self._slices = {item.name: item for item in written}
        self._step = 0
        self._changed_at: dict[str, int] = {e.limit: 0 for item in self._slices.values() for e in item.entries}
        self._digests: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._remember()

    @property
    def digest(self) -> str:
        """Of the plan as written last."""
        return slices.plan_digest({name: item.digest for name, item in self._slices.items()})

    @property
    def written(self) -> Mapping[str, slices.Slice]:
        """The slices as written last, by name."""
        return self._slices

    def put(self, item: slices.Slice) -> None:
        """A slice was written, or seen to hold something else than before."""
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
        """A slice was deleted."""
        before = self._slices.pop(name, None)
        if before is not None:
            self._step += 1
            self._forget(e.limit for e in before.entries)
            self._remember()

    def step_of(self, digest: str) -> int | None:
        """The last step at which the plan had this digest; None if this term has not seen it."""
        return self._digests.get(digest)

    def changed_at(self, limit: str) -> int | None:
        """The step at which this limit came into the plan or last changed in it; None if it is not in it."""
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
