"""What the demonstration makes of its measurements: the verdicts and the picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bandwidth_lab.demo import picture, recording
from bandwidth_lab.demo.recording import Event, Recording
from bandwidth_lab.meter import Sample, wire_bytes

MEGABIT = 1_000_000


def samples(*rates: tuple[float, float]) -> list[Sample]:
    """A sample every 0.1 s for each stretch of (seconds, Mbit/s), both families alike."""
    made, at, moved = [Sample(0.0, 0.0, 0.0)], 0.0, 0.0
    for seconds, rate in rates:
        for _ in range(round(seconds * 10)):
            at, moved = at + 0.1, moved + rate * MEGABIT / 80
            made.append(Sample(at, moved, moved))
    return made


@pytest.mark.parametrize(
    ("measured", "good"), [(9.69, False), (9.71, True), (10.0, True), (10.29, True), (10.31, False)]
)
def test_a_limited_client_must_have_its_limit(measured: float, good: bool) -> None:
    """More than 3 % beside the limit, above or below, fails the demonstration."""
    assert recording.limited("greedy", 10 * MEGABIT, measured * MEGABIT).good is good


@pytest.mark.parametrize(("measured", "good"), [(3.87, False), (3.89, True), (4.5, True)])
def test_a_quiet_client_must_have_what_it_asks_for(measured: float, good: bool) -> None:
    """Less than 97 % of what a client without a limit asked for fails the demonstration."""
    assert recording.undisturbed("quiet", 4 * MEGABIT, measured * MEGABIT).good is good


def test_a_limit_that_does_not_expire_is_seen() -> None:
    """A client that stays at its old limit after the expiry fails the demonstration."""
    assert not recording.lifted("greedy", 3 * MEGABIT, 3.1 * MEGABIT).good
    assert recording.lifted("greedy", 3 * MEGABIT, 20 * MEGABIT).good


def test_a_recording_without_rows_is_not_good() -> None:
    """A demonstration that measured nothing has shown nothing."""
    assert not Recording(0.0).good


def test_the_time_until_a_limit_works_counts_from_its_event() -> None:
    """The first 0.2 s no faster than the limit end the wait; a client that is never slowed has none."""
    recorded = samples((2.0, 50.0), (3.0, 10.0))
    assert recording.seconds_until(recorded, Event(1.5, "limit", 10 * MEGABIT), 4) == pytest.approx(0.7, abs=0.11)
    assert recording.seconds_until(recorded, Event(0.0, "limit", 5 * MEGABIT), 6) is None


def test_the_picture_is_well_formed_and_shows_every_curve_and_event() -> None:
    """The SVG parses, has a curve for each client and family, and names each event."""
    recorded = Recording(0.0, 5.0, greedy=samples((2.0, 50.0), (3.0, 10.0)), quiet=samples((5.0, 4.0)))
    recorded.events = [Event(2.0, "a limit", 10 * MEGABIT), Event(4.0, "no limit", None)]
    root = ElementTree.fromstring(picture.draw(recorded))
    assert len(root.findall("{*}polyline")) == 4
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"limit 10 Mbit/s", "limit expires", "greedy IPv4", "quiet IPv6"} <= set(texts)


def test_wire_bytes_of_full_frames() -> None:
    """One GSO packet of ten full segments is ten frames on the wire."""
    payload = 10 * 1448
    assert wire_bytes(payload + 66, 1) == pytest.approx(10 * 1514)
