"""What the classes of limited clients counted, and which bytes of a client are told."""

from __future__ import annotations

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.sight.watch import classes
from bandwidth_agent.sight.watch.classes import Classes, Moved
from bandwidth_agent.sight.watch.sums import Sum
from bandwidth_api import addresses, names
from bandwidth_api.plan import ClassKey, Prefix

LIMITED, OTHER = addresses.parse("198.51.100.7"), addresses.parse("203.0.113.9")


class Kernel:
    """A class 5 of the limited client, on two devices, and one of somebody else."""

    def __init__(self) -> None:
        entries = {
            client: objects.SetEntry(number, 0xFFFF, 0, names.comment(ClassKey(limit, ""), None))
            for client, number, limit in ((LIMITED, 5, "fair-1"), (OTHER, 6, "by-hand"))
        }
        self.state: model.State | None = model.State(
            ifbs={}, trees={}, hooks={}, chains={}, sets={"cbl-v4": objects.IpSet(4, entries)}
        )
        self.bytes, self.over, self.there = 0, 0, True
        self.read = 0

    def counters(self) -> model.Counters | None:
        self.read += 1
        of = model.ClassCounters(self.bytes, 1, self.over, self.over, 0, 0, 0)
        both = {"cbl0": {5: of, 6: of}, "cbl1": {5: of}} if self.there else {}
        return model.Counters(0.0, both, {}, {})


def of(kernel: Kernel) -> Classes:
    return Classes(lambda: kernel.state, kernel.counters)


def limited() -> frozenset[Prefix]:
    return frozenset({LIMITED, addresses.parse("192.0.2.1")})


def test_what_moved_between_two_readings() -> None:
    """Of all devices together; waits and drops are both packets held back."""
    kernel = Kernel()
    found = of(kernel)
    assert found.read(limited()) == {}
    kernel.bytes, kernel.over = 1000, 3
    assert found.read(limited()) == {LIMITED: Moved(2000, 12, ever=True)}
    assert found.read(limited()) == {LIMITED: Moved(0, 0, ever=True)}


def test_a_node_that_has_served_a_client_knows_it_after_a_start() -> None:
    """By what its class has counted before: nothing has moved yet, and it was served."""
    kernel = Kernel()
    kernel.bytes = 1000
    assert of(kernel).read(limited()) == {LIMITED: Moved(0, 0, ever=True)}


def test_counters_that_begin_again_are_no_traffic() -> None:
    """A class that was made anew, or another one of the same client."""
    kernel = Kernel()
    found = of(kernel)
    kernel.bytes = 1000
    found.read(limited())
    kernel.bytes = 10
    assert found.read(limited()) == {LIMITED: Moved(0, 0, ever=True)}
    kernel.there = False
    assert found.read(limited()) == {}


def test_nothing_is_read_while_nobody_is_limited() -> None:
    """10,000 classes of persons' limits cost nothing."""
    kernel = Kernel()
    found = of(kernel)
    assert found.read(frozenset()) == {}
    assert found.read(frozenset({addresses.parse("192.0.2.1")})) == {}
    assert kernel.read == 0


def test_bytes_are_those_of_the_class_unless_more_went_by() -> None:
    """Few samples of a slow client may say anything; many more bytes than the class counted do not come by chance."""
    few = Sum(2 * 65536.0, 2 * 65536.0**2, {})
    assert classes.known_bytes(few, Moved(250_000, 0, ever=True)) == 250_000
    assert classes.known_bytes(few, Moved(60_000, 0, ever=True)) == 60_000
    assert classes.known_bytes(few, None) == few.bytes
    many = Sum(10e6, 10e6 * 4096, {})
    assert classes.known_bytes(many, Moved(1_000_000, 0, ever=True)) == 10e6
    assert classes.known_bytes(Sum(0.0, 0.0, {}), Moved(5_000, 0, ever=True)) == 5_000
