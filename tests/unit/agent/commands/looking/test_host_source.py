"""The source of one host: samples of a fake kernel in, snapshots out, and nothing open when nobody looks."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from bandwidth_agent.commands.looking import directory_actions, host_source, limit_reader
from bandwidth_agent.kernel import model
from bandwidth_agent.kernel.fake import fake_kernel, window
from bandwidth_agent.kernel.traffic import Packet
from bandwidth_agent.sight import limits_in_force, sight
from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_sight.source import SourceError
from unit.agent.entries import entry
from unit.clock import Clock

CLIENT, GROUP, OWN, OTHER = (
    addresses.network(text).network for text in ("203.0.113.7", "224.0.0.5", "192.0.2.1", "192.0.2.9")
)


class Refusing:
    """A kernel whose sets may not be read."""

    def __call__(self) -> model.State:
        raise PermissionError(errno.EPERM, "no")


class Bench:
    """A source whose sampler's thread is turned by hand."""

    def __init__(self, clock: Clock) -> None:
        self.kernel, self.clock = fake_kernel.FakeKernel(), clock
        self.kernel.at = clock.now
        self.turns: list[Callable[[], None]] = []
        self.speed: int | None = 10**9
        self.sight = sight.Sight(self.kernel.sampler, lambda: ["eth0"], clock=clock, start=self.turns.append)
        self.limits = limit_reader.LimitReader(
            limit_reader.Kernel(Refusing(), dict),
            lambda: limits_in_force.of_entries([entry("web", "203.0.113.0/24")]),
            clock,
        )
        self.source = host_source.HostSource(
            self.sight,
            lambda: ["eth0"],
            self.limits,
            directory_actions.ShownOnly(None, in_cluster=True),  # type: ignore[arg-type]
            own_addresses=frozenset({Prefix(4, OWN, 32)}),
            peers=lambda: {Prefix(4, OTHER, 32): "next hop of 10.244.1.0/24"},
            speed=lambda names: self.speed and self.speed * len(names),
            clock=clock,
            wall=lambda: 1e9,
        )

    def second(self, *destinations: int) -> None:
        """A second in which a packet of 1500 bytes left for each of these."""
        for open_window in self.kernel.windows:
            for destination in destinations:
                open_window.see(Packet("eth0", 4, destination, 6, 443, 1500), 100)
        for _ in range(10):
            self.clock.now += 0.1
            self.kernel.at = self.clock.now
            self.sight.turn()


@pytest.fixture
def bench() -> Bench:
    return Bench(Clock())


def test_two_seconds_make_a_snapshot(bench: Bench) -> None:
    """The first comes after one second, the next each two; a poll without anything new is nothing."""
    assert bench.source.poll() is None
    bench.second(CLIENT)
    first = bench.source.poll()
    assert first is not None
    assert [addresses.write(row.client) for row in first.rows] == ["203.0.113.7"]
    assert first.rows[0].rates[0].bits_per_second == pytest.approx(100 * 1500 * 8, rel=0.01)
    assert (first.interfaces, first.capacity_bits_per_second, first.at) == (("eth0",), 10**9, 1e9)
    bench.second(CLIENT)
    assert bench.source.poll() is None
    bench.second(CLIENT)
    assert bench.source.poll() is not None
    bench.source.close()


def test_a_cable_that_comes_back_has_its_speed(bench: Bench) -> None:
    """A device that is down says none; when it is up again, or at another speed, the first line says so."""
    said = []
    for speed in (None, 10**9, 10**8):
        bench.speed = speed
        bench.second(CLIENT)
        bench.second(CLIENT)
        seen = bench.source.poll()
        assert seen is not None
        said.append(seen.capacity_bits_per_second)
    assert said == [None, 10**9, 10**8]
    bench.source.close()


def test_rows_have_limits_labels_and_the_reason_for_what_is_not_known(bench: Bench) -> None:
    """Without the right to read sets the limits are those of the files; multicast and this host are no clients."""
    bench.second(CLIENT, GROUP, OWN, OTHER)
    seen = bench.source.poll()
    assert seen is not None
    rows = {addresses.write(row.client): row for row in seen.rows}
    holds = rows["203.0.113.7"].holds
    assert holds is not None
    assert holds[0].limit == "web"
    assert rows["224.0.0.5"].label == "multicast"
    assert rows["192.0.2.1"].label == "this host"
    assert rows["192.0.2.9"].label == "next hop of 10.244.1.0/24"
    assert rows["203.0.113.7"].label == ""
    assert "CAP_NET_ADMIN" in seen.notes[0]
    bench.source.close()


def test_nothing_is_open_while_nobody_looks(bench: Bench) -> None:
    """Paused and closed there is no sampler; resumed it begins from nothing."""
    bench.second(CLIENT)
    assert len(bench.kernel.windows) == 1
    bench.source.pause()
    assert bench.kernel.windows == []
    bench.clock.now += 300
    bench.source.resume()
    assert len(bench.kernel.windows) == 1
    assert bench.source.poll() is None
    assert bench.source.seconds == 0
    bench.source.close()
    assert bench.kernel.windows == []


def test_it_looks_for_as_long_as_it_is_polled(bench: Bench) -> None:
    """The lease is renewed by each poll, and ends by itself without."""
    for _ in range(100):
        bench.second(CLIENT)
        bench.source.poll()
    assert len(bench.kernel.windows) == 1
    for _ in range(40):
        bench.second()
    assert bench.kernel.windows == []
    bench.source.poll()  # stopped for longer than the lease: it begins again
    assert len(bench.kernel.windows) == 1
    bench.source.close()


def test_a_sampler_that_fails_is_an_error_with_the_reason(bench: Bench) -> None:
    """The screen ends with it instead of showing the same rows for ever."""
    bench.second(CLIENT)
    (opened,) = bench.kernel.windows
    assert isinstance(opened, window.Sampler)
    opened.error = errno.ENETDOWN
    bench.second()
    with pytest.raises(SourceError, match="cannot be seen any more"):
        bench.source.poll()
    bench.source.close()


class Counted:
    """A kernel that counts how often it is read; each reading takes so long."""

    def __init__(self, clock: Clock, takes_seconds: float) -> None:
        self.clock, self.takes_seconds = clock, takes_seconds
        self.states = self.counters = 0

    def state(self) -> model.State:
        self.states += 1
        self.clock.now += self.takes_seconds
        return model.EMPTY

    def classes(self) -> limits_in_force.Classes:
        self.counters += 1
        self.clock.now += self.takes_seconds
        return {}


@pytest.mark.parametrize(("takes_seconds", "readings"), [(0.001, 12), (0.1, 3)])
def test_a_costly_reading_is_made_rarely(takes_seconds: float, readings: int) -> None:
    """Each five seconds where it is cheap; never more than half a per cent of the time."""
    clock = Clock()
    counted = Counted(clock, takes_seconds)
    reader = limit_reader.LimitReader(limit_reader.Kernel(counted.state, counted.classes), lambda: None, clock)
    ends = clock.now + 60
    while clock.now < ends:
        assert reader.read() is not None
        clock.now += 0.5
    assert counted.states == pytest.approx(readings, abs=1)
    assert counted.counters == 0  # there is no limit
    assert reader.trouble == ""


def test_without_files_limits_are_not_known() -> None:
    """A kernel that may not be read, and no directory: nothing is guessed."""
    reader = limit_reader.LimitReader(limit_reader.Kernel(Refusing(), dict), lambda: None, Clock())
    assert reader.read() is None
    assert "limits are not known" in reader.trouble
