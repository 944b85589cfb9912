"""Where limits come from: the interface between a source of limits and the loop that puts them in force.

A source reads and validates what people wrote and nothing else: it knows no kernel, resolves no overlap and never
decides what is deleted. Bad input is part of its answer, never an exception.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from bandwidth_api import plan
from bandwidth_api.conditions import Problem


def _nowhere(_limit: str) -> str:
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What this node should enforce: the entries of the plan that select it and are not expired."""

    entries: tuple[plan.PlanEntry, ...]
    problems: tuple[Problem, ...] = ()  # limits that are not in force as written, whatever the kernel does
    complete: bool = True  # False: something is not read yet, so nothing may be deleted
    until: float | None = None  # when the next of them expires, seconds since the epoch
    warnings: tuple[str, ...] = ()
    file_of: Callable[[str], str] = dataclasses.field(default=_nowhere, compare=False)  # "" where there is no file
    digest: str | None = None  # of the plan of a cluster that these are from; None: of none
    retire: bool = False  # there are none, because by the plan everything of ours is to go
    partial: bool = False  # the plan is not all there; what is missing of it is as it was before
    nodes: int = 0  # about how many nodes have this plan, so that not all report at once; 0: few, or not known


class LimitSource(Protocol):
    """Where the limits of this node come from, as entries of a plan. Used by the loop's thread alone."""

    def fileno(self) -> int | None:
        """Return a descriptor, readable when something may have changed; None: call `drain` every half second.

        Ask again after every `drain`: a source is polled while its place is gone, and recovers.
        """

    def due(self) -> float | None:
        """Return when to call `drain` again even without an event, monotonic seconds; None: only after one."""

    def drain(self) -> bool:
        """Record what has changed, without waiting; return whether `wanted` will differ."""

    def look_again(self) -> None:
        """Make the next `wanted` look at everything again that can be read again."""

    def wanted(self, now: float) -> Wanted:
        """Return what this node should enforce at `now` (seconds since the epoch), and until when that holds.

        Reads again what has changed. Never raises for bad input.
        """
