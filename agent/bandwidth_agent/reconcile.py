"""One pass: from the limits that this node should enforce to a kernel that does, and a report of it.

    entries → (protected?) → overlap.resolve → allocate → desired ─┐
                              kernel.facts, kernel.observe ────────┴→ diff → apply → Report

Owns what is remembered from pass to pass: what we believe the kernel to be, class numbers, resting numbers and the
ledger of repairs. All of it can be lost at any time: a new process adopts what is in the kernel.
Never decides when to make a pass (`loop`), and reads no clock but the one it is given.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping

from bandwidth_agent import (
    allocate,
    apply,
    bypass,
    classify,
    desired,
    diff,
    drift,
    placement,
    protection,
    report,
    uplinks,
    verdict,
)
from bandwidth_agent.kernel import change, interface, model
from bandwidth_agent.settings import Settings
from bandwidth_agent.source import Wanted
from bandwidth_api import conditions, names, overlap, plan

REST_SECONDS = 60.0  # a freed class number is not given to another limit before


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A pass worked out but not yet applied."""

    wanted: Wanted
    facts: model.Facts
    observed: model.State
    goal: model.State  # what the limits come to
    desired: model.State  # the goal, but for what was given up
    changes: tuple[change.Change, ...]
    classifier: classify.Classifier
    outlook: verdict.Outlook


class Reconciler:
    """Makes passes over one kernel. `checkpoint` is called before each change, for tests that end the process there."""

    def __init__(
        self,
        kernel: interface.Kernel,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        checkpoint: Callable[[change.Change], None] | None = None,
    ) -> None:
        self._kernel = kernel
        self._settings = settings
        self._clock = clock
        self._checkpoint = checkpoint
        self._facts: model.Facts | None = None
        self._believed: model.State | None = None
        self._numbers: Mapping[allocate.Slot, int] | None = None
        self._resting: dict[int, float] = {}  # class number → when it was freed
        self._ledger = drift.Ledger()
        self._uplinks = uplinks.Uplinks()
        self._bypass = bypass.Watch()
        self._given_up: frozenset[drift.Object] = frozenset()
        self._protection = protection.Protection()
        self.drift_repairs: dict[str, int] = {}  # by layer, since the start
        self.read_seconds = 0.0  # what the last reading of the kernel took

    @property
    def facts(self) -> model.Facts | None:
        """What the last pass knew of the node; None before the first."""
        return self._facts

    @property
    def believed(self) -> model.State | None:
        """The kernel state that the last pass left behind; None if it left something undone."""
        return self._believed

    def sizes_match(self) -> bool:
        """Whether each of our sets has as many entries as we believe: cheap, for the time between two read-backs."""
        if self._believed is None:
            return True
        believed = {name: len(ipset.entries) for name, ipset in self._believed.sets.items()}
        return dict(self._kernel.entry_counts()) == believed

    def leaks(self) -> bool:
        """Whether a hook that was put lately turns out to be passed by; cheap enough for every second."""
        hooks = self._believed.hooks if self._believed is not None else {}
        try:
            return self._bypass.in_doubt(hooks, self._clock()) and bool(self._watch(hooks))
        except OSError:
            return False  # the next read-back tells what is wrong

    def uses(self, links: Collection[str]) -> bool:
        """Whether one of these devices is an ifb that we redirect to: while it is away, its clients get nothing."""
        believed = self._believed
        return believed is not None and any(names.ifb(shard) in links for shard in believed.ifbs)

    def prepare(self, wanted: Wanted, *, read: bool) -> Prepared:
        """Work out a pass. With `read`, or when nothing is believed, the kernel is read; nothing is written.

        Raises OSError when the kernel cannot be read whole.
        """
        believed, facts_before = self._believed, self._facts
        observed, facts = believed, facts_before
        if read or observed is None or facts is None:
            started = self._clock()
            facts = self._uplinks.held(self._kernel.facts(), started)
            observed = self._kernel.observe()
            facts = dataclasses.replace(facts, features=placement.proven(facts.features, observed))
            self._watch(observed.hooks)
            self.read_seconds = self._clock() - started
        placements = placement.decide_all(self._settings, facts, self._bypass.bypassed(facts.interfaces, self._clock()))
        classifier = classify.choose(self._settings, facts, placements)
        goal, troubles = self._goal(wanted, facts, observed, placements, classifier)
        now = self._clock()
        if believed is not None and observed is not believed:
            drifted = drift.found(believed, observed, goal) - _replaced_hooks(facts_before, facts)
            fought_over = self._ledger.given_up(now)
            self._given_up = (self._given_up | drifted) & fought_over
            self._ledger.note(drifted - fought_over, now)
            for item in drifted - fought_over:
                self.drift_repairs[item.layer] = self.drift_repairs.get(item.layer, 0) + 1
        self._given_up &= self._ledger.given_up(now)
        wished = drift.without(goal, observed, self._given_up)
        changes = diff.compute(wished, observed)
        if not wanted.complete:
            changes = [step for step in changes if not change.removes(step)]
        self._facts = facts
        outlook = verdict.Outlook(
            entries=wanted.entries,
            troubles=troubles,
            placements=placements,
            number=classifier.number,
            shard=classifier.shard,
            given_up=self._given_up,
        )
        return Prepared(wanted, facts, observed, goal, wished, tuple(changes), classifier, outlook)

    def run(self, wanted: Wanted, *, read: bool) -> report.Report:
        """Make one pass and say what became of each limit. Raises OSError when the kernel cannot be read."""
        started = self._clock()
        prepared = self.prepare(wanted, read=read)
        self._believed = None  # until we know better: an exception from here on must lead to a read-back
        applied = apply.apply(self._kernel, prepared.changes, prepared.classifier.number, self._checkpoint)
        if applied.clean and wanted.complete:
            self._believed = prepared.desired
        return self._report(prepared, applied, self._clock() - started)

    def outlook(self, prepared: Prepared) -> report.Report:
        """The report of a pass that is not made: what can be said before anything is written."""
        return self._report(prepared, None, 0.0)

    def _watch(self, hooks: Collection[str]) -> frozenset[str]:
        """Look whether marked packets come to our hooks; returns the interfaces where they were seen not to."""
        reading = self._kernel.passage(hooks) if hooks else model.Passage(0, {})
        return self._bypass.note(reading, self._clock())

    def _goal(
        self,
        wanted: Wanted,
        facts: model.Facts,
        observed: model.State,
        placements: Mapping[str, placement.Placement],
        classifier: classify.Classifier,
    ) -> tuple[model.State, dict[str, verdict.Trouble]]:
        """The kernel state that the wanted limits come to, and the limits that cannot be part of it."""
        entries, troubles = self._protection.sift(wanted.entries, protection.prefixes(facts, self._settings))
        resolution = overlap.resolve(entries)
        assignment = self._assign(resolution, facts, observed, classifier)
        if assignment.unplaced:
            full = verdict.Trouble(
                conditions.Reason.CAPACITY_EXCEEDED,
                f"all {classifier.capacity} class numbers of this node are in use;"
                " remove limits, or give a mark mask with more bits",
            )
            numberless = {s.key.limit for s in assignment.unplaced}
            left_out = {e.limit for e in entries if names.short_limit(e.limit) in numberless}
            troubles |= dict.fromkeys(left_out, full)
            resolution = overlap.resolve(tuple(e for e in entries if e.limit not in left_out))
            assignment = self._assign(resolution, facts, observed, classifier)
        self._remember(assignment.numbers)
        return desired.build(resolution, assignment.numbers, classifier, placements, facts, observed), troubles

    def _assign(
        self, resolution: plan.Resolution, facts: model.Facts, observed: model.State, classifier: classify.Classifier
    ) -> allocate.Assignment:
        if self._numbers is None:
            self._numbers = allocate.adopt(observed, classifier)
        return allocate.assign(
            map(allocate.slot, resolution.classes.keys(), resolution.classes.values()),
            self._numbers,
            tuple(self._resting),
            classifier.capacity,
            allocate.blocked_shards(facts),
        )

    def _remember(self, numbers: Mapping[allocate.Slot, int]) -> None:
        """Keep the numbers for the next pass, and let those that are free now rest."""
        now = self._clock()
        if numbers is self._numbers:
            self._resting = {number: since for number, since in self._resting.items() if now - since < REST_SECONDS}
            return
        freed = set((self._numbers or {}).values()).difference(numbers.values())
        in_use = set(numbers.values())
        self._resting = {
            number: since
            for number, since in (self._resting | dict.fromkeys(sorted(freed), now)).items()
            if now - since < REST_SECONDS and number not in in_use
        }
        self._numbers = numbers

    def _report(self, prepared: Prepared, applied: apply.Applied | None, seconds: float) -> report.Report:
        wanted, outlook = prepared.wanted, prepared.outlook
        troubles = verdict.judge(outlook, prepared.goal, applied)
        failing = verdict.failing(troubles, wanted.problems, wanted.file_of)
        asked = {entry.limit for entry in wanted.entries} | {problem.name for problem in wanted.problems}
        broken = {item.name for item in failing}
        warnings = [*wanted.warnings, *filter(None, (prepared.classifier.warning,))]
        return report.Report(
            changes=applied.changes if applied is not None else 0,
            desired=len(asked),
            programmed=len(asked - broken),
            failed=len(broken),
            failing=failing,
            classifier=prepared.classifier.kind,
            classifier_reason=prepared.classifier.message,
            interfaces=tuple(_told(i, prepared.facts) for i in outlook.placements.items()),
            missing_features=tuple(name for name, there in prepared.facts.features._asdict().items() if not there),
            conflicts=tuple(str(item) for item in sorted(outlook.given_up)),
            warnings=tuple(warnings),
            duration_seconds=seconds,
        )


def _replaced_hooks(before: model.Facts | None, now: model.Facts) -> frozenset[drift.Object]:
    """Hooks and trees of interfaces that are other devices than before: what they lack, nobody took away."""
    if before is None:
        return frozenset()
    other = [n for n, i in now.interfaces.items() if n in before.interfaces and before.interfaces[n].index != i.index]
    return frozenset(drift.Object(layer, name) for name in other for layer in ("hook", "tree"))


def _told(placed: tuple[str, placement.Placement], facts: model.Facts) -> report.InterfaceReport:
    name, chosen = placed
    root = facts.interfaces[name].root
    text = f"{root.kind} {root.handle:x}:" if root.handle else root.kind
    return report.InterfaceReport(name, text, chosen.kind, chosen.reason, chosen.message)
