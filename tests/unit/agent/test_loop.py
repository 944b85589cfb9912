"""When passes are made: the loop over a kernel in memory, woken by real descriptors and signals."""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from bandwidth_agent import loop, reconcile, report
from bandwidth_agent.kernel import objects
from bandwidth_agent.kernel.fake import fake_kernel
from bandwidth_agent.limits import Wanted
from bandwidth_agent.planner import conflicts
from bandwidth_agent.reporting import health
from bandwidth_agent.settings import Settings
from bandwidth_api import addresses, names
from bandwidth_api.conditions import Reason
from bandwidth_api.plan import PlanEntry
from bandwidth_runtime.clock import Clock
from unit.agent.entries import entry

A, B = entry("a", "203.0.113.7"), entry("b", "203.0.113.8")


class Script:
    """Limits that change when the test says so, and a descriptor that becomes readable then."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.entries: tuple[PlanEntry, ...] = (A,)
        self.until: float | None = None
        self.asked = 0
        self.looked_again = 0
        self.tick: Callable[[], None] = lambda: None  # called at each turn of the loop, between two passes

    def change(self, *entries: PlanEntry) -> None:
        self.entries = entries
        self.theirs.send(b"x")

    def fileno(self) -> int:
        return self.ours.fileno()

    def due(self) -> float | None:
        return None

    def drain(self) -> bool:
        self.tick()
        try:
            return bool(self.ours.recv(100))
        except BlockingIOError:
            return False

    def look_again(self) -> None:
        self.looked_again += 1

    def wanted(self, now: float) -> Wanted:
        self.asked += 1
        ended = self.until is not None and now >= self.until
        return Wanted(() if ended else self.entries, until=None if ended else self.until)


class Bell:
    """A kernel event socket that the test rings."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)

    def ring(self) -> None:
        self.theirs.send(b"x")

    def fileno(self) -> int:
        return self.ours.fileno()

    def drain(self) -> bool:
        try:
            return bool(self.ours.recv(100))
        except BlockingIOError:
            return False


TURNS = 2000  # more than any test needs
TURN_SECONDS = 0.01


class World:
    """A loop with all it needs. Time passes only while it waits, and a little with each turn.

    `play` runs it while steps are taken, each as soon as the one before has had effect.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.kernel = fake_kernel.FakeKernel()
        self.script, self.bell = Script(), Bell()
        self.vitals = health.Health(self.now)
        self.remarks: tuple[str, ...] = ()
        self.told: list[report.Report] = []
        self.longest_wait = float("inf")  # seconds; something else wakes the loop then
        self.clock_error = 0.0  # seconds that the wall clock is ahead
        self.loop = loop.Loop(
            self.script,
            reconcile.Reconciler(self.kernel, Settings(), clock=lambda: self.now),
            listening=(self.bell,),
            resync_seconds=60.0,
            vitals=self.vitals,
            observer=self,
            remarks=lambda: self.remarks,
            clock=Clock(lambda: self.now, self.wall),
            selector=lambda: Selector(self),
        )

    def wall(self) -> float:
        return 1_800_000_000.0 + self.now + self.clock_error

    def passed(self, _wanted: Wanted, made: report.Report, *, clean: bool) -> None:
        self.told.append(made)

    def unreadable(self, message: str) -> None:
        """Not of interest here."""

    def limited(self, client: str) -> bool:
        prefix = addresses.parse(client)
        return self.kernel.trace(4, prefix.network, "TCP", 443, "eth0") not in ("unshaped", "dropped")

    def play(self, *steps: tuple[Callable[[], object], Callable[[], bool]]) -> int:
        """Take each step and wait until its condition holds, then send SIGTERM; the loop's exit code."""
        waiting = iter(steps)
        condition: Callable[[], bool] = lambda: True  # noqa: E731
        turns = itertools.count()

        def tick() -> None:
            nonlocal condition
            self.now += TURN_SECONDS
            if next(turns) > TURNS:
                os.kill(os.getpid(), signal.SIGTERM)
            elif condition():
                step = next(waiting, None)
                if step is None:
                    done.append(True)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                step[0]()
                condition = step[1]

        done: list[bool] = []
        self.script.tick = tick
        code = self.loop.run()
        assert done, "a step never had its effect"
        return code


class Selector(selectors.DefaultSelector):
    """Finds what is ready, and instead of waiting for it lets the time pass."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is not None:
            self._world.now += min(timeout, self._world.longest_wait)
        return found


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    for one in (made.script.ours, made.script.theirs, made.bell.ours, made.bell.theirs):
        one.close()


def nothing() -> None:
    """A step that only waits."""


def test_limits_are_followed_until_a_signal_which_leaves_them(world: World) -> None:
    """The first pass comes by itself, a change of the limits makes the next, SIGTERM ends it and lifts nothing."""
    code = world.play(
        (nothing, lambda: world.limited("203.0.113.7")),
        (lambda: world.script.change(A, B), lambda: world.limited("203.0.113.8")),
        (lambda: world.script.change(B), lambda: not world.limited("203.0.113.7")),
    )
    assert code == 0
    assert world.limited("203.0.113.8")
    vitals = world.vitals.vitals()
    assert vitals.complete
    assert vitals.passes >= 3


def test_what_was_given_up_is_tried_again_without_any_event(world: World) -> None:
    """A limit whose set another program emptied at once each time is back two seconds after that program stopped."""
    emptied = 0

    def empty_again() -> bool:
        nonlocal emptied
        if world.limited("203.0.113.7"):
            if emptied > conflicts.UNDONE_BEFORE_ABANDONED:
                return True
            emptied += 1
            world.kernel.flush_set(names.set_name(4, ()))
            world.bell.ring()
        return False

    world.play((nothing, empty_again))
    assert emptied == conflicts.UNDONE_BEFORE_ABANDONED + 1


def test_an_event_makes_a_read_back(world: World) -> None:
    """What another program changed is repaired when the kernel reports it, long before the timer."""
    world.play(
        (nothing, lambda: world.limited("203.0.113.7")),
        (lambda: (world.kernel.delete_root("cbl0"), world.bell.ring()), lambda: world.limited("203.0.113.7")),
    )
    assert world.vitals.vitals().repairs == {"tree": 1}


def test_a_set_of_another_size_is_noticed_without_an_event(world: World) -> None:
    """Sets send no events: their sizes are looked at every second."""
    world.play(
        (nothing, lambda: world.limited("203.0.113.7")),
        (lambda: world.kernel.flush_set(names.set_name(4, ())), lambda: world.limited("203.0.113.7")),
    )


def test_expiry_makes_a_pass(world: World) -> None:
    """When a limit's time is over it is lifted without anything else happening."""

    def end_soon() -> None:
        world.script.until = world.wall() + 0.3
        world.script.change(A)

    world.play(
        (nothing, lambda: world.limited("203.0.113.7")),
        (end_soon, lambda: not world.limited("203.0.113.7")),
    )
    assert world.script.until is not None
    assert world.wall() >= world.script.until


def test_a_clock_that_is_set_right_brings_back_what_it_ended(world: World) -> None:
    """A limit that a wrong clock ended is in force again when the clock is, long before the next read-back."""

    def set_clock(ahead: float) -> Callable[[], None]:
        return lambda: setattr(world, "clock_error", ahead)

    world.script.until = world.wall() + 1800
    world.play(
        (nothing, lambda: world.limited("203.0.113.7")),
        (set_clock(3600.0), lambda: not world.limited("203.0.113.7")),
        (set_clock(0.0), lambda: world.limited("203.0.113.7")),
        (set_clock(18e9), lambda: not world.limited("203.0.113.7")),
        (set_clock(-315_360_000.0), lambda: world.limited("203.0.113.7")),
    )


def test_undone_work_is_tried_again(world: World) -> None:
    """A pass that the kernel refused in part is made again soon, and then later and later."""
    world.kernel.fail_type(objects.PutRoot, errno.EBUSY)
    world.play(
        (nothing, lambda: world.vitals.vitals().failed_passes >= 3),
        (world.kernel.heal, lambda: world.limited("203.0.113.7")),
    )


def test_an_unreadable_kernel_is_asked_again(world: World) -> None:
    """A kernel that cannot be read ends nothing; as soon as it can the limits are put in force."""
    world.kernel.read_error = errno.ENOBUFS
    world.play(
        (nothing, lambda: world.script.asked >= 2),
        (world.kernel.heal, lambda: world.limited("203.0.113.7")),
    )


def test_signals_that_do_not_stop_are_heeded(world: World) -> None:
    """SIGHUP reads everything again, SIGUSR1 and SIGUSR2 do nothing, and none of them ends the loop."""
    before = signal.getsignal(signal.SIGHUP)
    world.play(
        (nothing, lambda: world.limited("203.0.113.7")),
        (lambda: os.kill(os.getpid(), signal.SIGUSR1), lambda: True),
        (lambda: os.kill(os.getpid(), signal.SIGUSR2), lambda: True),
        (lambda: os.kill(os.getpid(), signal.SIGHUP), lambda: world.script.looked_again == 1),
        (nothing, lambda: world.vitals.vitals().passes >= 2),
    )
    assert signal.getsignal(signal.SIGHUP) == before


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_whatever_the_system_refuses_in_a_turn_is_tried_again(
    world: World, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error between two passes ends nothing, and nothing that was to be noticed is lost by it."""
    monkeypatch.setattr(loop, "TROUBLE_SECONDS", 0.0)  # the pause after it is in real time
    refused = []

    def refuse() -> None:
        def failing() -> bool:
            world.bell.drain = before  # type: ignore[method-assign]
            refused.append(1)
            raise OSError(number, os.strerror(number))

        before, world.bell.drain = world.bell.drain, failing  # type: ignore[method-assign]
        world.kernel.delete_root("cbl0")
        world.bell.ring()

    world.play(
        (nothing, lambda: world.limited("203.0.113.7")),
        (refuse, lambda: bool(refused) and world.limited("203.0.113.7")),
    )


def test_what_is_wrong_with_the_process_is_told_with_the_last_pass(world: World) -> None:
    """When it begins and when it ends, without a pass of its own."""
    world.play(
        (nothing, lambda: world.limited("203.0.113.7")),
        (lambda: setattr(world, "remarks", ("no port",)), lambda: world.told[-1].warnings == ("no port",)),
        (lambda: setattr(world, "remarks", ()), lambda: world.told[-1].warnings == ()),
    )
    assert world.vitals.vitals().passes == 1


def test_a_storm_of_events_is_answered_in_a_spacing(world: World) -> None:
    """Hundreds of events in a second make a handful of read-backs, not hundreds."""
    world.longest_wait = TURN_SECONDS
    rung = 0

    def ring() -> bool:
        nonlocal rung
        rung += 1
        world.bell.ring()
        return rung > 60

    world.play((nothing, lambda: world.limited("203.0.113.7")), (nothing, ring))
    assert world.vitals.vitals().passes < rung / 2


def test_a_limit_that_is_bypassed_is_reported_while_the_loop_goes_on(world: World) -> None:
    """No event tells of it, and no pass waits for a look: a change of the limits during one is in force at once."""
    client = addresses.parse("203.0.113.7")

    def flows() -> None:
        world.kernel.transmit(4, client.network, "TCP", 443, "eth0", packets=50, past_rules=True)

    def look_is_open() -> bool:
        flows()
        return bool(world.kernel.windows)

    def is_reported() -> bool:
        flows()
        return [(p.name, p.reason) for p in world.told[-1].failing] == [("a", Reason.BYPASSED)]

    world.longest_wait = 0.05
    world.play(
        (nothing, look_is_open),
        (lambda: world.script.change(A, B), lambda: world.limited("203.0.113.8")),
        (nothing, is_reported),
    )
    assert world.told[-1].bypassed == 1
    assert not world.kernel.windows  # the end closes what is open
