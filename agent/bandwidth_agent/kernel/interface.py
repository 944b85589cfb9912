"""The seam between decisions and the kernel: what the real kernel and the fake both offer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from bandwidth_agent.kernel import change, model


class Kernel(Protocol):
    """One network namespace's tc, ipset and iptables. Not thread-safe: one kernel object per thread."""

    def facts(self) -> model.Facts:
        """Read what is not ours. Changes nothing that anybody can see."""

    def observe(self) -> model.State:
        """Read all that is ours, whole. Raises OSError if any part of the reading is incomplete."""

    def apply_one(self, step: change.Change) -> change.Outcome:
        """Apply one change. Idempotent: putting what is there and deleting what is not are no failures.

        A refusal by the kernel is an Outcome with a failure, never an exception.
        """

    def counters(self) -> model.Counters:
        """Read the counters of all that is ours."""

    def passage(self, interfaces: Collection[str]) -> model.Passage:
        """Read what tells whether marked packets come to our hooks on these interfaces; cheap."""

    def entry_counts(self) -> Mapping[str, int]:
        """The number of entries of each of our sets, without reading the entries; cheap enough for every second."""

    def close(self) -> None:
        """Give the sockets back. The kernel state stays as it is."""
