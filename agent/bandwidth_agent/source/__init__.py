"""Where limits come from: the seam between a source of limits and the loop that puts them in force.

A source reads and judges what people wrote and nothing else: it knows no kernel, resolves no overlap and never
decides what is deleted. Bad input is part of its answer, never an exception.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

from bandwidth_agent import report
from bandwidth_api import plan


def _nowhere(_limit: str) -> str:
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """All limits of a source at one time.

    `entries` holds every accepted limit by name, in the units of the plan: also the disabled, the expired, and those
    that are kept as they were because what is written now is broken. `problems` has one entry for each thing that is
    broken, a kept limit's included.
    """

    entries: Mapping[str, plan.PlanEntry]
    problems: tuple[report.Failing, ...]
    complete: bool  # False: not everything has been read yet, so nothing may be deleted
    warnings: tuple[str, ...] = ()  # worth knowing, but no limit suffers from it
    file_of: Callable[[str], str] = dataclasses.field(default=_nowhere, compare=False)  # by name of a limit


class Source(Protocol):
    """A place that limits are read from. Used by one thread."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when something may have changed; None: call `drain` every half second.

        Ask again after every `drain`: a source falls back to being polled when its place is gone, and recovers.
        """

    def drain(self) -> bool:
        """Take note of what changed, without waiting; True if a `read` is wanted."""

    def read(self) -> Snapshot:
        """Read again what changed. Never raises for bad input."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What this node should enforce: the entries of the plan that select it and are not expired."""

    entries: tuple[plan.PlanEntry, ...]
    problems: tuple[report.Failing, ...] = ()  # limits that are not in force as written, whatever the kernel does
    complete: bool = True  # False: something is not read yet, so nothing may be deleted
    until: float | None = None  # when the next of them expires, seconds since the epoch
    warnings: tuple[str, ...] = ()
    file_of: Callable[[str], str] = dataclasses.field(default=_nowhere, compare=False)  # "" where there is no file
    digest: str | None = None  # of the plan of a cluster that these are from; None: of none
    retire: bool = False  # there are none, because the plan says that everything of ours is to go
    partial: bool = False  # the plan is not all there; what is missing of it is as it was before
    nodes: int = 0  # about how many nodes have this plan, so that not all report at once; 0: few, or nobody knows
