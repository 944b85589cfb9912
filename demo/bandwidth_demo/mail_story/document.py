"""Writes the measured part of docs/story.md again from a recording. Pure: recording, document → document."""

from __future__ import annotations

import re

from bandwidth_demo.mail_story import recording
from bandwidth_demo.mail_story.recording import Phase, Recording

START, END = "<!-- story:measured -->", "<!-- /story -->"


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
    """Return the two other numbers as sentences."""
    limited = recording.phases(recorded)[2]
    megabits = recorded.limit_bits_per_second / 1e6
    ratio = limited.greedy_bits_per_second / recorded.limit_bits_per_second
    seconds = recording.seconds_until_slowed(recorded)
    slowed = (
        "It was never slowed."
        if seconds is None
        else (
            f"It was slowed **{seconds:.1f} s** after `kubectl cbl slow` was started; after "
            f"{recorded.kubectl_seconds:.1f} s that command said so."
        )
    )
    return (
        f"The limited client had {limited.greedy_bits_per_second / 1e6:.3f} Mbit/s on the wire, headers included: "
        f"**{ratio:.3f}** of its {megabits:g} Mbit/s. {slowed}"
    )


def session(recorded: Recording) -> str:
    """Return what the commands of the story printed, as Markdown."""
    parts = [f"$ {command}\n{printed.rstrip()}" for command, printed in recorded.shown.items()]
    return "```console\n" + "\n\n".join(parts) + "\n```"


def rewrite(document: str, recorded: Recording, provenance: str) -> str:
    """Return the document with its measured part replaced; raises LookupError for one without that part."""
    block = "\n\n".join(
        [START, table(recorded), findings(recorded), session(recorded), f"<sub>{provenance}</sub>", END]
    )
    parts = re.split(f"{re.escape(START)}.*?{re.escape(END)}", document, flags=re.DOTALL)
    if len(parts) != 2:
        raise LookupError(f"{len(parts) - 1} parts between {START} and {END} in the document")
    return block.join(parts)
