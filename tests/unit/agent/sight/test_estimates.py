"""From stretches of a sampler to a history."""

from __future__ import annotations

import pytest

from bandwidth_agent.kernel.traffic import Estimate, Stretch
from bandwidth_agent.sight import estimates
from bandwidth_sight.history import History

CLIENT = bytes([203, 0, 113, 7])


def stretch(began: float, ended: float, number_bytes: float = 150_000.0, sent_bytes: int = 151_400) -> Stretch:
    clients = {CLIENT: Estimate(number_bytes, 100, number_bytes**2 / 100)} if number_bytes else {}
    return Stretch(
        began, ended, clients, {CLIENT: {(6, 443): number_bytes}}, sent_bytes, 2, 4096, number_bytes * 14 / 1500
    )


def test_link_headers_are_not_counted() -> None:
    """Of a hundred frames of 1500 bytes the device counts 14 more each: all of it was seen."""
    made = estimates.sampled(stretch(0.0, 1.0))
    assert made.sent_bytes == pytest.approx(150_000)
    assert made.lost == 2


def test_what_was_not_seen_has_the_same_share_of_headers() -> None:
    """Where a second half left unseen, half is not seen; where nothing was seen, the device's own number counts."""
    assert estimates.sampled(stretch(0.0, 1.0, sent_bytes=2 * 151_400)).sent_bytes == pytest.approx(300_000)
    assert estimates.sampled(stretch(0.0, 1.0, number_bytes=0.0)).sent_bytes == 151_400


def test_several_interfaces_are_one_second() -> None:
    """And a second without any stretch is one in which nothing left."""
    made = History(0.0)
    assert estimates.add(made, {"eth0": stretch(0.0, 1.0), "eth1": stretch(0.0, 1.0)}, 1.01)
    assert made.snapshot(0.0).rows[0].rates[0].samples == 200
    assert not made.snapshot(0.0).not_seen
    assert estimates.add(made, {}, 2.0)
    assert made.ended == 2.0


@pytest.mark.parametrize("asked_at", [0.05, 0.5, 0.9, 1.0])
def test_who_comes_while_others_look_sees_no_more_than_there_is(asked_at: float) -> None:
    """The second that is under way then belongs to both, from its beginning on."""
    made = History(asked_at)
    for second in range(3):
        estimates.add(made, {"eth0": stretch(float(second), second + 1.0)}, second + 1.0)
    assert [rate.bits_per_second for rate in made.snapshot(0.0).rows[0].rates] == pytest.approx([8 * 150_000] * 3)
