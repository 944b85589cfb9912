"""What the operator knows of the cluster: the newest version of each object, and which kinds changed.

Filled from two sides, by watch events and by whole lists; resource versions decide which of two versions is the
newer one, so that both may come late and in any order. Never talks to anybody. May be used by several threads.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Iterable
from typing import Any

from bandwidth_operator import known
from bandwidth_operator.known import Kind

GONE_MAX = 20_000  # deletions remembered; they matter only while a list is under way


class Memory:
    """`woken` is set whenever something changed that means something to us."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
        self._gone: collections.OrderedDict[tuple[Kind, str], int] = collections.OrderedDict()
        self._expected: dict[str, known.Object] = {}  # statuses that we wrote, by limit
        self._changed: set[Kind] = set()
        self.woken = threading.Event()

    def note(self, kind: Kind, item: known.Object, *, deleted: bool = False, own: bool = False) -> None:
        """One object as an event or the answer to a write showed it; an older version than the known is passed over.

        `own`: we wrote this ourselves just now, so it is no reason to wake up.
        """
        with self._lock:
            self._note(kind, item, deleted, own)

    def expect(self, name: str, status: known.Object) -> None:
        """We are about to write this status of a limit: an event that brings it is no news."""
        with self._lock:
            self._expected[name] = status

    def drop(self, kind: Kind, name: str) -> None:
        """We deleted this object ourselves just now, or were told that it is gone."""
        with self._lock:
            self._known[kind].pop(name, None)

    def merge(self, kind: Kind, pages: Iterable[tuple[Iterable[known.Object], int]]) -> int:
        """A whole list in pages, each with the version at which the list was taken.

        Returns how many objects the events had failed to bring or to take away. Keeps no page while the next comes.
        """
        corrected, version = 0, 0
        present: set[str] = set()
        for items, version in pages:  # noqa: B007
            with self._lock:
                for item in items:
                    present.add(item["metadata"]["name"])
                    corrected += self._note(kind, item, False, False)
        with self._lock:
            of_kind = self._known[kind]
            for name in [n for n, each in of_kind.items() if n not in present and each.version <= version]:
                self._forget(kind, name)
                corrected += 1
        return corrected

    def take_changed(self) -> frozenset[Kind]:
        """Which kinds changed since the last call."""
        with self._lock:
            changed, self._changed = frozenset(self._changed), set()
            self.woken.clear()
            return changed

    def snapshot(self) -> known.Snapshot:
        """Everything known now."""
        with self._lock:
            return known.Snapshot(
                limits=dict(self._known[Kind.LIMIT]),
                nodes=dict(self._known[Kind.NODE]),
                slices=dict(self._known[Kind.SLICE]),
                states=dict(self._known[Kind.STATE]),
            )

    def limit(self, name: str) -> known.Limit | None:
        """One limit as known now."""
        with self._lock:
            return self._known[Kind.LIMIT].get(name)

    def counts(self) -> dict[Kind, int]:
        """How many objects of each kind there are."""
        with self._lock:
            return {kind: len(of_kind) for kind, of_kind in self._known.items()}

    def _note(self, kind: Kind, item: known.Object, deleted: bool, own: bool) -> bool:
        metadata = item["metadata"]
        name, uid, version = metadata["name"], metadata.get("uid", ""), int(metadata["resourceVersion"])
        of_kind = self._known[kind]
        before = of_kind.get(name)
        if before is not None and version <= before.version:
            return False
        if deleted:
            self._gone[kind, uid] = version
            while len(self._gone) > GONE_MAX:
                self._gone.popitem(last=False)
            if before is not None:
                self._forget(kind, name)
            return before is not None
        if version <= self._gone.get((kind, uid), -1):
            return False
        after = of_kind[name] = known.read(kind, item, before)
        if not own and known.differs(before, after) and not self._is_expected(before, after):
            self._wake(kind)
        return True

    def _is_expected(self, before: known.Known | None, after: known.Known) -> bool:
        """Whether all that changed is the status that we wrote ourselves."""
        return (
            isinstance(after, known.Limit)
            and isinstance(before, known.Limit)
            and after.status == self._expected.get(after.name)
            and not known.differs(dataclasses.replace(before, status=after.status), after)
        )

    def _forget(self, kind: Kind, name: str) -> None:
        self._known[kind].pop(name, None)
        if kind is Kind.LIMIT:
            self._expected.pop(name, None)
        self._wake(kind)

    def _wake(self, kind: Kind) -> None:
        self._changed.add(kind)
        self.woken.set()
