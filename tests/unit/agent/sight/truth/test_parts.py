"""What one look shows of the parts of a class: uplinks, and kinds of packets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from bandwidth_agent.kernel import model, traffic
from bandwidth_agent.sight.truth import look, parts

A, B = 0x0A000001, 0x0A000002
WEB, DNS = (traffic.TCP, 443), (traffic.UDP, 53)


def packets(
    count: int, to: int = A, of: tuple[int, int] = WEB, by: str = "eth0", port: int = 50_000
) -> list[traffic.Packet]:
    return [traffic.Packet(by, 4, to, of[0], of[1], 1000, port)] * count


def number_of(seen: traffic.Packet) -> int | None:
    return {A: 1, B: 2}.get(seen.destination)


def reading(**devices: int) -> model.QueueReading:
    """Bytes of class 1 by device."""
    counted = {name: {1: model.ClassCounters(count, 0, 0, 0, 0, 0, 0)} for name, count in devices.items()}
    return model.QueueReading(0.0, counted, {})


def shown(
    left: Sequence[traffic.Packet],
    came_out: Sequence[traffic.Packet] | None,
    *,
    before: model.QueueReading | None = None,
    after: model.QueueReading | None = None,
    uplinks: Sequence[str] = ("eth0",),
    waiting: Mapping[str, int] | None = None,
) -> Mapping[look.Scope, look.Passage]:
    """The parts of class 1. `came_out`: None where the second capture was full."""
    out = None if came_out is None else parts.came_out(came_out, number_of)
    before = before or reading(cbl0=0)
    through = sum(packet.length for packet in came_out or ())
    after = after or reading(cbl0=through)
    flows = look.flows(left, number_of)
    return parts.passages(flows, 1.0, out, before, after, uplinks, waiting or {}, 0).get(1, {})


def through(found: Mapping[look.Scope, look.Passage]) -> dict[look.Scope, tuple[int, int]]:
    return {scope: (passage.left_bytes, passage.through_bytes) for scope, passage in found.items()}


def test_each_uplink_has_its_own_part_of_what_came_out() -> None:
    """Of the same class, and of one client that gets packets by both."""
    left = [*packets(60, by="eth0"), *packets(40, of=DNS, by="eth1", port=60_000)]
    found = through(shown(left, packets(60, by="cbl0"), uplinks=("eth0", "eth1")))
    assert found[look.Scope("eth0")] == (60_000, 60_000)
    assert found[look.Scope("eth1")] == (40_000, 0)


def test_one_uplink_is_the_whole_class() -> None:
    """Which is judged by its counters."""
    assert look.Scope("eth0") not in shown(packets(60), packets(60, by="cbl0"))


def test_each_kind_of_packet_is_compared_with_itself() -> None:
    """Family, protocol and port, at a single uplink too."""
    left = [*packets(90), *packets(33, of=DNS), *packets(10, of=(traffic.TCP, 22), port=50_001)]
    found = through(shown(left, packets(90, by="cbl0")))
    assert found == {
        look.Scope("eth0", 4, traffic.TCP, 443): (90_000, 90_000),
        look.Scope("eth0", 4, traffic.UDP, 53): (33_000, 0),
        look.Scope("eth0", 4, traffic.TCP, 22): (10_000, 0),
    }


@pytest.mark.parametrize(
    ("protocol", "source", "dialled", "port"),
    [
        pytest.param(traffic.TCP, 30_993, 50_000, 30_993, id="a reply"),
        pytest.param(traffic.TCP, 50_000, 25, 25, id="a connection of our own"),
        pytest.param(traffic.UDP, 50_000, 50_001, 0, id="passing ports alone"),
        pytest.param(traffic.UDP, -1, -1, 0, id="a later fragment"),
        pytest.param(1, -1, -1, 0, id="no ports"),
    ],
)
def test_a_kind_has_the_port_of_the_service(protocol: int, source: int, dialled: int, port: int) -> None:
    """So a scan or many clients do not make many kinds."""
    (scope,) = shown(packets(1, of=(protocol, source), port=dialled), [])
    assert scope == look.Scope("eth0", 4, protocol, port)


def test_what_a_program_behind_us_translates_is_known_by_its_client() -> None:
    """The source may be another when it leaves."""
    left = packets(50, of=(traffic.TCP, 61_000), port=7_000)
    found = through(shown(left, packets(50, of=(traffic.TCP, 40_000), by="cbl0", port=7_000)))
    assert list(found.values()) == [(50_000, 50_000)]


def test_one_flow_on_two_uplinks_came_out_once() -> None:
    """What the other uplink got is taken off."""
    left = [*packets(50, by="eth0"), *packets(50, by="eth1")]
    both = through(shown(left, packets(100, by="cbl0"), uplinks=("eth0", "eth1")))
    assert both[look.Scope("eth0")] == both[look.Scope("eth1")] == (50_000, 50_000)
    one = through(shown(left, packets(50, by="cbl0"), uplinks=("eth0", "eth1")))
    assert one[look.Scope("eth0")][1] + one[look.Scope("eth1")][1] == 0


def test_what_waited_before_the_uplink_is_old() -> None:
    """It had come out before the second capture could see it."""
    (passage,) = shown(packets(40), packets(0), waiting={"eth0": 12_345}).values()
    assert passage.stale_bytes == 12_345


def test_a_class_at_the_root_of_each_uplink_is_counted_there() -> None:
    """By its own counters; kinds of packets are not told apart."""
    before, after = reading(eth0=5, eth1=7), reading(eth0=60_005, eth1=7)
    left = [*packets(60, by="eth0"), *packets(40, by="eth1")]
    found = through(shown(left, (), before=before, after=after, uplinks=("eth0", "eth1")))
    assert found == {look.Scope("eth0"): (60_000, 60_000), look.Scope("eth1"): (40_000, 0)}


@pytest.mark.parametrize(
    "came_out",
    [
        pytest.param(None, id="it was full"),
        pytest.param(packets(10, by="cbl0"), id="it saw much less than the class counted"),
    ],
)
def test_a_second_capture_that_does_not_agree_proves_nothing(came_out: list[traffic.Packet] | None) -> None:
    """Then only the counters of the whole class count."""
    assert shown(packets(60), came_out, after=reading(cbl0=60_000)) == {}


def test_a_class_made_anew_shows_what_came_out() -> None:
    """Its counters are not known, but its packets were seen."""
    found = through(shown(packets(60), packets(60, by="cbl0"), before=reading(cbl0=900_000), after=reading(cbl0=1)))
    assert list(found.values()) == [(60_000, 60_000)]
