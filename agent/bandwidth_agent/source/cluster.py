"""In a cluster: from the plan that the operator wrote and this node's labels, what this node should enforce.

    reader of slices ──┐                 ┌── drain, wanted (the loop's thread)
    reader of our Node ┴─▶ Cluster ──────┴─▶ store on disk

Owns what was read last and what may be concluded from it:

    nothing read yet, nothing on disk      nothing is enforced anew, nothing is lifted
    nothing read yet, a plan on disk       that plan, whole; but if the kernel holds limits that it does not know, the
                                           disk is behind, and nothing is lifted
    slices read, labels never              the limits for every node; nothing is lifted
    slices and labels read                 what `assembly` makes of them; while that is not complete, what it lacks
                                           stays as it was last known, and ends when its time is over
    a head that said retire                nothing, until this process ends

Reads no clock but the one it is given; waits for nothing.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import structlog

from bandwidth_agent.source import Wanted, stored_plan
from bandwidth_agent.source.cluster_reader import Reading
from bandwidth_api import assembly, names, plan, slices
from bandwidth_api import compile as compiler

log = structlog.get_logger("cluster")


class NodeFacts(NamedTuple):
    """What the agent needs to know of a Node object."""

    uid: str
    labels: Mapping[str, str]


class Disk(Protocol):
    """Where the last complete plan is kept."""

    @property
    def warning(self) -> str:
        """Why it is not, "" if it is."""

    def save(self, plan: stored_plan.Stored) -> None:
        """Keep this plan, soon."""


class CrashError(RuntimeError):
    """A thread ended by an error of this program; so must the process."""


class Bell:
    """The place where threads leave the error that ended them, and the descriptor that wakes the loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._first: tuple[str, BaseException] | None = None

    def crashed(self, thread: str, error: BaseException) -> None:
        """A thread ended; the loop's thread will say so."""
        with self._lock:
            self._first = self._first or (thread, error)
        self.wake()

    def wake(self) -> None:
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        return self._event

    def drain(self) -> bool:
        """Whether it was woken since the last time. Raises CrashError if a thread ended."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return False
        with self._lock:
            first = self._first
        if first is not None:
            raise CrashError(f"the thread {first[0]!r} ended: {first[1]!r}") from first[1]
        return True


def decoded(item: Mapping[str, Any], before: slices.Decoded | None) -> slices.Decoded:
    """What a slice says. Entries that are as before stay the same objects: by that the pass sees what changed."""
    now = slices.read(item)
    if not isinstance(now, slices.Slice) or not isinstance(before, slices.Slice):
        return now
    if now.digest == before.digest:
        return dataclasses.replace(now, entries=before.entries)
    known = {entry.limit: entry for entry in before.entries}
    entries = tuple([known[e.limit] if known.get(e.limit) == e else e for e in now.entries])
    return dataclasses.replace(now, entries=entries)


class Cluster:
    """The limits of one node of a cluster. `slices_read` and `node_read` may be called by any thread."""

    def __init__(
        self,
        node: str,
        stored: stored_plan.Stored | None,
        disk: Disk,
        in_force: Callable[[], frozenset[str] | None],
        bell: Bell,
    ) -> None:
        """`in_force`: the cut names of the limits in the kernel, None if it cannot be read.

        It is asked once, if there is a plan on disk.
        """
        self._node = node
        self._disk = disk
        self._lock = threading.Lock()
        self._bell = bell
        self._slices: Reading[slices.Decoded] | None = None
        self._facts: NodeFacts | None = None
        # From here on the loop's thread alone.
        self._assembled_of: Reading[slices.Decoded] | None = None
        self._assembly: assembly.Assembly | None = None
        self._known: plan.Plan | None = None  # all limits of a plan that was complete, and what came to them since
        self._labels: Mapping[str, str] | None = None
        self._saved: tuple[object, ...] | None = None
        self._retired = False
        self._behind = False
        self._troubles: dict[str, str] = {}
        if stored is not None:
            self._start_with(stored, in_force())

    # ── from other threads ─────────────────────────────────────────────────────────────────────────────────────

    def slices_read(self, reading: Reading[slices.Decoded]) -> None:
        """All slices there are."""
        with self._lock:
            self._slices = reading
        self._bell.wake()

    def node_read(self, reading: Reading[NodeFacts]) -> None:
        """Our Node, if there is one."""
        with self._lock:
            # A Node that is gone for the moment has no other labels than before.
            self._facts = reading.items.get(self._node, self._facts)
        self._bell.wake()

    @property
    def slice_count(self) -> int:
        """How many slices are known; how long a list is."""
        known = self._assembly
        return len(known.used) if known is not None else 0

    # ── the loop's thread ──────────────────────────────────────────────────────────────────────────────────────

    def fileno(self) -> int:
        return self._bell.fileno()

    def drain(self) -> bool:
        """Whether something was read since the last time."""
        return self._bell.drain()

    def wanted(self, now: float) -> Wanted:
        """What this node should enforce at `now`, seconds since the epoch."""
        with self._lock:
            reading, facts = self._slices, self._facts
        if facts is not None:
            self._labels = facts.labels
        if reading is not None and reading is not self._assembled_of:
            self._assemble(reading)
        made = self._assembly
        if made is None:
            return Wanted((), complete=False, warnings=("the plan has not been read yet",))
        if self._retired or made.retire:
            # What only the disk says may be of an installation that is gone: obeyed, but not reported.
            digest = slices.plan_digest({}, retire=True) if self._retired else None
            return Wanted((), digest=digest, retire=True, nodes=made.nodes)
        self._keep(made, reading)
        of_all = self._known or made.plan
        warnings = list(made.warnings)
        if self._disk.warning:
            warnings.append(f"{self._disk.warning}; a start without the API server would miss the plan")
        if self._behind:
            warnings.append("the plan on disk is older than what is in force; waiting for the API server")
        if self._labels is None:
            warnings.append(f"the labels of Node {self._node} are not known yet")
            everywhere = {name: e for name, e in of_all.entries.items() if not e.node_selector}
            entries = compiler.active(plan.Plan(everywhere), {}, now)
        else:
            entries = compiler.active(of_all, self._labels, now)
        return Wanted(
            entries=entries,
            complete=self._known is not None and not self._behind and self._labels is not None,
            until=compiler.next_expiry(of_all, now),
            warnings=tuple(warnings),
            digest=made.digest,
            partial=not made.complete,
            nodes=made.nodes,
        )

    def _start_with(self, stored: stored_plan.Stored, in_force: frozenset[str] | None) -> None:
        """Take up the plan of an earlier process."""
        head = slices.Head((), retire=True) if stored.retire else slices.Head(tuple(stored.slices))
        self._assembly = assembly.assemble([head, *stored.slices.values()], {})
        self._labels = stored.labels
        self._known = self._assembly.plan
        known = {names.short_limit(name) for name in self._assembly.plan.entries}
        self._behind = in_force is None or not in_force <= known
        self._saved = self._mark(self._assembly)
        log.info("begins with the plan on disk", limits=len(self._assembly.plan.entries), behind=self._behind)

    def _assemble(self, reading: Reading[slices.Decoded]) -> None:
        before = self._assembly
        kept, nodes = (before.used, before.nodes) if before is not None else ({}, 0)
        self._assembly = assembly.assemble(reading.items.values(), kept, nodes)
        self._assembled_of = reading
        if self._assembly.complete:
            self._known, self._behind = self._assembly.plan, False
        elif self._known is not None:
            self._known = plan.Plan({**self._known.entries, **self._assembly.plan.entries})
        if self._assembly.retire and not self._retired:
            log.warning("the plan says retire: everything of ours is removed, and nothing is put in force again")
            self._retired = True
            self._keep(self._assembly, reading)

    def _keep(self, made: assembly.Assembly, reading: Reading[slices.Decoded] | None) -> None:
        """Put a complete plan on disk if it is not there yet."""
        mark = self._mark(made)
        if reading is None or not made.complete or self._labels is None or mark == self._saved:
            return
        self._saved = mark
        self._disk.save(
            stored_plan.Stored(self._node, dict(self._labels), made.used, made.retire, reading.resource_version)
        )

    def _mark(self, made: assembly.Assembly) -> tuple[object, ...]:
        return made.digest, dict(self._labels or {}), made.retire
