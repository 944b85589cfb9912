"""Reports to policies from one node: looks while one asks, and writes what could matter to it.

    head of the plan ──▶ head_read ──▶ thread: lease of the sight ──▶ sums, counters of classes ──▶ NodeClientTraffic
                                         (only while it is asked)

What could not be written is in the next report, for a minute at most: of an older time nothing is said, and that
counts as nothing. Limits have nothing to do with any of it. The operator deletes the object when no policy looks any
more; while one does, answers to questions, which are in the same object, are taken away here when they have ended.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from bandwidth_agent.reporting import watch_report
from bandwidth_agent.reporting.state_object import StateObject
from bandwidth_agent.reporting.watch_report import NOTHING_SAID
from bandwidth_agent.sight import leases
from bandwidth_agent.sight.watch.classes import Classes, Moved
from bandwidth_agent.sight.watch.groups import Groups
from bandwidth_agent.sight.watch.look import Lease, Look
from bandwidth_agent.sight.watch.sums import Taken
from bandwidth_api import addresses, kinds
from bandwidth_api.compiler.protected_addresses import Index
from bandwidth_api.crds import client_traffic
from bandwidth_api.crds.watched import NO_TIME, Span, Watched
from bandwidth_api.crds.watching import Watch, Watching
from bandwidth_api.plan import Prefix
from bandwidth_kube import client
from bandwidth_runtime.clock import SYSTEM, Clock

ANSWERS_SECONDS = 5.0  # after the last question, when no more answers come
UNWRITTEN_SECONDS = 60.0  # of a report that could not be written; what is older is dropped
FORBIDDEN_SECONDS = 600.0  # where the roles of an older chart do not let it report
RETRY_AFTER_MAX_SECONDS = 60.0  # whatever the server asks for
LATE_SECONDS = 0.5  # a turn that comes so little before its time does what is due then

log = structlog.get_logger("cluster")


class WatchReporter:
    """One node's reports. `head_read` and `labels_are` may be called by any thread; one thread only while asked."""

    def __init__(
        self,
        api: client.Client,
        node: str,
        lease: Lease,
        classes: Classes,
        *,
        capacity: Callable[[], int | None] = lambda: None,
        no_clients: Callable[[], Collection[Prefix]] = tuple,
        untouchable: Callable[[], Iterable[Index]] = tuple,
        clock: Clock = SYSTEM,
        spread: Callable[[float, float], float] = random.uniform,
        start: Callable[[Callable[[], None]], object] | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """`lease` as `sight.Sight.lease`.

        `capacity`: of all uplinks together, bits per second; `no_clients`: hosts that are none, as other nodes;
        `untouchable`: what no policy may limit.

        These, and `classes`, are used by the thread alone. `start` runs a function in a thread; `wait` pauses for so
        many seconds or until something happens.
        """
        self._object = StateObject(api, node, kinds.TRAFFIC_PATH, client_traffic.KIND)
        self._lease, self._classes = lease, classes
        self._capacity, self._no_clients, self._untouchable = capacity, no_clients, untouchable
        self._clock, self._spread = clock, spread
        self._start = start if start is not None else _in_a_thread
        self._condition = threading.Condition()
        self._wait = wait if wait is not None else self._condition.wait
        self._asked: Watching | None = None
        self._labels: Mapping[str, str] | None = None
        self._running = self._stopping = False
        self._answers_until: float | None = self._clock.monotonic()  # then answers are taken away; None: they are
        self._number = 0  # the thread's own

    def head_read(self, asked: Watching | None, *, questions: bool = False) -> None:
        """Take what the head of the plan asks; None: nothing. `questions`: whether it asks for answers, too."""
        if questions:
            self._answers_until = float("inf")
        elif self._answers_until == float("inf"):
            self._answers_until = self._clock.monotonic() + ANSWERS_SECONDS
        self._change(asked, self._labels)

    def labels_are(self, labels: Mapping[str, str]) -> None:
        """Take the labels of this node, by which policies select it."""
        self._change(self._asked, labels)

    def stop(self) -> None:
        """End what is under way, without waiting for it."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def _change(self, asked: Watching | None, labels: Mapping[str, str] | None) -> None:
        with self._condition:
            self._asked, self._labels = asked, labels
            start = not self._running and self._wanted() is not None
            self._running = self._running or start
            self._condition.notify_all()
        if start:
            try:
                self._start(self._run)
            except RuntimeError as error:  # the system refuses a thread
                with self._condition:
                    self._running = False
                log.warning("nothing is reported to policies", error=str(error))

    def _wanted(self) -> tuple[Watching, Watch] | None:
        """What is asked of this node now; None: nothing."""
        if self._stopping or self._asked is None or self._labels is None:
            return None
        watch = watch_report.watch_of(self._asked, self._labels)
        return None if watch is None else (self._asked, watch)

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        look = Look(self._lease, self._clock.monotonic)
        try:
            self._follow(look)
        except Exception:
            log.exception("nothing is reported to policies until they change")
            with self._condition:
                self._running = False
        finally:
            look.close()

    def _follow(self, look: Look) -> None:
        """Look and report until nobody asks any more."""
        told = _Told()
        self._number = max(self._number, int(self._clock.wall()))
        next_at: float | None = None
        paused_until = float("-inf")
        while True:
            with self._condition:
                now, wanted = self._clock.monotonic(), self._wanted()
                if wanted is None:
                    self._running = False
                    return
                asked, watch = wanted
                interval = float(asked.interval_seconds)
                groups = told.groups(watch, asked.limited)
                look.hold(groups, ports=watch.ports)
                if next_at is None:  # nodes that hear of it together report one after the other
                    next_at = now + interval + self._spread(0.0, interval)
                next_at = max(min(next_at, now + 2 * interval), paused_until)
                if now < next_at:
                    self._wait(min(next_at - now, leases.MOST_SECONDS / 2))
                    continue
            pause = self._tell(look, told, asked, watch, groups.named)
            now = self._clock.monotonic()
            next_at, paused_until = now + max(pause, interval), now + pause

    def _tell(self, look: Look, told: _Told, asked: Watching, watch: Watch, limited: frozenset[Prefix]) -> float:
        """Write a report if it is worth it; return for how many seconds no other one should follow."""
        now, trouble = self._clock.monotonic(), look.trouble
        told.adds(look.take(), self._classes.read(limited), limited)
        since = now - told.written_at + LATE_SECONDS
        quiet = since < asked.silence_seconds and trouble == told.trouble
        if trouble:
            told.drop()
            return 0.0 if quiet else self._write(told, Watched(self._number, trouble=trouble), now)
        taken = told.taken
        if taken.seconds <= 0:
            return 0.0
        capacity = self._capacity()
        floor = watch_report.floor(watch, capacity)
        rows = watch_report.rows(taken, watch, floor, told.served, told.moved, self._no_clients(), self._untouchable)
        if quiet and not rows and not told.said.rates:
            told.passes()
            return 0.0
        said = watch_report.said(rows, taken.seconds)
        calm = rows and watch_report.is_calm(said, told.said, floor)
        if quiet and calm and since < watch_report.CALM_INTERVALS * asked.interval_seconds:
            return 0.0
        span = Span(taken.seconds, taken.sent_bytes)
        told.tells = said
        return self._write(told, Watched(self._number, span, told.before, capacity, rows.limited, rows.candidates), now)

    def _write(self, told: _Told, report: Watched, now: float) -> float:
        pause, until = 0.0, self._answers_until
        alone = until is not None and now >= until
        try:
            self._object.write(client_traffic.write_watched(report, alone=alone))
            self._number += 1
            if alone and self._answers_until == until:
                self._answers_until = None
            told.was_written(now, report.trouble)
            return 0.0
        except client.RefusedError as error:
            if error.status == 403:
                log.warning("this node may not report to policies", error=str(error))
                told.drop()
                return FORBIDDEN_SECONDS
            if error.status != 404:  # deleted after the last question: the next attempt makes it again
                pause = min(error.retry_after_seconds or 1.0, RETRY_AFTER_MAX_SECONDS)
        except client.UnreachableError as error:
            log.debug("a report to policies could not be written", error=str(error))
        if report.span.seconds > UNWRITTEN_SECONDS:
            told.drop()
        return pause


class _Told:
    """What was said, and what came since. The thread's own."""

    def __init__(self) -> None:
        self.written_at = float("-inf")
        self.trouble = ""
        self.said = self.tells = NOTHING_SAID
        self.before = NO_TIME  # since the last report, and there was nobody to name
        self.taken = Taken()  # since then
        self.moved: dict[Prefix, Moved] = {}
        self.served: frozenset[Prefix] = frozenset()  # the limited clients that this node has sent anything
        self._asked: tuple[int, int, tuple[str, ...]] | None = None
        self._groups = Groups(0, 0)

    def groups(self, watch: Watch, limited: tuple[str, ...]) -> Groups:
        """Return the groups to look for, the same as long as the same is asked."""
        asked = watch.ipv4, watch.ipv6, limited
        if asked != self._asked:
            if self._asked is None or asked[:2] != self._asked[:2]:
                self.drop()
            self._asked = asked
            self._groups = Groups(watch.ipv4, watch.ipv6, [c for text in limited if (c := _parsed(text)) is not None])
        return self._groups

    def adds(self, taken: Taken, moved: Mapping[Prefix, Moved], limited: frozenset[Prefix]) -> None:
        self.taken = self.taken.plus(taken)
        for each, more in moved.items():
            self.moved[each] = self.moved[each].plus(more) if each in self.moved else more
        served = {each for each, of in self.moved.items() if of.ever}
        self.served = limited & {*self.served, *self.taken.clients, *served}

    def passes(self) -> None:
        """Nothing is said of this time but what the uplinks sent."""
        seconds, sent = self.before
        self.before = Span(seconds + self.taken.seconds, (sent or 0.0) + self.taken.sent_bytes)
        self.taken, self.moved = Taken(), {}

    def was_written(self, now: float, trouble: str) -> None:
        self.said = NOTHING_SAID if trouble else self.tells
        self.drop()
        self.written_at, self.trouble = now, trouble

    def drop(self) -> None:
        """Say nothing of the time until now."""
        self.before, self.taken, self.moved = NO_TIME, Taken(), {}


def _parsed(text: str) -> Prefix | None:
    try:
        return addresses.network(text)
    except ValueError:
        return None


def _in_a_thread(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name="watch", daemon=True).start()
