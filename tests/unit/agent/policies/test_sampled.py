"""What policies are told of traffic on one host: sums of samples as reports, and a lease only while one looks."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from bandwidth_agent.kernel import traffic
from bandwidth_agent.policies import sampled
from bandwidth_agent.sight import leases
from bandwidth_agent.sight.watch import look
from bandwidth_agent.sight.watch.classes import Moved
from bandwidth_api import addresses
from bandwidth_api.plan import Prefix
from bandwidth_api.policy.reports import Amount, Port, Sampling
from unit.clock import Clock

EVERY = Sampling(8_000.0, 32, 64, True)  # a floor of 1,000 bytes in a second


class Lease:
    """The sight's side: one lease at a time."""

    def __init__(self) -> None:
        self.receive: leases.Receive | None = None
        self.holds = False
        self.opened = 0
        self.error: OSError | None = None
        self.failure: BaseException | None = None

    def __call__(self, seconds: float, receive: leases.Receive, *, sparing: bool = False) -> Lease:
        assert sparing
        if self.error is not None:
            raise self.error
        self.receive, self.holds = receive, True
        self.opened += 1
        return self

    def renew(self, seconds: float) -> bool:
        return self.holds

    def close(self) -> None:
        self.holds = False

    def hand_over(
        self, clients: Mapping[str, float], began: float, ports: Mapping[str, Mapping[tuple[int, int], float]] = {}
    ) -> None:
        """A second of samples."""
        assert self.receive is not None
        found = {_bytes(text): traffic.Estimate(amount, 1, 0.0) for text, amount in clients.items()}
        of_ports = {_bytes(text): of_it for text, of_it in ports.items()}
        sent = int(sum(clients.values()))
        self.receive({"eth0": traffic.Stretch(began, began + 1, found, of_ports, sent, 0, 4096)})


def _bytes(text: str) -> bytes:
    prefix = addresses.parse(text)
    return prefix.network.to_bytes(4 if prefix.family == 4 else 16)


def watched() -> tuple[sampled.Sampled, Lease, Clock]:
    clock, lease = Clock(100.0), Lease()
    return sampled.Sampled("host", lease, lambda: 10**9, monotonic=clock), lease, clock


def test_a_lease_is_held_only_while_it_is_wanted() -> None:
    """Opened once, asked for again when it ended, closed at the end."""
    found, lease, clock = watched()
    assert lease.opened == 0
    for _ in range(3):
        found.want(True)
    assert (lease.opened, lease.holds) == (1, True)
    lease.holds = False
    clock.now += look.AGAIN_SECONDS
    found.want(True)
    assert lease.opened == 2
    found.want(False)
    assert not lease.holds


def test_sums_of_seconds_are_one_report() -> None:
    """Bytes and seconds of what came since the last one; the largest above the floor, the groups of the policies."""
    found, lease, clock = watched()
    found.want(True)
    assert found.take(EVERY, ()) == ()
    for second in range(2):
        lease.hand_over(
            {"203.0.113.7": 5000.0, "203.0.113.8": 900.0, "2001:db8::1": 1500.0, "2001:db8::2": 1500.0},
            99.0 + second,
            {"203.0.113.7": {(traffic.TCP, 993): 3000.0, (traffic.TCP, 443): 1000.0}},
        )
    (report,) = found.take(EVERY, ())
    assert (report.node, report.seconds, report.sent_bytes) == ("host", 2.0, 17_800.0)
    assert (report.ended_at, report.capacity_bits_per_second) == (clock(), 10**9)
    amounts = {addresses.write(each.client): each.bytes for each in report.amounts}
    assert amounts == {"203.0.113.7": 10_000.0, "2001:db8::/64": 6_000.0}
    (first,) = [each for each in report.amounts if each.client == addresses.parse("203.0.113.7")]
    assert first.ports == (Port("TCP", 993, 0.6), Port("TCP", 443, 0.2))
    assert found.take(EVERY, ()) == ()


def test_who_is_limited_is_named_however_little() -> None:
    """Below the floor and with nothing at all; one network as a whole."""
    found, lease, _ = watched()
    found.want(True)
    named = [addresses.parse(text) for text in ("203.0.113.8", "203.0.113.9", "198.51.100.0/24")]
    assert found.take(EVERY, named) == ()
    lease.hand_over({"203.0.113.8": 10.0, "198.51.100.1": 5.0, "198.51.100.2": 6.0}, 99.0)
    (report,) = found.take(EVERY, named)
    amounts = {addresses.write(each.client): each.bytes for each in report.amounts}
    assert amounts == {"203.0.113.8": 10.0, "198.51.100.0/24": 11.0, "203.0.113.9": 0.0}


def test_what_the_class_of_a_limited_client_counts_is_told() -> None:
    """Its bytes, of which samples of a slow client say little, and how often it held packets back."""
    clock, lease = Clock(100.0), Lease()
    limited = addresses.parse("203.0.113.8")
    counted = {limited: Moved(50_000, 7, ever=True)}
    found = sampled.Sampled("host", lease, moved=lambda named: counted if limited in named else {}, monotonic=clock)
    found.want(True)
    assert found.take(EVERY._replace(ports=False), [limited]) == ()
    lease.hand_over({"203.0.113.8": 40_000.0}, 99.0)
    (report,) = found.take(EVERY._replace(ports=False), [limited])
    assert report.amounts == (Amount(limited, 50_000.0, (), 7),)


def test_what_a_class_counts_while_no_stretch_comes_is_told_with_the_next() -> None:
    """Counters are read when there is a report that they belong to, or its bytes would be lost."""
    limited, read = addresses.parse("203.0.113.8"), []
    lease = Lease()

    def moved(named: frozenset[Prefix]) -> Mapping[Prefix, Moved]:
        read.append(named)
        return {}

    found = sampled.Sampled("host", lease, moved=moved, monotonic=Clock(100.0))
    found.want(True)
    assert found.take(EVERY, [limited]) == ()
    assert read == []
    lease.hand_over({"203.0.113.8": 10.0}, 99.0)
    assert len(found.take(EVERY, [limited])) == 1
    assert read == [{limited}]


def test_of_a_scan_ten_are_told() -> None:
    """The largest; the rest is in the bytes that were sent."""
    found, lease, _ = watched()
    found.want(True)
    assert found.take(EVERY, ()) == ()
    lease.hand_over({f"203.0.{n // 250}.{n % 250}": 2000.0 + n for n in range(1000)}, 99.0)
    (report,) = found.take(EVERY, ())
    assert [round(each.bytes) for each in report.amounts] == [2999 - n for n in range(10)]


def test_what_cannot_be_sampled_is_told_and_tried_again() -> None:
    """Without the capability: a warning, and another try after a while."""
    found, lease, clock = watched()
    lease.error = PermissionError(errno.EPERM, "Operation not permitted")
    found.want(True)
    assert "CAP_NET_RAW" in found.trouble
    lease.error = None
    found.want(True)
    assert lease.opened == 0
    clock.now += look.AGAIN_SECONDS
    found.want(True)
    assert (lease.opened, found.trouble) == (1, "")
