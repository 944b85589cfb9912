"""`python -m bandwidth_demo.mail_story`: makes a cluster, installs the chart, plays the story, removes the cluster.

Exit code 0: all measurements are as expected; 1: one is not, or something failed; the folder then has the evidence.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import signal
import sys
import time

from bandwidth_demo.mail_story import by_hand, document, outside, picture, unattended, verdict
from bandwidth_demo.mail_story.recording import Recording
from bandwidth_demo.mail_story.stage import StoryError
from bandwidth_lab.kind import cluster, evidence, shell
from bandwidth_lab.kind.release import IMAGES, TAG, Release

ROOT = pathlib.Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make story", description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/story", help="where all results go")
    parser.add_argument(
        "--policy", action="store_true", help="nobody at the keyboard: a policy slows the greedy client"
    )
    parser.add_argument("--document", action="store_true", help="write what docs show of it again, with the picture")
    parser.add_argument("--quick", action="store_true", help="shorter parts, to see that it works")
    arguments = parser.parse_args()
    if arguments.quick and arguments.document:
        parser.error("what is written down is measured at full length")
    folder: pathlib.Path = arguments.folder
    began = time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it begins ignored
    try:
        shell.check_machine(*(f"{image}:{TAG}" for image in IMAGES))
        recorded = _played(folder, quick=arguments.quick, policy=arguments.policy)
    except (shell.NotUsableError, shell.FailedCommandError, StoryError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped")
        return 130
    drawn, provenance = picture.draw(recorded), _provenance(recorded, time.monotonic() - began)
    (folder / "story.svg").write_text(drawn)
    (folder / "recording.json").write_text(json.dumps(dataclasses.asdict(recorded)))
    print(f"\n{document.table(recorded)}\n\n{document.findings(recorded)}\n\nthe picture: {folder / 'story.svg'}")
    wrong = verdict.of(recorded)
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    if arguments.document:
        _write_down(recorded, drawn, provenance, policy=arguments.policy)
    return 0


def _write_down(recorded: Recording, drawn: str, provenance: str, *, policy: bool) -> None:
    page, policies = DOCS / "story.md", DOCS / "policies.md"
    page.write_text(document.rewrite(page.read_text(), recorded, provenance))
    if policy:
        policies.write_text(document.rewrite_table(policies.read_text(), recorded, provenance))
    (DOCS / "images" / ("story-policy.svg" if policy else "story.svg")).write_text(drawn)


def _played(folder: pathlib.Path, *, quick: bool, policy: bool) -> Recording:
    """Play the story in a cluster of its own; after a failure save the evidence in the folder."""
    print("the mail server's image, a cluster, the chart in it: some minutes", flush=True)
    outside.build_image()
    with cluster.made(folder) as made:
        try:
            made.load(*(f"{image}:{TAG}" for image in IMAGES))
            Release(made).install(values=unattended.VALUES if policy else by_hand.VALUES)
            if policy:
                recorded = unattended.play(made, unattended.QUICK if quick else unattended.FULL, _say)
            else:
                recorded = by_hand.play(made, by_hand.QUICK if quick else by_hand.FULL, _say)
        except Exception:
            _save_evidence(made, folder)
            raise
        if verdict.of(recorded):
            _save_evidence(made, folder)
        return recorded


def _say(text: str) -> None:
    print(text, flush=True)


def _save_evidence(made: cluster.Cluster, folder: pathlib.Path) -> None:
    evidence.collect(made, folder / "evidence")
    print(f"the evidence: {folder / 'evidence'}", file=sys.stderr)


def _provenance(recorded: Recording, seconds: float) -> str:
    """Return the machine and the versions that it was measured with, and the time."""
    at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    versions = ", ".join(f"{name} {version}" for name, version in recorded.versions.items())
    machine = (
        f"nodes, router and clients on one machine of {os.cpu_count()} cores, load {recorded.load:.0f} in the middle"
    )
    return f"{versions}; {machine}. {at} UTC, {seconds:.0f} s with the cluster."


sys.exit(main())
