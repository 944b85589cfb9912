"""What one look shows of each class, from packets and two readings."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel import model, objects, traffic
from bandwidth_agent.sight.truth import look

A, B = 0x0A000001, 0x0A000002


def packet(destination: int, length: int = 1000, interface: str = "eth0") -> traffic.Packet:
    return traffic.Packet(interface, 4, destination, traffic.TCP, 443, length)


def number_of(seen: traffic.Packet) -> int | None:
    return {A: 1, B: 2}.get(seen.destination)


def reading(
    *devices: dict[int, int], backlog: int = 0, sent: int = 0, waiting: int = 0, uplinks: tuple[str, ...] = ("eth0",)
) -> model.QueueReading:
    """Bytes of each class by device, each class with this backlog, and an interface that sent and holds so much."""
    counted = [
        {minor: model.ClassCounters(count, 0, 0, 0, backlog, 0, 0) for minor, count in device.items()}
        for device in devices
    ]
    return model.QueueReading(
        0.0,
        {f"cbl{position}": classes for position, classes in enumerate(counted)},
        {name: model.UplinkCounters(sent, waiting) for name in uplinks},
    )


def test_what_left_and_what_came_out_are_added_up() -> None:
    """By class, whatever the address and the interface; a GSO packet is as many packets as it becomes on the wire."""
    seen = [packet(A), packet(A, 3001, "eth1"), packet(A, interface="eth1"), packet(B), packet(A + 9)]
    found = look.passages(seen, 0, number_of, reading({1: 100, 2: 7}), reading({1: 600, 2: 7}), 44)
    assert found == {
        1: look.Passage(3, 5, 5001, 500, 1.0, 44, "eth1", (4, A)),
        2: look.Passage(1, 1, 1000, 0, 1.0, 44, "eth0", (4, B)),
    }


def test_a_class_on_several_devices_is_one() -> None:
    """Under placement `interface` each uplink has it."""
    found = look.passages([packet(A)], 0, number_of, reading({1: 5}, {1: 50}), reading({1: 6}, {1: 70}), 0)
    assert found[1].through_bytes == 21


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([{1: 900}], [{1: 20}], id="counters that start again"),
        pytest.param([{}], [{1: 20}], id="made meanwhile"),
        pytest.param([{1: 20}], [{}], id="removed meanwhile"),
        pytest.param([{1: 20}, {1: 30}], [{1: 20}], id="moved from one of two devices"),
        pytest.param([{1: 20}], [{1: 20}, {1: 30}], id="moved to one more device"),
        pytest.param([], [], id="a device that is gone"),
    ],
)
def test_a_class_that_is_not_the_same_shows_nothing(before: list[dict[int, int]], after: list[dict[int, int]]) -> None:
    """What it let out between the two readings is not known."""
    assert look.passages([packet(A)] * 40, 0, number_of, reading(*before), reading(*after), 0) == {}


def test_what_found_no_room_is_a_share() -> None:
    """Of everything that left, limited or not."""
    found = look.passages([packet(A), packet(A + 9)], 6, number_of, reading({1: 0}), reading({1: 0}), 0)
    assert found[1].share == 0.25


SLOW = objects.HtbClass(0, 1000, 1000, 1, 1, 1514, None)
TREES = {"cbl0": objects.Tree(0, {1: SLOW, 2: SLOW._replace(ceil=50_000_000_000)}, None)}


@pytest.mark.parametrize(
    ("backlog", "elapsed", "stale"),
    [
        pytest.param(15_000, 1.0, 15_000, id="15 s of queue, a second later"),
        pytest.param(15_000, 14.0, 15_000, id="nearly gone"),
        pytest.param(15_000, 16.0, 0, id="gone: what waits now came later"),
        pytest.param(0, 0.0, 0, id="nothing waits"),
    ],
)
def test_what_waits_in_a_class_may_be_old(backlog: int, elapsed: float, stale: int) -> None:
    """As long as the class cannot have let out as much since the change; one that only observes lets all out."""
    before = reading({1: 0, 2: 0}, backlog=backlog)
    assert look.stale_bytes(before, before, elapsed, TREES) == stale


def test_what_waits_in_an_unknown_class_may_be_old() -> None:
    """A class that is not in the state has no known rate."""
    before = reading({9: 0}, backlog=10)
    assert look.stale_bytes(before, before, 1e6, TREES) == 10


def test_what_waits_before_an_interface_goes_as_it_sends() -> None:
    """Its backlog at the first reading after the change, without what it has sent since."""
    first = reading(sent=1000, waiting=500)
    assert look.stale_bytes(first, first, 1.0, {}) == 500
    assert look.stale_bytes(reading(sent=1200, waiting=900), first, 2.0, {}) == 300
    assert look.stale_bytes(reading(sent=9000, waiting=900), first, 3.0, {}) == 0
    assert look.stale_bytes(reading(sent=0, waiting=0), first, 3.0, {}) == 500  # the device counts anew
    assert look.stale_bytes(reading(sent=0, waiting=7, uplinks=("new0",)), first, 3.0, {}) == 0
    assert look.stale_bytes(first, first, 1.0, {"eth0": objects.Tree(0, {}, None)}) == 0  # our classes: counted above
