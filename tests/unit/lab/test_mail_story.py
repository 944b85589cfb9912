"""What the mail story makes of its measurements, and the client's arithmetic."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
import yaml

from bandwidth_api import units
from bandwidth_api.crds import policy as policies
from bandwidth_api.crds.policy import Policy
from bandwidth_demo.mail_story import by_hand, client, document, mailbox, picture, recording, unattended, verdict
from bandwidth_demo.mail_story.recording import GREEDY_ADDRESS, Fetch, Recording, Shown
from bandwidth_demo.recording import Event
from bandwidth_lab.meter import Sample

MEGABIT = 1_000_000
PART_SECONDS = 30
DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "story.md").read_text()


def measured(made: Recording, greedy_megabits: tuple[float, ...], reading_seconds: tuple[float, ...]) -> Recording:
    """A story of parts of half a minute, each with one rate of the greedy client and one time to read mail."""
    at, moved = 100.0, 0.0
    for part, (megabits, seconds) in enumerate(zip(greedy_megabits, reading_seconds, strict=True)):
        for _ in range(PART_SECONDS * 10):
            made.greedy.append(Sample(at, moved, 0))
            at, moved = at + 0.1, moved + megabits * MEGABIT / 80
        began = 100.0 + part * PART_SECONDS
        while began + seconds < 100.0 + (part + 1) * PART_SECONDS:
            made.fetches.append(Fetch(began, began + seconds, 2 * MEGABIT, None))
            began += seconds + 1
    made.ended_at = at
    made.quiet = [Sample(sample.at, sample.bytes4 / 4, 0) for sample in made.greedy]
    return made


def told(greedy_megabits: tuple[float, ...], reading_seconds: tuple[float, ...]) -> Recording:
    """A story of four parts, in which a person limits the client."""
    made = Recording(50 * MEGABIT, started_at=100.0)
    made.events = [
        Event(130.0, "a client loops", None),
        Event(160.0, "kubectl cbl slow", 5 * MEGABIT),
        Event(190.0, "kubectl cbl lift", None),
    ]
    made.named, made.named_at = GREEDY_ADDRESS, 150.0
    made.shown = [Shown(200.0, "kubectl get cbl", "NAME   RATE\nmail-loop   5Mbit\n")]
    return measured(made, greedy_megabits, reading_seconds)


def decided(*what: str) -> list[dict[str, str]]:
    return [{"decision": each, "client": GREEDY_ADDRESS, "why": "so"} for each in what]


def left_alone(greedy_megabits: tuple[float, ...], reading_seconds: tuple[float, ...]) -> Recording:
    """A story of six parts, in which a policy does."""
    made = Recording(50 * MEGABIT, started_at=100.0, titles=recording.UNATTENDED)
    made.events = [
        Event(130.0, "a client loops", None, "it begins"),
        Event(160.0, "the policy: 5 Mbit/s", 5 * MEGABIT),
        Event(190.0, "the policy: 2 Mbit/s", 2 * MEGABIT),
        Event(220.0, "it stops", 2 * MEGABIT),
        Event(250.0, "the policy lifts it", None),
    ]
    made.decided = list(decided("Limited", "Stepped", "Lifted"))
    made.shown = [Shown(165.4, "kubectl get cbl", "NAME   RATE\nfair-use-1   5Mbit\n")]
    return measured(made, greedy_megabits, reading_seconds)


GOOD = told((0, 45, 5, 45), (0.4, 1.3, 0.42, 1.5))
ALONE = left_alone((0, 45, 5, 2, 0, 0), (0.4, 1.3, 0.42, 0.41, 0.4, 0.4))
TELLINGS = pytest.mark.parametrize("recorded", [GOOD, ALONE], ids=["by-hand", "unattended"])


@TELLINGS
def test_a_story_that_went_as_it_should_has_no_complaints(recorded: Recording) -> None:
    """Slow beside the greedy client, normal under its limit, slow again without it; or normal when it has stopped."""
    assert verdict.of(recorded) == []


@pytest.mark.parametrize(
    ("greedy", "reading", "complaint"),
    [
        ((0, 45, 6, 45), (0.4, 1.3, 0.42, 1.5), "of its limit"),
        ((0, 45, 4, 45), (0.4, 1.3, 0.42, 1.5), "of its limit"),
        ((0, 45, 5, 45), (0.4, 0.5, 0.42, 1.5), "did not suffer"),
        ((0, 45, 5, 45), (0.4, 1.3, 0.90, 1.5), "reading took"),
        ((0, 45, 5, 5), (0.4, 1.3, 0.42, 0.42), "changed nothing"),
        ((0, 45, 45, 45), (0.4, 1.3, 1.3, 1.5), "never slowed"),
    ],
)
def test_a_story_that_went_otherwise_says_how(
    greedy: tuple[float, ...], reading: tuple[float, ...], complaint: str
) -> None:
    """Each way in which a run contradicts the story is named."""
    assert any(complaint in found for found in verdict.of(told(greedy, reading)))


@pytest.mark.parametrize(
    ("greedy", "reading", "complaint"),
    [
        ((0, 45, 6, 2, 0, 0), (0.4, 1.3, 0.42, 0.41, 0.4, 0.4), "first step"),
        ((0, 45, 5, 3, 0, 0), (0.4, 1.3, 0.42, 0.41, 0.4, 0.4), "second step"),
        ((0, 45, 5, 2, 2, 0), (0.4, 1.3, 0.42, 0.41, 0.4, 0.4), "did not stop"),
        ((0, 45, 5, 2, 0, 0), (0.4, 1.3, 0.42, 0.41, 0.4, 1.2), "did not suffer"),
        ((0, 45, 5, 2, 0, 45), (0.4, 1.3, 0.42, 0.41, 0.4, 1.3), "lifted"),
        ((0, 45, 5, 2, 0, 0), (0.4, 0.5, 0.42, 0.41, 0.4, 0.4), "did not suffer"),
        ((0, 45, 5, 2, 0, 0), (0.4, 1.3, 0.42, 0.9, 0.4, 0.4), "reading took"),
    ],
)
def test_a_policy_that_did_otherwise_is_a_complaint(
    greedy: tuple[float, ...], reading: tuple[float, ...], complaint: str
) -> None:
    """Each part of the telling with nobody at the keyboard is held to what it says."""
    assert any(complaint in found for found in verdict.of(left_alone(greedy, reading)))


@pytest.mark.parametrize(
    "found", [decided("Limited", "Lifted"), [*decided("Limited", "Stepped"), {"decision": "Lifted", "client": "::1"}]]
)
def test_what_a_policy_did_not_decide_is_a_complaint(found: list[dict[str, str]]) -> None:
    """Whatever the rates were: it must have been the policy, and nobody else was its client."""
    (complaint,) = verdict.of(dataclasses.replace(ALONE, decided=found))
    assert "decided" in complaint


def test_a_gap_between_the_steps_is_a_complaint() -> None:
    """The client is at no second faster than in the step before."""
    moved, faster = 0.0, []
    for before, after in zip(ALONE.greedy, ALONE.greedy[1:], strict=False):
        faster.append(Sample(before.at, moved, 0))
        moved += 45 * MEGABIT / 80 if 190.05 <= before.at < 191.0 else after.bytes4 - before.bytes4
    (complaint,) = verdict.of(dataclasses.replace(ALONE, greedy=faster))
    assert "between the steps" in complaint


@TELLINGS
def test_a_reading_that_failed_is_a_complaint(recorded: Recording) -> None:
    """A limit may not cost the quiet client a reading."""
    failed = Fetch(170.0, 172.0, 0, "connection reset")
    assert verdict.of(dataclasses.replace(recorded, fetches=[*recorded.fetches, failed]))


@pytest.mark.parametrize("named", ["", "198.51.100.20"])
def test_a_greedy_client_that_was_not_found_is_a_complaint(named: str) -> None:
    """What is slowed must be what was seen."""
    (complaint,) = verdict.of(dataclasses.replace(GOOD, named=named))
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
    assert recording.seconds_until_slowed(late, late.events[1], 5 * MEGABIT) == pytest.approx(3.2, abs=0.11)


def test_a_limit_counts_from_when_the_command_said_that_it_is_in_force() -> None:
    """A busy machine takes its time until then, in which the client is as greedy as before."""
    late = dataclasses.replace(told((0, 45, 5, 45), (0.4, 1.3, 0.42, 1.5)), kubectl_seconds=12.0)
    late.events[1] = Event(148.0, "kubectl cbl slow", 5 * MEGABIT)
    assert verdict.of(late) == []


def test_the_95th_percentile_is_a_reading_that_was() -> None:
    """Of a hundred readings it is the 95th, of one that one."""
    assert recording.Phase("", tuple(float(number) for number in range(1, 101)), 0, 0, 0).p95 == 95
    assert recording.Phase("", (3.0,), 0, 0, 0).p95 == 3.0


def test_what_is_read_around_an_event_counts_nowhere() -> None:
    """A reading that an event falls into is in neither part."""
    across = Fetch(159.0, 161.0, 0, None)
    crossed = dataclasses.replace(GOOD, fetches=[*GOOD.fetches, across])
    assert recording.phases(crossed) == recording.phases(GOOD)


@TELLINGS
def test_the_picture_is_well_formed_and_shows_every_reading_and_event(recorded: Recording) -> None:
    """The SVG parses, has a dot for each reading and names each event."""
    root = ElementTree.fromstring(picture.draw(recorded))
    assert len(root.findall("{*}circle")) == len(recorded.fetches)
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {event.label or event.text for event in recorded.events} <= texts
    assert ("seen" in texts) == bool(recorded.named)


@pytest.mark.parametrize(
    ("recorded", "start", "rewrite", "shows"),
    [
        (GOOD, document.STARTS[recording.BY_HAND], document.rewrite, "of its 5 Mbit/s. It was slowed **0.3 s** after"),
        (ALONE, document.STARTS[recording.UNATTENDED], document.rewrite, "# 65 s\n$ kubectl get cbl"),
        (ALONE, document.TABLE, document.rewrite_table, "lifted **30 s** after it stopped."),
    ],
)
def test_the_document_is_rewritten_where_it_says_so_and_nowhere_else(
    recorded: Recording, start: str, rewrite: Callable[[str, Recording, str], str], shows: str
) -> None:
    """What is around the measured part stays; writing twice changes nothing more."""
    text = f"# Title\n\n{start}\nold\n{document.END}\n\nThe end.\n"
    once = rewrite(text, recorded, "a machine")
    assert once.startswith("# Title\n\n")
    assert once.endswith("\n\nThe end.\n")
    assert f"| {recorded.titles[2]} |" in once
    assert shows in once
    assert "old" not in once
    assert rewrite(once, recorded, "a machine") == once
    with pytest.raises(LookupError):
        rewrite("# Title\n", recorded, "a machine")


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
    words = dict(zip(by_hand.SLOW[2::2], by_hand.SLOW[3::2], strict=False))
    assert by_hand.SLOW[:2] == ("slow", recording.GREEDY_ADDRESS)
    assert units.parse_rate(words["--rate"]) == by_hand.LIMIT_BITS_PER_SECOND
    assert words["--name"] == by_hand.LIFT[1] == by_hand.LIMIT_NAME


def test_the_document_shows_what_is_typed() -> None:
    """What docs/story.md says to type is what was typed."""
    for words in (by_hand.LOOK, by_hand.SLOW[:-1], by_hand.WHO, by_hand.LIFT[:-1]):
        typed = shlex.join(("kubectl", "cbl", *words)).replace("'", '"')
        assert f"`{typed}`" in PAGE


def test_the_policy_is_the_one_that_the_document_shows() -> None:
    """It can be read, it is in the page word for word, and its figures are those that it is measured against."""
    text = unattended.policy(unattended.FULL)
    assert f"```yaml\n{text}```" in PAGE
    found = policies.parse(yaml.safe_load(text))
    assert isinstance(found, Policy)
    rates = [step.rate for step in found.spec.then.steps]
    assert rates == [unattended.FIRST_RATE.bits_per_second, unattended.SECOND_RATE.bits_per_second]
    assert isinstance(policies.parse(yaml.safe_load(unattended.policy(unattended.QUICK))), Policy)


def test_the_document_shows_what_a_policy_printed() -> None:
    """Every command of the telling without a person stands there with its answer, as often as it was asked."""
    measured_part = PAGE.partition(document.STARTS[recording.UNATTENDED])[2].partition(document.END)[0]
    asked = [unattended.STATE, unattended.LIMITS, ("cbl", *unattended.WHY)]
    counts = [measured_part.count(f"$ kubectl {shlex.join(words)}\n") for words in asked]
    assert counts == [1, 1, 3]
    assert all(f"| {title} |" in measured_part for title in recording.UNATTENDED)


def test_both_pages_have_the_same_figures() -> None:
    """docs/policies.md shows the table of the run that docs/story.md tells."""
    story = PAGE.partition(document.STARTS[recording.UNATTENDED])[2].partition("```console")[0].strip()
    policies_page = (DOCS / "policies.md").read_text().partition(document.TABLE)[2].partition("<sub>")[0].strip()
    assert story
    assert story == policies_page
