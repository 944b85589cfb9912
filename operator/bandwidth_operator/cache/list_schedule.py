"""Decides when each kind is listed again, and when reading a first page is enough. Pure: every time is a parameter."""

from __future__ import annotations

from collections.abc import Mapping

from bandwidth_api.kinds import Kind

LOOK_SECONDS = 15.0  # between two looks at whether the watches brought everything: a whole list where that is cheap
DISAGREED_SECONDS = 3.0  # from a look that found more or less than is known to a whole list
LIST_COST = 400.0  # a whole list may take this part of the time …
RELIST_SECONDS = 1800.0  # … and is made at least so often
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)  # after a list that failed; the last one again and again
SILENT_LIST_SECONDS = 5.0  # between two lists that take the place of a silent watch, at least …
SILENT_LIST_COST = 10.0  # … and this part of the time


class Schedule:
    """The times at which each kind is due, from the duration and the results of its lists."""

    def __init__(self, now: float) -> None:
        self._took = dict.fromkeys(Kind, 0.0)
        self._whole_at = dict.fromkeys(Kind, now)
        self._due_at = dict.fromkeys(Kind, now + LOOK_SECONDS)
        self._failures = dict.fromkeys(Kind, 0)
        self._wanted: set[Kind] = set()

    def want(self, kind: Kind, now: float) -> None:
        """Make a whole list of a kind due at once."""
        self._wanted.add(kind)
        self._due_at[kind] = min(self._due_at[kind], now)

    def due(self, now: float, silent: Mapping[Kind, float]) -> dict[Kind, bool]:
        """Return what is due now, by kind: True for a whole list, False for a first page."""
        found = {}
        for kind in Kind:
            least = max(SILENT_LIST_SECONDS, SILENT_LIST_COST * self._took[kind])
            if kind in silent and not self._failures[kind] and now - self._whole_at[kind] >= least:
                self.want(kind, now)
            if self._due_at[kind] <= now:
                cheap = now - self._whole_at[kind] >= LIST_COST * self._took[kind]
                found[kind] = kind in self._wanted or cheap or now - self._whole_at[kind] >= RELIST_SECONDS
        return found

    def listed(self, kind: Kind, began: float, now: float) -> None:
        """Record that a whole list was made."""
        self._took[kind], self._whole_at[kind] = now - began, now
        self._failures[kind] = 0
        self._wanted.discard(kind)
        self._due_at[kind] = now + LOOK_SECONDS

    def agreed(self, kind: Kind, now: float) -> None:
        """Record that a first page agreed with the cache."""
        self._failures[kind] = 0
        self._due_at[kind] = now + LOOK_SECONDS

    def disagreed(self, kind: Kind, now: float) -> None:
        """Record that a first page differed from the cache; perhaps the events are still on their way."""
        self._failures[kind] = 0
        self._wanted.add(kind)
        self._due_at[kind] = max(now + DISAGREED_SECONDS, self._whole_at[kind] + 20 * self._took[kind])

    def failed(self, kind: Kind, now: float) -> float:
        """Record that a request failed; return the pause before it is tried again."""
        delays = RETRY_SECONDS
        seconds = delays[min(self._failures[kind], len(delays) - 1)]
        self._failures[kind] += 1
        self._due_at[kind] = now + seconds
        return seconds
