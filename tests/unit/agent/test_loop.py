"""When passes are made: the loop over a kernel in memory, woken by real descriptors and signals."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from bandwidth_agent import health, loop, reconcile
from bandwidth_agent.kernel import change, fake
from bandwidth_agent.settings import Settings
from bandwidth_agent.source import Wanted
from bandwidth_api import addresses, names
from bandwidth_api.plan import Mode, PlanEntry, Sharing


def entry(limit: str, client: str) -> PlanEntry:
    prefix = addresses.parse(client)
    return PlanEntry(limit, "", 1, (prefix,), (), (), 5_000_000, None, Mode.ENFORCE, Sharing.SHARED, 0, 0.0, None, ())


A, B = entry("a", "203.0.113.7"), entry("b", "203.0.113.8")


class Script:
    """Limits that change when the test says so, and a descriptor that tells it."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.entries: tuple[PlanEntry, ...] = (A,)
        self.until: float | None = None
        self.asked = 0
        self.tick: Callable[[], None] = lambda: None  # called at each turn of the loop, between two passes

    def change(self, *entries: PlanEntry) -> None:
        self.entries = entries
        self.theirs.send(b"x")

    def fileno(self) -> int:
        return self.ours.fileno()

    def drain(self) -> bool:
        self.tick()
        try:
            return bool(self.ours.recv(100))
        except BlockingIOError:
            return False

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


class World:
    """A loop with all it needs. `play` runs it while steps are taken, each as soon as the one before has had effect."""

    def __init__(self) -> None:
        self.kernel = fake.FakeKernel()
        self.script, self.bell = Script(), Bell()
        self.vitals = health.Health(time.monotonic())
        self.loop = loop.Loop(
            self.script,
            reconcile.Reconciler(self.kernel, Settings()),
            listening=(self.bell,),
            resync_seconds=60.0,
            vitals=self.vitals,
        )

    def limited(self, client: str) -> bool:
        prefix = addresses.parse(client)
        return self.kernel.trace(4, prefix.network, "TCP", 443, "eth0") not in ("unshaped", "dropped")

    def play(self, *steps: tuple[Callable[[], object], Callable[[], bool]]) -> int:
        """Take each step and wait until its condition holds, then send SIGTERM; the loop's exit code."""
        waiting = iter(steps)
        condition: Callable[[], bool] = lambda: True  # noqa: E731
        deadline = time.monotonic() + 20

        def tick() -> None:
            nonlocal condition
            if time.monotonic() > deadline:
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
        before = signal.signal(signal.SIGALRM, lambda *_: None)  # only wakes the loop
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            code = self.loop.run()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert done, "a step never had its effect"
        return code


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


def test_an_event_makes_a_read_back(world: World) -> None:
    """What somebody changed is repaired when the kernel tells of it, long before the timer."""
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
        world.script.until = time.time() + 0.3
        world.script.change(A)

    world.play(
        (nothing, lambda: world.limited("203.0.113.7")),
        (end_soon, lambda: not world.limited("203.0.113.7")),
    )
    assert world.script.until is not None
    assert time.time() >= world.script.until


def test_undone_work_is_tried_again(world: World) -> None:
    """A pass that the kernel refused in part is made again soon, and then later and later."""
    world.kernel.fail_type(change.PutRoot, errno.EBUSY)
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


def test_a_storm_of_events_is_answered_in_a_spacing(world: World) -> None:
    """Hundreds of events in a second make a handful of read-backs, not hundreds."""
    rung = 0

    def ring() -> bool:
        nonlocal rung
        rung += 1
        world.bell.ring()
        return rung > 60

    world.play((nothing, lambda: world.limited("203.0.113.7")), (nothing, ring))
    assert world.vitals.vitals().passes < rung / 2
