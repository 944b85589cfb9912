"""Without a cluster: from the limits of a source, what this host should enforce. Reads no clock."""

from __future__ import annotations

from collections.abc import Mapping

from bandwidth_agent.source import Snapshot, Source, Wanted
from bandwidth_api import compile as compiler
from bandwidth_api import plan


class Compiled:
    """This host as the one node of its own plan. `labels` are what the limits' node selectors see."""

    def __init__(self, source: Source, labels: Mapping[str, str]) -> None:
        self._source = source
        self._labels = dict(labels)
        self._snapshot: Snapshot | None = None
        self._changed = True

    def fileno(self) -> int | None:
        return self._source.fileno()

    def drain(self) -> bool:
        """Whether the source may have other limits than before."""
        self._changed = self._source.drain() or self._changed
        return self._changed

    def wanted(self, now: float) -> Wanted:
        """What this host should enforce at `now`, seconds since the epoch; reads the source if it changed."""
        if self._changed or self._snapshot is None:
            self._snapshot = self._source.read()
            self._changed = False
        entries = self._snapshot.entries.items()
        of_all = plan.Plan({name: entry for name, entry in entries if entry.mode is not plan.Mode.DISABLED})
        return Wanted(
            entries=compiler.active(of_all, self._labels, now),
            problems=self._snapshot.problems,
            complete=self._snapshot.complete,
            until=compiler.next_expiry(of_all, now),
            warnings=self._snapshot.warnings,
            file_of=self._snapshot.file_of,
        )
