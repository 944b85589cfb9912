"""Where a screen gets its snapshots from, and how it acts: on one host, on a node of a cluster, or on a cluster.

Owns the interface alone. All calls come from one thread, and those that may take a moment say so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Protocol

from bandwidth_api.plan import Prefix
from bandwidth_sight.draft import Draft
from bandwidth_sight.rows import Snapshot


class SourceError(Exception):
    """Something could not be read or done; the message says what and why, in one line for people."""


@dataclasses.dataclass(frozen=True, slots=True)
class Preview:
    """What a drafted limit would be and do."""

    draft: Draft  # perhaps with another name than the one that was handed in, if that was taken
    yaml: str
    changes: tuple[str, ...]  # what would change, one line each
    question: str  # what is asked before it is applied: "Write /etc/…/slow-….yaml?"; "": it cannot be applied from here
    instead: tuple[str, ...] = ()  # where it cannot: what to do, such as the command to run
    overlaps: tuple[str, ...] = ()  # which other limits win against it or lose to it, and what to do; one line each


class Source(Protocol):
    """One thing to look at. `close` ends it, whatever happened before."""

    def descriptors(self) -> Sequence[int]:
        """Return what becomes readable when `poll` may have something new; asked again before each wait."""

    def poll(self) -> Snapshot | None:
        """Return what is known now if it is something new, else None; waits for nothing.

        Called when a descriptor is readable, and at least once a second. Rows are single clients, none of them folded.
        Raises SourceError when there will never be more.
        """

    def networks(self) -> Collection[Prefix]:
        """Return the networks that limits name, for grouping; may be empty."""

    def refusal(self, client: Prefix) -> str:
        """Return why no limit may be made for this client, asked before anything is typed; "" if one may."""

    def preview(self, draft: Draft) -> Preview:
        """Return what a limit would change; may take a second. Raises SourceError."""

    def apply(self, preview: Preview) -> str:
        """Make the limit, and return what was done, in one line; may take some seconds. Raises SourceError."""

    def write_yaml(self, preview: Preview, path: str) -> str:
        """Write the manifest into a file that does not exist yet, and return its path; "": the usual place.

        Raises SourceError.
        """

    def name_of(self, client: Prefix) -> str:
        """Return the name of a single address; may take two seconds. Raises SourceError when there is none."""

    def pause(self) -> None:
        """Stop looking for a while: the screen is in the background, where nobody looks. Must not fail."""

    def resume(self) -> None:
        """Look again, from nothing. Raises SourceError."""

    def close(self) -> None:
        """Stop looking; the last call, also after a failure."""
