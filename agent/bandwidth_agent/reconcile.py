"""Makes one pass: brings the kernel to the limits that this node should enforce, and reports the result.

    kernel.facts, kernel.observe ──▶ placement, classifier ─┐
                                          wanted entries ───┴▶ goal ──▶ diff ──▶ apply ──▶ Report

Owns what is remembered from pass to pass: what we believe the kernel to be, class ids, repairs, and the memo that
saves the pure modules time. All of it can be lost at any time: a new process adopts what is in the kernel.
Never decides when to make a pass (`loop` does); its clock is handed in.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Collection, Mapping

from bandwidth_agent import report
from bandwidth_agent.kernel import contract, model, objects
from bandwidth_agent.limits import Wanted
from bandwidth_agent.planner import apply, classifier, conflicts, diff, goal, limit_status, placement, way_out
from bandwidth_agent.planner.admission import protected_addresses
from bandwidth_agent.planner.classifier import class_ids, ownership
from bandwidth_agent.planner.placement import default_route_hold, hook_bypass, programs_needed, unseen_programs
from bandwidth_agent.settings import Settings
from bandwidth_agent.sight.truth import check, stored_findings
from bandwidth_api import names, plan
from bandwidth_api.conditions import Problem, Reason

ASK_COST = 20.0  # what asking for all ways took, so many times over, is the least time until they are asked again


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A pass worked out but not yet applied."""

    wanted: Wanted
    facts: model.Facts
    observed: model.State
    desired: model.State  # what the limits come to, but for what was given up
    changes: tuple[objects.Change, ...]
    context: limit_status.PassContext


class Reconciler:
    """Makes passes over one kernel. `checkpoint` is called before each change; tests end the process there."""

    def __init__(
        self,
        kernel: contract.Kernel,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        checkpoint: Callable[[objects.Change], None] | None = None,
        spared: Callable[[], Mapping[plan.Prefix, str]] = dict,
        jitter: Callable[[], float] = random.random,
        findings: stored_findings.Store | None = None,
    ) -> None:
        """`spared`: addresses that this host cannot do without, and what they are. `jitter`: as in `Schedule`.

        `findings`: where it is kept which limits are bypassed; None: nowhere.
        """
        self.spared = spared
        self._kernel = kernel
        self._settings = settings
        self._clock = clock
        self._checkpoint = checkpoint
        self._facts: model.Facts | None = None
        self._believed: model.State | None = None
        self._class_ids = class_ids.ClassIds()
        self._memo = goal.Memo()
        self._repairs = conflicts.Repairs()
        self._uplinks = default_route_hold.Uplinks()
        self._bypass = hook_bypass.Watch()
        self._ways = way_out.WayOut()
        self.truth = check.Check(kernel, clock, jitter, store=findings)  # whether the limits hold
        self._ask_again_at = 0.0
        self.read_seconds = 0.0  # what the last reading of the kernel took

    @property
    def facts(self) -> model.Facts | None:
        """The facts of the last pass; None before the first."""
        return self._facts

    @property
    def believed(self) -> model.State | None:
        """The kernel state that the last pass left behind; None if it left something undone."""
        return self._believed

    def sizes_match(self) -> bool:
        """Return whether each of our sets has as many entries as expected; cheap, for between two read-backs."""
        if self._believed is None:
            return True
        believed = {name: len(ipset.entries) for name, ipset in self._believed.sets.items()}
        return dict(self._kernel.entry_counts()) == believed

    def leaks(self) -> bool:
        """Return whether a recently added hook is found to be bypassed; cheap enough for every second."""
        hooks = self._believed.hooks if self._believed is not None else {}
        try:
            return self._bypass.in_doubt(hooks, self._clock()) and bool(self._watch(hooks))
        except OSError:
            return False  # the next read-back finds what is wrong

    @property
    def next_trial(self) -> float | None:
        """Return when to try again to repair what is left alone now (monotonic seconds); None if nothing is."""
        return self._repairs.next_trial

    @property
    def drift_repairs(self) -> Mapping[str, int]:
        """How many objects that another program changed were repaired, by layer, since the start."""
        return self._repairs.counts

    def rerouted(self) -> bool:
        """Return whether route changes have moved a client to another interface; cheap while no route changes."""
        started = self._clock()
        if started < self._ask_again_at or not self._ways.networks:
            return False
        try:
            if not self._kernel.routes_changed():
                return False
            changed = self._ways.learn(self._kernel.ways(self._ways.networks))
        except OSError:
            return False  # unknown is not reported as a change
        ended = self._clock()
        self._ask_again_at = ended + ASK_COST * (ended - started)
        return changed

    def uses(self, links: Collection[str]) -> bool:
        """Return whether one of these devices is one that we send packets to: while it is gone, they are lost."""
        believed = self._believed
        if believed is None:
            return False
        ends = (end(shard) for shard in believed.pairs for end in (names.pair, names.peer))
        return any(name in links for name in (*map(names.ifb, believed.ifbs), *ends))

    def prepare(self, wanted: Wanted, *, read: bool) -> Prepared:
        """Prepare a pass without writing. The kernel is read with `read`, or if its state is not known.

        Raises OSError when the kernel cannot be read whole.
        """
        believed, facts_before = self._believed, self._facts
        node = self._node(believed, facts_before, read=read)
        protected = protected_addresses.prefixes(node.facts, self._settings)
        context = goal.reach(wanted.entries, node, protected, self._class_ids, self._memo, self._clock())
        drifted: frozenset[objects.Object] = frozenset()
        if believed is not None and node.observed is not believed:
            drifted = conflicts.found(believed, node.observed, context.goal) - _replaced_hooks(facts_before, node.facts)
        left_alone = self._repairs.settle(drifted, _cleared_hooks(drifted, node.facts), self._clock())
        desired = conflicts.without(context.goal, node.observed, left_alone)
        changes = diff.compute(desired, node.observed)
        if not wanted.complete:
            changes = [step for step in changes if not step.removes]
        self._facts = node.facts
        context = dataclasses.replace(context, abandoned=self._repairs.abandoned)
        return Prepared(wanted, node.facts, node.observed, desired, tuple(changes), context)

    def _node(self, believed: model.State | None, facts: model.Facts | None, *, read: bool) -> goal.Node:
        """The node as it is, read from the kernel or as the last pass left it, and how it is to shape."""
        if read or believed is None or facts is None:
            facts, believed = self._read()
        spared = self.spared()
        if spared != facts.spared:
            facts = dataclasses.replace(facts, spared=spared)
        bypassed = self._bypass.bypassed(facts.interfaces, self._clock())
        uplinks = [interface.name for interface in placement.egress(facts, self._settings.interfaces)]
        need = programs_needed.need(self._settings, facts, uplinks, believed, bypassed=bool(self.truth.problems))
        placements = placement.decide_all(self._settings, facts, bypassed, programs=need is not None)
        return goal.Node(facts, believed, placements, classifier.choose(self._settings, facts, placements, need))

    def _read(self) -> tuple[model.Facts, model.State]:
        started = self._clock()
        facts, state = self._kernel.facts(), self._kernel.observe()
        facts = self._uplinks.held(facts, started, {*state.hooks, *state.trees, *state.programs})
        facts = dataclasses.replace(facts, features=placement.proven(facts.features, state))
        self._watch(state.hooks)
        self.read_seconds = self._clock() - started
        return facts, state

    def _ways_of(
        self, entries: tuple[plan.PlanEntry, ...], facts: model.Facts, placed: Collection[str]
    ) -> tuple[dict[str, Problem], tuple[str, ...]]:
        """The limits whose clients are reached by none of the placed interfaces, and what else is known of the way."""
        unasked = self._ways.unasked(entries, facts, placed)
        answered = True
        if unasked:
            try:
                self._ways.learn(self._kernel.ways(unasked))
            except OSError:
                answered = False  # unknown is not reported as a problem
        found = self._ways.problems(entries)
        if not answered:
            self._ways.forget()
        return found

    def run(self, wanted: Wanted, *, read: bool) -> report.Report:
        """Make one pass and report the result for each limit. Raises OSError if the kernel cannot be read."""
        started = self._clock()
        prepared = self.prepare(wanted, read=read)
        self._believed = None  # until we know better: an exception from here on must lead to a read-back
        applied = apply.apply(self._kernel, prepared.changes, ownership.number, self._checkpoint)
        self._repairs.made(self._clock())
        if applied.clean and wanted.complete:
            self._believed = prepared.desired
        in_force = None
        if self._believed is not None:
            in_force = check.InForce(
                self._believed, prepared.facts.interfaces, prepared.facts.features, prepared.context
            )
        self.truth.recall(prepared.context, complete=wanted.complete)
        self.truth.passed(in_force, prepared.changes, self._clock() - started)
        return self._report(prepared, applied, self._clock() - started)

    def expected_report(self, prepared: Prepared) -> report.Report:
        """Return the report of a prepared pass that is not made."""
        return self._report(prepared, None, 0.0)

    def _watch(self, hooks: Collection[str]) -> frozenset[str]:
        """Check whether marked packets reach our hooks; return the interfaces where they do not."""
        reading = self._kernel.hook_counters(hooks) if hooks else model.HookReading(0, {})
        return self._bypass.note(reading, self._clock())

    def _report(self, prepared: Prepared, applied: objects.Applied | None, seconds: float) -> report.Report:
        wanted, context = prepared.wanted, prepared.context
        # Behind the changes: no limit waits for what is only reported.
        astray, partly = self._ways_of(wanted.entries, prepared.facts, context.placements)
        asleep = way_out.asleep(wanted.entries, prepared.facts.idle)
        bypassed = self.truth.problems
        problems = limit_status.problems(context, applied, asleep=asleep, astray=astray, bypassed=bypassed)
        failing = limit_status.failing(problems, wanted.problems, wanted.file_of)
        asked = {entry.limit for entry in wanted.entries} | {problem.name for problem in wanted.problems}
        broken = {item.name for item in failing}
        unseen = unseen_programs.left(prepared.facts, prepared.observed)
        warnings = [*wanted.warnings, *filter(None, (context.classifier.warning, self.truth.trouble, unseen)), *partly]
        return report.Report(
            changes=applied.changes if applied is not None else 0,
            desired=len(asked),
            programmed=len(asked - broken),
            failed=len(broken),
            failing=failing,
            classifier=context.classifier.kind,
            classifier_reason=context.classifier.message,
            interfaces=tuple(_interface(i, prepared.facts) for i in context.placements.items()),
            missing_features=prepared.facts.features.missing,
            conflicts=tuple(str(item) for item in sorted(context.abandoned)),
            warnings=tuple(warnings),
            duration_seconds=seconds,
            datapath_sign=self.truth.sign,
            ebpf_helps=self.truth.ebpf_helps,
            verified=self.truth.verified,
            bypassed=sum(item.reason is Reason.BYPASSED for item in failing),
        )


def _replaced_hooks(before: model.Facts | None, now: model.Facts) -> frozenset[objects.Object]:
    """Return what is ours on interfaces that are new devices: what is missing there, no other program has removed."""
    if before is None:
        return frozenset()
    other = [n for n, i in now.interfaces.items() if n in before.interfaces and before.interfaces[n].index != i.index]
    return frozenset(objects.Object(layer, name) for name in other for layer in ("hook", "program", "tree"))


def _cleared_hooks(drifted: frozenset[objects.Object], now: model.Facts) -> frozenset[objects.Object]:
    """Return those of the changed hooks whose clsact qdisc is gone, with nothing in its place yet.

    A program needs that qdisc too, where the kernel has no TCX.
    """
    layers = {"hook"} if now.features.tcx else {"hook", "program"}
    empty = {n for n, i in now.interfaces.items() if not i.clsact and not i.foreign_egress_filters}
    return frozenset(item for item in drifted if item.layer in layers and item.name in empty)


def _interface(placed: tuple[str, placement.Placement], facts: model.Facts) -> report.InterfaceReport:
    name, chosen = placed
    root = facts.interfaces[name].root
    text = f"{root.kind} {root.handle:x}:" if root.handle else root.kind
    return report.InterfaceReport(name, text, *chosen)
