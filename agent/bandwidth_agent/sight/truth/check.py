"""Looks from time to time whether limits hold: opens captures, goes on, and reads them when they are due.

Owns the two captures that may be open: of what leaves, and of what comes out of our own devices. Decides nothing:
`schedule` says when, `judge` what it means. Never waits, and writes nothing to the kernel; killed, it leaves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import contract, model, objects, refusals, traffic
from bandwidth_agent.planner import limit_status
from bandwidth_agent.planner.classifier import class_ids
from bandwidth_agent.planner.placement import datapath_sign
from bandwidth_agent.sight.truth import (
    advice,
    expected_class,
    judge,
    look,
    outflow,
    parts,
    schedule,
    stored_findings,
)
from bandwidth_api.conditions import Problem
from bandwidth_api.plan import ClassKey

MOST_PACKETS = 4000  # of one look
_FEWEST_BEHIND = 1000  # packets that come out of our own devices: each of many devices has a ring, which costs time
_PACKET_SECONDS = 130e-9  # that a packet costs the kernel while a look is open
_FORBIDDEN = (errno.EPERM, errno.EACCES)


class InForce(NamedTuple):
    """What a pass left in the kernel."""

    state: model.State
    interfaces: Mapping[str, model.Interface]
    features: model.Features
    context: limit_status.PassContext


class _Open(NamedTuple):
    """A look that has begun."""

    capture: contract.Capture
    behind: contract.Capture | None  # of what comes out of our own devices; opened before the other
    in_force: InForce
    before: model.QueueReading
    stale_bytes: int
    earlier: outflow.Earlier
    waiting: Mapping[str, int]  # bytes before each uplink when `behind` was open and `capture` was not
    began: float
    cost_seconds: float


class Check:
    """Whether the limits of one node hold. Used by the thread of the kernel object that it reads with."""

    def __init__(
        self,
        kernel: contract.Kernel,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        busy: Callable[[], float] = time.thread_time,
        store: stored_findings.Store | None = None,
    ) -> None:
        """`jitter`: as in `schedule.Schedule`. `busy`: how long this thread has used a core, in seconds."""
        self._kernel = kernel
        self._clock = clock
        self._busy = busy
        self._schedule = schedule.Schedule(clock(), jitter)
        self._judge = judge.Judge()
        self._memory = stored_findings.Memory(store) if store is not None else None
        self._outflow = outflow.Outflow()
        self._in_force: InForce | None = None
        self._context: limit_status.PassContext | None = None  # of the last pass that left nothing undone
        self._open: _Open | None = None
        self._changed_at = clock()
        self._first: model.QueueReading | None = None  # the first reading since then
        self._expected: tuple[model.State, expected_class.Expected] | None = None
        self._owners: tuple[object, object, Mapping[int, ClassKey]] | None = None
        self._told: tuple[Mapping[ClassKey, Sequence[judge.Finding]], frozenset[str], str] = ({}, frozenset(), "")
        self.sign = ""  # what on this node shows that packets may skip netfilter
        self.ebpf_helps = False  # permission for programs of ours would end what this sign is about
        self.remedy = advice.NONE  # what would let the agent meet such packets
        self.trouble = ""  # why no look is possible

    @property
    def problems(self) -> Mapping[str, Problem]:
        """By limit, that it is bypassed."""
        found: dict[str, Problem] = {}
        for key, finding in sorted(self._judge.bypassed.items()):
            found.setdefault(key.limit, advice.problem(finding, self.sign, self.remedy))
        return found

    @property
    def unconfirmed(self) -> bool:
        """Whether a bypass was found that may come from our own objects not being there: a read-back tells."""
        return self._judge.unconfirmed

    @property
    def verified(self) -> frozenset[str]:
        """The limits that were seen to hold."""
        return self._told[1]

    @property
    def due(self) -> float | None:
        """When `turn` has something to do (monotonic seconds); None: not before the next pass."""
        if self._open is not None:
            return self._open.began + schedule.OPEN_SECONDS
        if self._in_force is None or not self._uplinks(self._in_force):
            return None
        return self._schedule.due(self._clock())

    def recall(self, context: limit_status.PassContext, *, complete: bool) -> None:
        """Take the limits that a pass is about, be it clean or not. `complete`: there are no others."""
        if self._memory is not None:
            for key, finding in self._memory.recall(context, complete=complete):
                self._judge.recall(key, finding)

    def passed(self, in_force: InForce | None, changes: Collection[objects.Change], seconds: float) -> None:
        """Take what a pass has left in the kernel, and what it took; None where it left something undone."""
        now = self._clock()
        self._in_force = in_force if in_force is not None and in_force.state.sets else None
        if in_force is not None:
            uplinks = self._uplinks(in_force)
            first = bool(uplinks) and all(name in in_force.state.programs for name in uplinks)
            self.sign = datapath_sign.found(in_force.interfaces, uplinks, programs_first=first)
            of_ebpf = bool(datapath_sign.of_ebpf(in_force.interfaces, uplinks))
            self.ebpf_helps = of_ebpf and not first and "ebpf" in in_force.features.denied
            self._judge.shaped(uplinks)
            self._context = in_force.context
            just_put = any(isinstance(change, objects.PutProgram) for change in changes)
            self.remedy = advice.PUT if just_put else advice.remedy(in_force.features, in_force.state)
        self._judge.confirm(now, sound=in_force is not None and not changes and not _missing(in_force))
        anew = frozenset(number for change in changes for number in _made_anew(change))
        self._judge.forget(anew)
        if changes:
            self._schedule.changed(now, seconds)
        if anew or not all(isinstance(change, objects.PutClasses) for change in changes):
            self._changed_at, self._first = now, None
            self._outflow.forget()
        if self._in_force is None and in_force is not None:
            self._judge.owned({})
        self._news()

    def turn(self) -> bool:
        """Do what is due; return whether anything is known now that was not known before."""
        due = self.due
        if due is None or self._clock() < due:
            return False
        busy = self._busy()
        try:
            if self._open is not None:
                self._end(self._open, busy)
            elif self._in_force is not None:
                self._begin(self._in_force, busy)
        except OSError as error:
            self.close()
            self._schedule.failed(self._clock(), self._busy() - busy)
            return self._in_trouble(error)
        return self._news()

    def close(self) -> None:
        """Close what is open."""
        if self._open is not None:
            self._open.capture.close()
            if self._open.behind is not None:
                self._open.behind.close()
            self._open = None

    def _begin(self, in_force: InForce, busy: float) -> None:
        elapsed = self._clock() - self._changed_at
        self._judge.owned(self._owned(in_force.context))
        uplinks = self._uplinks(in_force)
        trees = in_force.state.trees
        before = self._kernel.queues(trees, uplinks)
        self._judge.count(before)
        earlier = self._outflow.read(before)
        if self._first is None:
            self._first = before
        stale = look.stale_bytes(before, self._first, elapsed, trees) + earlier.waiting_bytes
        with contextlib.ExitStack() as undo:
            behind, waiting = None, {}
            if devices := trees.keys() - uplinks:
                behind = self._kernel.capture(
                    sorted(devices), max(_FEWEST_BEHIND, 2 * MOST_PACKETS // (1 + len(devices)))
                )
                undo.callback(behind.close)
                now = self._kernel.queues((), [name for name in uplinks if name not in trees])
                waiting = {name: uplink.backlog_bytes for name, uplink in now.uplinks.items()}
            capture = self._kernel.capture(uplinks, MOST_PACKETS)
            undo.pop_all()
        began = self._clock()
        self._open = _Open(capture, behind, in_force, before, stale, earlier, waiting, began, self._busy() - busy)

    def _end(self, opened: _Open, busy: float) -> None:
        ended = self._clock()
        seen = opened.capture.take()
        lost = opened.capture.lost
        came_out = opened.behind.take() if opened.behind is not None else ()
        missed = opened.behind is None or opened.behind.lost > 0
        self.close()
        after = self._kernel.queues(opened.in_force.state.trees, ())
        number_of = self._number_of(opened.in_force)
        flows, share = look.flows(seen, number_of), look.share(len(seen), lost)
        readings, stale = (opened.before, after), opened.stale_bytes
        passages = look.of_flows(flows, share, *readings, stale, opened.earlier.of)
        out = None if missed else parts.came_out(came_out, number_of)
        uplinks = self._uplinks(opened.in_force)
        of_parts = parts.passages(flows, share, out, *readings, uplinks, opened.waiting, stale)
        if self._in_force is not None:
            self._judge.owned(self._owned(self._in_force.context))
        self._judge.note(passages, opened.began, ended, of_parts)
        self._judge.count(after)
        packets = len(seen) + lost + len(came_out)
        cost = opened.cost_seconds + self._busy() - busy + packets * _PACKET_SECONDS
        self._schedule.looked(ended, cost, unverified=self._judge.unverified, sign=bool(self.sign))
        if self._judge.in_doubt:
            self._schedule.doubted(ended)
        self.trouble = ""

    def _number_of(self, then: InForce) -> Callable[[traffic.Packet], int | None]:
        """Return the class number of a packet if it is the same before and after a pass that was made meanwhile.

        Where our way is known to be missing, which is told otherwise and repaired, packets prove nothing.
        """
        now = self._in_force
        if now is None:
            return lambda packet: None  # a pass left something undone, so what is in the kernel is not known
        before, after = self._look_up(then.state), None if now.state is then.state else self._look_up(now.state)
        missing = _missing(then) | _missing(now)
        if after is None and not missing:
            return before.number

        def number(packet: traffic.Packet) -> int | None:
            if packet.interface in missing:
                return None
            found = before.number(packet)
            return found if after is None or after.number(packet) == found else None

        return number

    def _look_up(self, state: model.State) -> expected_class.Expected:
        if self._expected is None or self._expected[0] is not state:
            self._expected = state, expected_class.Expected(state)
        return self._expected[1]

    def _owned(self, context: limit_status.PassContext) -> Mapping[int, ClassKey]:
        """Return by class number the class of the plan; the same object while nothing changes."""
        classes, numbers = context.classes, context.numbers
        if self._owners is None or self._owners[0] is not classes or self._owners[1] is not numbers:
            slots = ((numbers.get(class_ids.slot(key, entry)), key) for key, entry in classes.items())
            self._owners = classes, numbers, {number: key for number, key in slots if number is not None}
        return self._owners[2]

    def _uplinks(self, in_force: InForce) -> list[str]:
        """Return the interfaces on which limits are enforced."""
        placements = in_force.context.placements
        return sorted(n for n, place in placements.items() if place.kind != "none" and n in in_force.interfaces)

    def _news(self) -> bool:
        """Return whether the findings differ from those of the last call."""
        told = self._judge.findings, self._judge.verified, self.trouble
        if self._memory is not None and self._context is not None:
            self._memory.keep(told[0], self._context, self._clock())
        news = told != self._told
        if news:
            self._told = told
        return news

    def _in_trouble(self, error: OSError) -> bool:
        if error.errno in _FORBIDDEN:
            self.trouble = (
                "whether limits hold cannot be checked: this process may open no packet socket; give it CAP_NET_RAW"
            )
        else:
            self.trouble = f"whether limits hold cannot be checked now: {refusals.words(error)}"
        return self._news()


def _missing(in_force: InForce) -> frozenset[str]:
    """Return the interfaces where limits should be enforced, and the way to the classes is known not to be there."""
    ways = {"ifb": in_force.state.hooks, "pair": in_force.state.programs, "interface": in_force.state.trees}
    placed = in_force.context.placements.items()
    return frozenset(name for name, place in placed if name not in ways.get(place.kind, (name,)))


def _made_anew(change: objects.Change) -> Collection[int]:
    """Return the numbers of the classes that a change makes or removes."""
    match change:
        case objects.PutClasses(classes=wanted, observed=observed):
            return [n for n, shape in wanted.items() if n not in observed or observed[n].parent != shape.parent]
        case objects.DeleteClasses(minors=minors):
            return minors
    return ()
