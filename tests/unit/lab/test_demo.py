"""What the demonstration makes of its measurements: the verdicts and the picture."""

from __future__ import annotations

import json
import pathlib
from xml.etree import ElementTree

import pytest
import yaml
from rich.text import Text

from bandwidth_api.crds import policy
from bandwidth_api.plan import Mode
from bandwidth_demo import culprit, picture, recording, screen_picture, unattended
from bandwidth_demo.agent import Agent
from bandwidth_demo.recording import Event, Recording
from bandwidth_lab import crowd
from bandwidth_lab.meter import Sample, wire_bytes
from bandwidth_lab.namespaces import Namespace

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
    assert recording.limited("greedy", "", 10 * MEGABIT, measured * MEGABIT).good is good


@pytest.mark.parametrize(("measured", "good"), [(3.87, False), (3.89, True), (4.5, True)])
def test_a_quiet_client_must_have_what_it_asks_for(measured: float, good: bool) -> None:
    """Less than 97 % of what a client without a limit asked for fails the demonstration."""
    assert recording.undisturbed("quiet", "", 4 * MEGABIT, measured * MEGABIT).good is good


@pytest.mark.parametrize(("measured", "good"), [(0.0, True), (3.59, True), (3.61, False)])
def test_a_quiet_client_that_does_not_suffer_has_nothing_to_be_helped_with(measured: float, good: bool) -> None:
    """More than 90 % of what it asked for beside a greedy client without a limit fails the demonstration."""
    assert recording.suffering("quiet", "", 4 * MEGABIT, measured * MEGABIT).good is good


@pytest.mark.parametrize(("shown", "good"), [(16.9, False), (17.0, True), (20.0, True), (23.5, True), (23.6, False)])
def test_what_top_shows_must_be_what_leaves(shown: float, good: bool) -> None:
    """A rate on the screen that is not near the one that the router counts fails the demonstration."""
    assert recording.seen("greedy", "", shown * MEGABIT, 20 * MEGABIT).good is good


def test_a_limit_that_does_not_expire_is_seen() -> None:
    """A client that stays at its old limit after the expiry fails the demonstration."""
    assert not recording.lifted("greedy", "", 3 * MEGABIT, 3.1 * MEGABIT).good
    assert recording.lifted("greedy", "", 3 * MEGABIT, 20 * MEGABIT).good


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
    recorded.events = [Event(2.0, "a limit", 10 * MEGABIT, "10 Mbit/s"), Event(4.0, "no limit", None, "limit expires")]
    root = ElementTree.fromstring(picture.draw(recorded))
    assert len(root.findall("{*}polyline")) == 4
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"10 Mbit/s", "limit expires", "greedy IPv4", "quiet IPv6"} <= set(texts)


def test_wire_bytes_of_full_frames() -> None:
    """One GSO packet of ten full segments is ten frames on the wire."""
    payload = 10 * 1448
    assert wire_bytes(payload + 66, 1) == pytest.approx(10 * 1514)


def test_a_screen_is_drawn_letter_for_letter() -> None:
    """The SVG parses, its texts are the lines as they were, and what was reversed stands on a ground of its own."""
    lines = [Text.from_ansi("\x1b[7mCLIENT & <co>\x1b[0m"), Text.from_ansi("203.0.113.10  \x1b[1;31m55.6%\x1b[0m")]
    root = ElementTree.fromstring(screen_picture.draw(lines, "top", 40))
    texts = [text for text in root.findall("{*}text") if "textLength" in text.attrib]
    assert [text.text for text in texts] == ["CLIENT & <co>", "203.0.113.10  ", "55.6%"]
    assert texts[2].get("font-weight") == "700"
    assert len(root.findall("{*}rect")) == 2


def test_a_row_is_read_by_the_names_of_its_columns() -> None:
    """Rates, shares and ports are read from rows; what is no row is passed over."""
    screen = [
        "eth0: 48.9 Mbit/s to 134 clients; not seen 1 %, lost 0      every 2 s",
        "  CLIENT                 2s      10s      60s    SINCE  SHARE   ±   PORTS   LIMIT",
        "  203.0.113.10        25.2M    24.1M    24.1M    74.2M  51.5%  3%   993     –",
        "  2001:db8:0:2::10    21.0M    20.1M    20.1M    37.4M  42.9%  4%   993     slow 10Mbit, at limit",
        "  … 125 more, 0.1 %",
        "  s sort  p prefix  l slow  q quit",
    ]
    first, second = culprit.rows(screen)
    assert first == culprit.Shown("203.0.113.10", pytest.approx(24.1e6), "51.5%", "993", "–")
    assert (first.family, second.family) == (4, 6)
    assert second.limit == "slow 10Mbit, at limit"
    assert culprit.rows(screen[:1]) == []


def test_a_crowd_has_an_address_for_each_client() -> None:
    """IPv4 addresses stand side by side, IPv6 ones each in a /64 of its own."""
    assert crowd.addresses("198.51.100.0/24", 3) == ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
    assert crowd.addresses("2001:db8:100::/48", 2, step=1 << 64) == ["2001:db8:100::1", "2001:db8:100:1::1"]


def test_each_decision_is_told_once_and_whole(tmp_path: pathlib.Path) -> None:
    """Of the agent's log, which may end in the middle of a line; what is no decision is passed over."""
    agent = Agent(Namespace("nowhere"), tmp_path)
    log = tmp_path / "agent.log"
    first, second = (json.dumps({"message": "decided", "client": client}) for client in ("203.0.113.10", "2001:db8::1"))
    log.write_text(f"{json.dumps({'message': 'started'})}\n{first}\n{second[:20]}")
    assert [each["client"] for each in agent.decided()] == ["203.0.113.10"]
    log.write_text(f"{json.dumps({'message': 'started'})}\n{first}\n{second}\n")
    assert [each["client"] for each in agent.decided()] == ["2001:db8::1"]
    assert agent.decided() == []


def test_the_policy_of_the_demonstration_slows_down_to_what_is_measured() -> None:
    """It is a policy, which acts, with the two steps that the scenes expect."""
    parsed = policy.parse(yaml.safe_load(unattended.POLICY))
    assert isinstance(parsed, policy.Policy), parsed
    assert parsed.spec.then.mode is Mode.ENFORCE
    rates = (unattended.FIRST_RATE, unattended.SECOND_RATE)
    assert [step.rate for step in parsed.spec.then.steps] == [rate.bits_per_second for rate in rates]


def test_labels_that_are_near_each_other_do_not_overlap() -> None:
    """Marks of decisions may be a second apart: the label that has no room stands a line higher."""
    recorded = Recording(
        0.0, 60.0, [Event(at, "", None, label) for at, label in ((50, "lifted"), (50, ""), (51, "back"))]
    )
    texts = ElementTree.fromstring(picture.draw(recorded)).iter("{http://www.w3.org/2000/svg}text")
    heights = {each.text: int(each.get("y", "")) for each in texts if each.text in ("lifted", "back")}
    assert heights["back"] == heights["lifted"] - picture.LINE
