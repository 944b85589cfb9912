"""The source of limits in a cluster: the operator's plan and this node's labels decide what this node enforces.

    reader of slices ──┐                 ┌── drain, wanted (the loop's thread)
    reader of our Node ┴─▶ PlanSource ───┴─▶ store on disk

Owns what was last read, and what is enforced because of it:

    nothing read yet, nothing on disk      nothing new is enforced, nothing is lifted
    nothing read yet, a plan on disk       that plan, whole; but if the kernel holds limits that are not in it, the
                                           disk is behind, and nothing is lifted
    slices read, labels never              the limits for every node; nothing is lifted
    slices and labels read                 what `assembly` makes of them; while that is not complete, what it lacks
                                           stays as it was last known, and ends when its time is over
    a head that orders to retire           nothing, until a later term of the operator publishes a whole plan

The time is a parameter; waits for nothing.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import structlog

from bandwidth_agent.limits import Wanted
from bandwidth_agent.limits.cluster import stored_plan
from bandwidth_agent.limits.cluster.wakeup import Wakeup
from bandwidth_api import names, plan
from bandwidth_api.compiler import assembly
from bandwidth_api.compiler import compile as compiler
from bandwidth_api.crds import slices
from bandwidth_kube.collection import Reading

log = structlog.get_logger("cluster")


class NodeFacts(NamedTuple):
    """The part of a Node object that the agent needs."""

    uid: str
    labels: Mapping[str, str]


def decoded(item: Mapping[str, Any], before: slices.Decoded | None) -> slices.Decoded:
    """Read a slice. Unchanged entries stay the same objects, by which the pass recognises what has changed."""
    now = slices.read(item)
    if not isinstance(now, slices.Slice) or not isinstance(before, slices.Slice):
        return now
    if now.digest == before.digest:
        return dataclasses.replace(now, entries=before.entries)
    known = {entry.limit: entry for entry in before.entries}
    entries = tuple([known[e.limit] if known.get(e.limit) == e else e for e in now.entries])
    return dataclasses.replace(now, entries=entries)


class PlanSource:
    """The limits of one node of a cluster. `slices_read` and `node_read` may be called by any thread."""

    def __init__(
        self,
        node: str,
        stored: stored_plan.Stored | None,
        disk: stored_plan.Store,
        in_force: Callable[[], frozenset[str] | None],
        wakeup: Wakeup,
    ) -> None:
        """Start with the plan on disk. `in_force`: returns the shortened names of the limits in the kernel, or None.

        It is called once, if there is a plan on disk.
        """
        self._node = node
        self._disk = disk
        self._lock = threading.Lock()
        self._wakeup = wakeup
        self._slices: Reading[slices.Decoded] | None = None
        self._facts: NodeFacts | None = None
        # From here on the loop's thread alone.
        self._assembled_of: Reading[slices.Decoded] | None = None
        self._assembly: assembly.Assembly | None = None
        self._known: plan.Plan | None = None  # all limits of a plan that was complete, and what came to them since
        self._labels: Mapping[str, str] | None = None
        self._saved: tuple[object, ...] | None = None
        self._retired_term: int | None = None  # of the retirement that this node obeys
        self._behind = False
        self._troubles: dict[str, str] = {}
        if stored is not None:
            self._start_with(stored, in_force())

    # ── from other threads ─────────────────────────────────────────────────────────────────────────────────────

    def slices_read(self, reading: Reading[slices.Decoded]) -> None:
        """Take all existing slices; that something else is asked of traffic is no reason to make a pass."""
        with self._lock:
            before, self._slices = self._slices, reading
        if before is None or not _is_same_plan(before.items, reading.items):
            self._wakeup.wake()

    def node_read(self, reading: Reading[NodeFacts]) -> None:
        """Take our Node, if there is one."""
        with self._lock:
            # A Node that is gone for the moment has no other labels than before.
            self._facts = reading.items.get(self._node, self._facts)
        self._wakeup.wake()

    @property
    def slice_count(self) -> int:
        """The number of known slices, which is the length of a list."""
        known = self._assembly
        return len(known.used) if known is not None else 0

    # ── the loop's thread ──────────────────────────────────────────────────────────────────────────────────────

    def fileno(self) -> int:
        return self._wakeup.fileno()

    def due(self) -> float | None:
        """Return None: nothing is due without an event."""
        return None

    def look_again(self) -> None:
        """Do nothing: the readers always have what the API server has."""

    def drain(self) -> bool:
        """Return whether something was read since the last call."""
        return self._wakeup.drain()

    def wanted(self, now: float) -> Wanted:
        """Return what this node should enforce at `now`, seconds since the epoch."""
        with self._lock:
            reading, facts = self._slices, self._facts
        if facts is not None:
            self._labels = facts.labels
        if reading is not None and reading is not self._assembled_of:
            self._assemble(reading)
        made = self._assembly
        if made is None:
            return Wanted((), complete=False, warnings=("the plan has not been read yet",))
        retired = self._retired_term is not None
        if retired or made.retire:
            # What is only on disk may be of an installation that is gone: obeyed, but not reported.
            digest = slices.plan_digest({}, retire=True) if retired else None
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
        """Start with the plan that an earlier process has stored."""
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
        if self._retired_term is not None and _went_back(self._assembled_of, reading):
            self._retired_term = assembly.AFTER_ANY  # restored from a backup, the server counts from an earlier term
        self._assembled_of = reading
        if self._assembly.complete:
            self._known, self._behind = self._assembly.plan, False
        elif self._known is not None:
            self._known = plan.Plan({**self._known.entries, **self._assembly.plan.entries})
        retired, self._retired_term = (
            self._retired_term,
            assembly.retired_term(self._retired_term, reading.items.values(), self._assembly),
        )
        if self._retired_term is not None and retired is None:
            log.warning("the plan says retire: everything of ours is removed")
            self._keep(self._assembly, reading)
        elif self._retired_term is None and retired is not None:
            log.warning("the retirement is over: a later operator has published its plan", after_term=retired)

    def _keep(self, made: assembly.Assembly, reading: Reading[slices.Decoded] | None) -> None:
        """Store a complete plan on disk if it is not there yet."""
        mark = self._mark(made)
        if reading is None or not made.complete or self._labels is None or mark == self._saved:
            return
        self._saved = mark
        self._disk.save(
            stored_plan.Stored(self._node, dict(self._labels), made.used, made.retire, reading.resource_version)
        )

    def _mark(self, made: assembly.Assembly) -> tuple[object, ...]:
        return made.digest, dict(self._labels or {}), made.retire


def _is_same_plan(before: Mapping[str, slices.Decoded], after: Mapping[str, slices.Decoded]) -> bool:
    """Return whether two readings differ by no more than what is asked of traffic."""
    if before.keys() != after.keys():
        return False
    changed = [(before[name], each) for name, each in after.items() if before[name] is not each]
    return all(
        isinstance(was, slices.Head)
        and isinstance(now, slices.Head)
        and dataclasses.replace(was, traffic=None, watching=None)
        == dataclasses.replace(now, traffic=None, watching=None)
        for was, now in changed
    )


def _went_back(before: Reading[slices.Decoded] | None, after: Reading[slices.Decoded]) -> bool:
    """Return whether the server's versions are lower than they were."""
    versions = (before.resource_version if before is not None else "", after.resource_version)
    return all(v.isdecimal() for v in versions) and int(versions[1]) < int(versions[0])
