"""The life of the sampler: opened with the first lease, shared, and closed with the last, whatever goes wrong."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection

import pytest

from bandwidth_agent.kernel import contract
from bandwidth_agent.kernel.fake import fake_kernel, window
from bandwidth_agent.sight import leases, sight
from unit.clock import Clock

CLIENT = 0xC0000209
ADDRESS = CLIENT.to_bytes(4, "big")


class World:
    """A kernel in memory, a sight of its uplinks, and a thread whose turns the test makes."""

    def __init__(self) -> None:
        self.kernel = fake_kernel.FakeKernel()
        self.interfaces: Collection[str] = ["eth0"]
        self.clock = Clock()
        self.started: list[Callable[[], None]] = []
        self.sight = sight.Sight(
            self.kernel.sampler,
            lambda: self.interfaces,
            clock=self.clock,
            start=self.started.append,
            spread=lambda least, most: most,
        )
        self.seen: list[contract.Stretches] = []

    def send(self, packets: int = 1, interface: str = "eth0") -> None:
        self.kernel.transmit(4, CLIENT, "TCP", 443, interface, packets=packets)

    def turns(self, seconds: float) -> float | None:
        """Let time pass, a turn each tenth of a second; what the last turn said."""
        for _ in range(round(seconds * 10)):
            self.clock.now += 0.1
            self.kernel.at = self.clock.now
            wait = self.sight.turn()
        return wait

    @property
    def open(self) -> int:
        return len(self.kernel.windows)


@pytest.fixture
def world() -> World:
    return World()


def test_nobody_looks(world: World) -> None:
    """Then nothing is open, and no thread is there."""
    assert (world.open, world.started) == (0, [])


def test_what_is_sampled_comes_once_a_second(world: World) -> None:
    """Whole stretches, one after the other without a gap, and in between the ring is only drained."""
    grant = world.sight.lease(10, world.seen.append)
    sampler = world.kernel.windows[0]
    assert isinstance(sampler, window.Sampler)
    for _ in range(3):
        world.send(7)
        assert world.turns(1.0) is not None
    assert [seen["eth0"].clients[ADDRESS].samples for seen in world.seen] == [7, 7, 7]
    assert [seen["eth0"].ended for seen in world.seen[:-1]] == [seen["eth0"].began for seen in world.seen[1:]]
    assert sampler.drained == 30
    assert grant.holds


def test_a_lease_ends_by_itself(world: World) -> None:
    """Whoever asked may be dead: at its end the sampler is closed and the thread ends."""
    grant = world.sight.lease(2.0, world.seen.append)
    assert world.turns(1.9) is not None
    assert world.open == 1
    assert world.turns(0.2) is None
    assert (world.open, grant.holds, grant.failure) == (0, False, None)
    assert grant.renew(5) is False
    assert world.open == 0


def test_a_lease_that_is_renewed_goes_on(world: World) -> None:
    """For as long as it is renewed, and a shorter one cuts it."""
    grant = world.sight.lease(1.0, world.seen.append)
    for _ in range(5):
        world.turns(0.9)
        assert grant.renew(1.0)
    assert world.open == 1
    assert grant.renew(0.1)
    assert world.turns(0.2) is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, 60.1, float("nan"), float("inf")])
def test_no_lease_is_longer_than_a_minute(world: World, seconds: float) -> None:
    """Neither at its beginning nor when it is renewed, and nothing is opened for it."""
    with pytest.raises(ValueError, match="renew"):
        world.sight.lease(seconds, world.seen.append)
    assert (world.open, world.started) == (0, [])
    grant = world.sight.lease(leases.MOST_SECONDS, world.seen.append)
    with pytest.raises(ValueError, match="renew"):
        grant.renew(seconds)


def test_all_who_ask_share_one_sampler(world: World) -> None:
    """Each has all stretches of its time, one thread is there, and the last who goes closes it."""
    other: list[contract.Stretches] = []
    first = world.sight.lease(60, world.seen.append)
    world.turns(1.0)
    second = world.sight.lease(60, other.append)
    assert (world.open, len(world.started)) == (1, 1)
    world.send()
    world.turns(1.0)
    assert (len(world.seen), len(other)) == (2, 1)
    assert other[0] == world.seen[1]
    first.close()
    first.close()
    assert (world.open, second.holds) == (1, True)
    world.turns(1.0)
    assert (len(world.seen), len(other)) == (2, 2)
    second.close()
    assert world.open == 0
    assert world.sight.turn() is None


def test_who_asks_again_gets_a_sampler_again(world: World) -> None:
    """Also before the thread has seen that nobody looked, which then goes on."""
    world.sight.lease(5, world.seen.append).close()
    assert world.open == 0
    world.sight.lease(5, world.seen.append)
    assert (world.open, len(world.started)) == (1, 1)
    assert world.turns(6) is None
    world.sight.lease(5, world.seen.append)
    assert (world.open, len(world.started)) == (1, 2)


def test_who_may_not_look_is_told(world: World) -> None:
    """An error of the opening is the asker's, and leaves no lease and no thread."""
    world.kernel.window_error = errno.EPERM
    with pytest.raises(PermissionError):
        world.sight.lease(5, world.seen.append)
    assert (world.open, world.started) == (0, [])
    world.kernel.window_error = None
    world.sight.lease(5, world.seen.append)
    assert world.open == 1


def test_without_a_thread_nothing_stays_open(world: World) -> None:
    """Where no thread can be had the asker is told, and the sampler is closed."""

    def refuse(run: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    poor = sight.Sight(world.kernel.sampler, lambda: ["eth0"], clock=world.clock, start=refuse)
    with pytest.raises(RuntimeError):
        poor.lease(5, world.seen.append)
    assert world.open == 0


def test_an_asker_that_fails_ends_its_own_lease_alone(world: World) -> None:
    """And learns of it from its grant; the others go on."""

    def fail(seen: contract.Stretches) -> None:
        raise LookupError("a bug of the asker")

    broken, whole = world.sight.lease(60, fail), world.sight.lease(60, world.seen.append)
    world.turns(2.0)
    assert isinstance(broken.failure, LookupError)
    assert (broken.holds, broken.renew(5)) == (False, False)
    assert (whole.holds, len(world.seen), world.open) == (True, 2, 1)


def test_an_asker_may_close_and_ask_while_it_is_called(world: World) -> None:
    """What it is told may be the last that it wanted."""
    grants: list[sight.Grant] = []

    def once(seen: contract.Stretches) -> None:
        grants[0].close()
        grants.append(world.sight.lease(2.5, world.seen.append))

    grants.append(world.sight.lease(60, once))
    world.turns(3.0)
    assert (len(grants), len(world.seen)) == (2, 2)
    assert world.turns(1.0) is None


def test_a_sampler_that_fails_ends_all_leases(world: World) -> None:
    """It is closed, each asker learns why, and who asks again gets a new one."""
    grants = [world.sight.lease(60, world.seen.append) for _ in range(2)]
    (sampler,) = world.kernel.windows
    assert isinstance(sampler, window.Sampler)
    sampler.error = errno.ENOBUFS
    assert world.turns(0.1) is not None
    assert world.open == 0
    assert [getattr(grant.failure, "errno", None) for grant in grants] == [errno.ENOBUFS] * 2
    world.sight.lease(60, world.seen.append)
    world.turns(1.0)
    assert (world.open, len(world.seen)) == (1, 1)


def test_interfaces_that_are_shaped_later_are_looked_at(world: World) -> None:
    """What is looked at follows what the agent shapes, within a second."""
    world.kernel.add_interface(fake_kernel.interface("eth1", index=3))
    world.sight.lease(60, world.seen.append)
    world.interfaces = ["eth1", "eth0"]
    world.turns(1.0)
    world.send(3, "eth1")
    world.turns(1.0)
    assert [sorted(seen) for seen in world.seen] == [["eth0"], ["eth0", "eth1"]]
    assert world.seen[1]["eth1"].clients[ADDRESS].samples == 3
    world.interfaces = []
    world.turns(2.0)
    assert [sorted(seen) for seen in world.seen[2:]] == [["eth0", "eth1"], []]
    assert world.open == 1


def test_a_bug_ends_everything() -> None:
    """An error that nobody foresaw is raised by the thread, with the sampler closed and the leases ended."""
    kernel, clock, started = fake_kernel.FakeKernel(), Clock(), list[Callable[[], None]]()
    interfaces = iter([["eth0"]])
    looking = sight.Sight(kernel.sampler, lambda: next(interfaces), clock=clock, start=started.append)
    grant = looking.lease(60, lambda seen: None)
    clock.now += 1.0
    with pytest.raises(StopIteration):
        started[0]()
    assert (kernel.windows, grant.holds) == ([], False)
    assert isinstance(grant.failure, StopIteration)


def test_the_end_of_the_agent_ends_it(world: World) -> None:
    """Closed by hand, all leases end at once."""
    grant = world.sight.lease(60, world.seen.append)
    world.sight.close()
    assert (world.open, grant.holds) == (0, False)
    assert world.sight.turn() is None


def looked(world: World, seconds: float, packets: int) -> float:
    """Which part of so many seconds is in stretches, while so many packets pass in each tenth of a second."""
    world.seen.clear()
    for _ in range(round(seconds * 10)):
        world.send(packets)
        world.turns(0.1)
    return sum(seen["eth0"].ended - seen["eth0"].began for seen in world.seen) / seconds


def test_who_spares_others_looks_only_a_part_of_the_time_where_many_packets_pass(world: World) -> None:
    """A third then; all of the time while few pass, and again when there are few."""
    world.turns(0.1)
    world.sight.lease(60, world.seen.append, sparing=True)
    assert looked(world, 6.0, 100) == pytest.approx(1.0)
    looked(world, 2.0, 10_000)
    assert looked(world, 12.0, 10_000) == pytest.approx(0.4 / 1.2, rel=0.1)
    looked(world, 3.0, 100)
    assert looked(world, 6.0, 100) == pytest.approx(1.0)


def test_who_wants_all_gets_all_though_another_spares(world: World) -> None:
    """From the moment at which it asks, and until it ends."""
    world.sight.lease(60, lambda seen: None, sparing=True)
    looked(world, 3.0, 10_000)
    grant = world.sight.lease(60, world.seen.append)
    looked(world, 1.0, 10_000)
    assert looked(world, 5.0, 10_000) == pytest.approx(1.0)
    grant.close()
    assert world.open == 1


def test_a_pause_ends_with_the_lease(world: World) -> None:
    """Nothing stays open for who is gone."""
    grant = world.sight.lease(60, world.seen.append, sparing=True)
    looked(world, 3.3, 10_000)
    grant.close()
    assert world.open == 0
    assert world.turns(0.1) is None
