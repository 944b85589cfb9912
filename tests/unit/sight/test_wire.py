"""A snapshot survives its JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from bandwidth_api.plan import PortRange
from bandwidth_sight import wire
from bandwidth_sight.rows import Hold, MadeBy, Snapshot
from unit.sight.test_merging import SNAPSHOTS, row, same, snapshot


@given(SNAPSHOTS)
def test_json_is_read_as_it_was_written(one: Snapshot) -> None:
    """Written, read and written again is the same JSON but for the last digits of errors."""
    written = wire.write(one)
    read = wire.read(json.loads(json.dumps(written)))
    assert [r.client for r in read.rows] == [r.client for r in one.rows]
    assert [(r.holds, r.nodes, r.label) for r in read.rows] == [(r.holds, r.nodes, r.label) for r in one.rows]
    assert read.sent == one.sent
    assert (read.nodes, read.nodes_asked, read.lost_samples) == (one.nodes, one.nodes_asked, one.lost_samples)
    assert [t.samples for t in read.totals] == [t.samples for t in one.totals]
    assert [t.bits_per_second for t in read.totals] == [t.bits_per_second for t in one.totals]


def test_the_error_is_relative() -> None:
    """A hundred samples have an error of 0.1; it is what comes back."""
    written = wire.write(snapshot(row("2001:db8::1", 1e6)))
    assert written["clients"][0]["rates"]["2s"] == {"bitsPerSecond": 1000000, "error": 0.1, "samples": 100}
    assert same(wire.read(written).rows[0].rates, row("2001:db8::1", 1e6).rates)


def test_the_policy_of_a_limit_comes_back() -> None:
    """Its name and step; an object of an older program, which has none, tells of none."""
    hold = Hold("fair-03e9b06641", 1, False, False, (), MadeBy("fair", 2, None))
    written = wire.write(snapshot(row("192.0.2.1", 1e6, holds=(hold,))))
    assert written["clients"][0]["limits"][0]["policy"] == {"name": "fair", "step": 2, "steps": None}
    assert wire.read(json.loads(json.dumps(written))).rows[0].holds == (hold,)
    del written["clients"][0]["limits"][0]["policy"]
    assert wire.read(written).rows[0].holds == (hold._replace(made_by=None),)


@pytest.mark.parametrize("ports", [(), None, (PortRange("TCP", 80, 90), PortRange("UDP", 53, 53))])
def test_the_ports_of_a_limit_come_back(ports: tuple[PortRange, ...] | None) -> None:
    """None, all and some; an object of an older program, which has none, is for all."""
    written = wire.write(snapshot(row("192.0.2.1", 1e6, holds=(Hold("web", 1, False, False, ports),))))
    assert wire.read(json.loads(json.dumps(written))).rows[0].holds == (Hold("web", 1, False, False, ports),)
    del written["clients"][0]["limits"][0]["ports"]
    assert wire.read(written).rows[0].holds == (Hold("web", 1, False, False, ()),)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"observedAt": "now"}, {"observedAt": "2030-01-01T00:00:00Z", "seconds": 1, "clients": [{"client": "x"}]}],
)
def test_what_is_no_snapshot_is_refused(wrong: dict[str, object]) -> None:
    """A program that prints something else is noticed."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        wire.read(wrong)
