"""Writes the measured parts of docs/story.md and docs/policies.md again from a recording.

Pure: recording, document → document.
"""

from __future__ import annotations

import re

from bandwidth_demo.mail_story import recording
from bandwidth_demo.mail_story.recording import Phase, Recording
from bandwidth_demo.recording import Event

# Where the parts of a page begin: all that a telling measured, and its table alone. Each ends with END.
STARTS = {recording.BY_HAND: "<!-- story:measured -->", recording.UNATTENDED: "<!-- story:unattended -->"}
TABLE, END = "<!-- story:table -->", "<!-- /story -->"


def table(recorded: Recording) -> str:
    """Return the numbers as a Markdown table."""
    phases = recording.phases(recorded)
    head = (
        "| 2 MB of mail | readings | p50 | p95 | slowest | times p50 alone | greedy on the wire | quiet on the wire |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    return "\n".join([head, *(_row(phase, phases[0]) for phase in phases)])


def _row(phase: Phase, alone: Phase) -> str:
    slowest = phase.fetch_seconds[-1] if phase.fetch_seconds else float("inf")
    return (
        f"| {phase.title} | {len(phase.fetch_seconds)} | {phase.median:.2f} s | {phase.p95:.2f} s | {slowest:.2f} s "
        f"| {phase.median / alone.median:.1f} | {phase.greedy_bits_per_second / 1e6:.2f} Mbit/s "
        f"| {phase.quiet_bits_per_second / 1e6:.2f} Mbit/s |"
    )


def findings(recorded: Recording) -> str:
    """Return the other numbers as sentences."""
    return _by_hand(recorded) if recorded.titles == recording.BY_HAND else _unattended(recorded)


def _by_hand(recorded: Recording) -> str:
    event = next(event for event in recorded.events if event.limit_bits_per_second is not None)
    seconds = _slowed(recorded, event, event)
    slowed = (
        "It was never slowed."
        if seconds is None
        else (
            f"It was slowed **{seconds:.1f} s** after `kubectl cbl slow` was started; after "
            f"{recorded.kubectl_seconds:.1f} s that command said so."
        )
    )
    held = _held(recording.phases(recorded)[2], event)
    return f"The limited client had {held}. {slowed}"


def _unattended(recorded: Recording) -> str:
    begins, one, two, stops, lifted = recorded.events
    _, _, first, second, *_ = recording.phases(recorded)
    seconds = _slowed(recorded, begins, one)
    slowed = "never" if seconds is None else f"**{seconds:.0f} s**"
    fastest = recording.fastest_second(recorded, one.at + recording.SETTLE_SECONDS, two.at) / 1e6
    return (
        f"The greedy client was slowed {slowed} after it began. It had {_held(first, one)} in the first step, and "
        f"{_held(second, two)} in the second, {two.at - one.at:.0f} s later; in its fastest second of the first step "
        f"{fastest:.2f} Mbit/s. The limit was lifted **{lifted.at - stops.at:.0f} s** after it stopped."
    )


def _slowed(recorded: Recording, since: Event, limited: Event) -> float | None:
    assert limited.limit_bits_per_second is not None
    return recording.seconds_until_slowed(recorded, since, limited.limit_bits_per_second)


def _held(phase: Phase, event: Event) -> str:
    assert event.limit_bits_per_second is not None
    ratio = phase.greedy_bits_per_second / event.limit_bits_per_second
    return (
        f"{phase.greedy_bits_per_second / 1e6:.3f} Mbit/s on the wire, headers included: **{ratio:.3f}** of its "
        f"{event.limit_bits_per_second / 1e6:g} Mbit/s"
    )


def session(recorded: Recording) -> str:
    """Return what the commands of the story printed, as Markdown; with their times where nobody had to type them."""
    timed = recorded.titles == recording.UNATTENDED
    parts = []
    for at, command, printed in recorded.shown:
        after = f"# {at - recorded.started_at:.0f} s\n" if timed else ""
        parts.append(f"{after}$ {command}\n{printed.rstrip()}")
    return "```console\n" + "\n\n".join(parts) + "\n```"


def rewrite(document: str, recorded: Recording, provenance: str) -> str:
    """Return the document with what this telling measured; raises LookupError for one without that part."""
    origin = f"<sub>{provenance}</sub>"
    return _replaced(document, STARTS[recorded.titles], table(recorded), findings(recorded), session(recorded), origin)


def rewrite_table(document: str, recorded: Recording, provenance: str) -> str:
    """The same of a page that shows the numbers alone."""
    return _replaced(document, TABLE, table(recorded), findings(recorded), f"<sub>{provenance}</sub>")


def _replaced(document: str, start: str, *parts: str) -> str:
    pieces = re.split(f"{re.escape(start)}.*?{re.escape(END)}", document, flags=re.DOTALL)
    if len(pieces) != 2:
        raise LookupError(f"{len(pieces) - 1} parts between {start} and {END} in the document")
    return "\n\n".join([start, *parts, END]).join(pieces)
