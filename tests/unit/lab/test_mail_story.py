"""What the mail story makes of its measurements, and the client's arithmetic."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from xml.etree import ElementTree

import pytest

from bandwidth_api import units
from bandwidth_demo.mail_story import client, document, mailbox, picture, recording, story
from bandwidth_demo.mail_story.recording import Fetch, Recording
from bandwidth_demo.recording import Event
from bandwidth_lab.meter import Sample

MEGABIT = 1_000_000
PART_SECONDS = 30


def told(greedy_megabits: tuple[float, ...], reading_seconds: tuple[float, ...]) -> Recording:
    """A story of four parts, each with one rate of the greedy client and one time to read mail."""
    made = Recording(50 * MEGABIT, 5 * MEGABIT, started_at=100.0, ended_at=100.0 + 4 * PART_SECONDS)
    made.events = [
        Event(130.0, "a client loops", None),
        Event(160.0, "kubectl cbl slow", 5 * MEGABIT),
        Event(190.0, "kubectl cbl lift", None),
    ]
    made.named, made.named_at = recording.GREEDY_ADDRESS, 150.0
    at, moved = 100.0, 0.0
    for part, (megabits, seconds) in enumerate(zip(greedy_megabits, reading_seconds, strict=True)):
        for _ in range(PART_SECONDS * 10):
            made.greedy.append(Sample(at, moved, 0))
            at, moved = at + 0.1, moved + megabits * MEGABIT / 80
        began = 100.0 + part * PART_SECONDS
        while began + seconds < 100.0 + (part + 1) * PART_SECONDS:
            made.fetches.append(Fetch(began, began + seconds, 2 * MEGABIT, None))
            began += seconds + 1
    made.quiet = [Sample(sample.at, sample.bytes4 / 4, 0) for sample in made.greedy]
    made.shown = {"kubectl get cbl": "NAME   RATE\nmail-loop   5Mbit\n"}
    return made


GOOD = told((0, 45, 5, 45), (0.4, 1.3, 0.42, 1.5))


def test_a_story_that_went_as_it_should_has_no_complaints() -> None:
    """Slow beside the greedy client, normal under its limit, slow again without it."""
    assert recording.complaints(GOOD) == []


@pytest.mark.parametrize(
    ("greedy", "reading", "complaint"),
    [
        ((0, 45, 6, 45), (0.4, 1.3, 0.42, 1.5), "of its limit"),
        ((0, 45, 4, 45), (0.4, 1.3, 0.42, 1.5), "of its limit"),
        ((0, 45, 5, 45), (0.4, 0.5, 0.42, 1.5), "did not suffer"),
        ((0, 45, 5, 45), (0.4, 1.3, 0.90, 1.5), "under the limit"),
        ((0, 45, 5, 5), (0.4, 1.3, 0.42, 0.42), "changed nothing"),
        ((0, 45, 45, 45), (0.4, 1.3, 1.3, 1.5), "never slowed"),
    ],
)
def test_a_story_that_went_otherwise_says_how(
    greedy: tuple[float, ...], reading: tuple[float, ...], complaint: str
) -> None:
    """Each way in which a run contradicts the story is named."""
    assert any(complaint in found for found in recording.complaints(told(greedy, reading)))


def test_a_reading_that_failed_is_a_complaint() -> None:
    """A limit may not cost the quiet client a reading."""
    failed = Fetch(170.0, 172.0, 0, "connection reset")
    assert recording.complaints(dataclasses.replace(GOOD, fetches=[*GOOD.fetches, failed]))


@pytest.mark.parametrize("named", ["", "198.51.100.20"])
def test_a_greedy_client_that_was_not_found_is_a_complaint(named: str) -> None:
    """What is slowed must be what was seen."""
    (complaint,) = recording.complaints(dataclasses.replace(GOOD, named=named))
    assert "first" in complaint


def test_the_time_until_slowed_counts_from_the_command_and_ignores_a_passing_dip() -> None:
    """A pause of the greedy client is no limit; the first 0.2 s that last are."""
    late = told((0, 45, 5, 45), (0.4, 1.3, 0.42, 1.5))
    late.events[1] = Event(157.0, "kubectl cbl slow", 5 * MEGABIT)
    moved, dipped = 0.0, []
    for before, after in zip(late.greedy, late.greedy[1:], strict=False):
        dipped.append(Sample(before.at, moved, 0))
        moved += 0 if 158.0 <= before.at < 158.5 else after.bytes4 - before.bytes4
    late.greedy = dipped
    assert recording.seconds_until_slowed(late) == pytest.approx(3.2, abs=0.11)


def test_a_limit_counts_from_when_the_command_said_that_it_is_in_force() -> None:
    """A busy machine takes its time until then, in which the client is as greedy as before."""
    late = dataclasses.replace(told((0, 45, 5, 45), (0.4, 1.3, 0.42, 1.5)), kubectl_seconds=12.0)
    late.events[1] = Event(148.0, "kubectl cbl slow", 5 * MEGABIT)
    assert recording.complaints(late) == []


def test_the_95th_percentile_is_a_reading_that_was() -> None:
    """Of a hundred readings it is the 95th, of one that one."""
    assert recording.Phase("", tuple(float(number) for number in range(1, 101)), 0, 0, 0).p95 == 95
    assert recording.Phase("", (3.0,), 0, 0, 0).p95 == 3.0


def test_what_is_read_around_an_event_counts_nowhere() -> None:
    """A reading that an event falls into is in neither part."""
    across = Fetch(159.0, 161.0, 0, None)
    crossed = dataclasses.replace(GOOD, fetches=[*GOOD.fetches, across])
    assert recording.phases(crossed) == recording.phases(GOOD)


def test_the_picture_is_well_formed_and_shows_every_reading_and_event() -> None:
    """The SVG parses, has a dot for each reading and names each event."""
    root = ElementTree.fromstring(picture.draw(GOOD))
    assert len(root.findall("{*}circle")) == len(GOOD.fetches)
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"seen", *(event.text for event in GOOD.events)} <= texts


def test_the_document_is_rewritten_where_it_says_so_and_nowhere_else() -> None:
    """What is around the measured part stays; writing twice changes nothing more."""
    text = f"# Title\n\n{document.START}\nold\n{document.END}\n\nThe end.\n"
    once = document.rewrite(text, GOOD, "a machine")
    assert once.startswith("# Title\n\n")
    assert once.endswith("\n\nThe end.\n")
    assert "| the greedy client limited |" in once
    assert "old" not in once
    assert document.rewrite(once, GOOD, "a machine") == once
    with pytest.raises(LookupError):
        document.rewrite("# Title\n", GOOD, "a machine")


@pytest.mark.parametrize(("mails", "connections"), [(400, 10), (399, 7), (3, 10), (0, 2)])
def test_all_connections_together_fetch_each_mail_once(mails: int, connections: int) -> None:
    """Whatever the number of mails and connections."""
    fetched = [
        number
        for connection in range(connections)
        for first, last in client.shares(mails, connections, connection)
        for number in range(first, last + 1)
    ]
    assert sorted(fetched) == list(range(1, mails + 1))


def test_the_meter_reads_the_interface_it_is_told() -> None:
    """Bytes and packets of that line, and an error where there is none."""
    text = "Inter-|   Receive\n face |bytes packets\n    lo: 5 1 0 0\n  eth0: 1514 2 0 0 0 0 0 0 66 1\n"
    assert client.received(text, "eth0") == (1514, 2)
    with pytest.raises(LookupError):
        client.received(text, "eth1")


def test_a_mail_is_a_megabyte_on_the_way_and_its_own() -> None:
    """Within a line's length, counted with IMAP's line ends; no two are alike."""
    first, second = mailbox.mail("loop", 1), mailbox.mail("loop", 2)
    for content in (first, second):
        assert mailbox.MAIL_BYTES - 100 <= len(content) + content.count(b"\n") <= mailbox.MAIL_BYTES
    assert first[-1000:] != second[-1000:]


def test_a_filled_mailbox_is_a_maildir(tmp_path: pathlib.Path) -> None:
    """As many mails as asked for, each with its size in its name."""
    mailbox.fill(tmp_path, "reader", 2)
    found = list((tmp_path / "reader" / "cur").iterdir())
    assert len(found) == 2
    assert all(f",S={path.stat().st_size}:" in path.name for path in found)


def test_the_limit_is_what_the_story_says_of_it() -> None:
    """The command that is typed names the greedy client's address and the rate that it is measured against."""
    words = dict(zip(story.SLOW[2::2], story.SLOW[3::2], strict=False))
    assert story.SLOW[:2] == ("slow", recording.GREEDY_ADDRESS)
    assert units.parse_rate(words["--rate"]) == story.LIMIT_BITS_PER_SECOND
    assert words["--name"] == story.LIFT[1] == story.LIMIT_NAME


def test_the_document_shows_what_is_typed() -> None:
    """What docs/story.md says to type is what was typed."""
    text = (pathlib.Path(__file__).resolve().parents[3] / "docs/story.md").read_text()
    for words in (story.LOOK, story.SLOW[:-1], story.WHO, story.LIFT[:-1]):
        typed = shlex.join(("kubectl", "cbl", *words)).replace("'", '"')
        assert f"`{typed}`" in text
