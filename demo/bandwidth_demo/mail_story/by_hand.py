"""Told with a person: reading mail alone, beside a greedy client, with that client found and limited, and let go."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import NamedTuple

from bandwidth_demo.mail_story.recording import GREEDY_ADDRESS, Recording
from bandwidth_demo.mail_story.stage import ASK_SECONDS, NAMESPACE, UPLINK_BITS_PER_SECOND, Stage
from bandwidth_lab.kind.cluster import Cluster

VALUES: tuple[str, ...] = ()  # of the chart: its defaults
LIMIT_NAME = "mail-loop"
REASON = "mailbox sync loop, ticket 4711"
# What an administrator types after `kubectl cbl`.
LOOK = ("top", "--once", "5")
SLOW = ("slow", GREEDY_ADDRESS, "--rate", "5Mbit", "--for", "1d", "--reason", REASON, "--name", LIMIT_NAME, "--yes")
WHO = ("who", GREEDY_ADDRESS)
LIFT = ("lift", LIMIT_NAME, "--yes")

LIMIT_BITS_PER_SECOND = 5_000_000
LOOKS = 3  # a node that is busy may be missing in an answer, which says so; then one looks again


class Lengths(NamedTuple):
    """Seconds of each part."""

    alone: float
    beside: float
    limited: float
    deleted: float


FULL = Lengths(alone=30, beside=90, limited=90, deleted=60)
QUICK = Lengths(alone=12, beside=25, limited=25, deleted=25)


def play(cluster: Cluster, lengths: Lengths, write: Callable[[str], None]) -> Recording:
    """Play it in a cluster with the chart; return what was measured."""
    stage = Stage(cluster, Recording(UPLINK_BITS_PER_SECOND, time.monotonic()), write)
    try:
        with stage.set():
            _play(stage, lengths)
    finally:
        cluster.kubectl("delete", "cbl", LIMIT_NAME, "--ignore-not-found")
    return stage.recorded


def _play(stage: Stage, lengths: Lengths) -> None:
    recorded = stage.recorded
    stage.alone(lengths.alone)
    stage.start_greedy()
    stage.watch(lengths.beside)

    _find_out(stage)
    stage.event(f"kubectl cbl slow: {LIMIT_BITS_PER_SECOND // 10**6} Mbit/s", LIMIT_BITS_PER_SECOND)
    stage.ask(*SLOW)
    recorded.kubectl_seconds = time.monotonic() - recorded.events[-1].at
    stage.note_load()
    stage.watch(lengths.limited)
    stage.ask(*WHO)
    stage.show("get", "cbl")

    stage.event("kubectl cbl lift")
    stage.ask(*LIFT)
    stage.watch(lengths.deleted)
    stage.ended()


def _find_out(stage: Stage) -> None:
    """Ask the cluster who gets how much, and Dovecot who that is."""
    stage.ask(*LOOK)
    for _ in range(LOOKS):
        answer = json.loads(stage.cluster.cbl(*LOOK, "-o", "json", timeout=ASK_SECONDS))
        stage.recorded.named = next((row["client"] for row in answer["clients"] if not row["label"]), "")
        if len(answer["nodes"]) == answer["nodesAsked"]:
            break
    stage.recorded.named_at = time.monotonic()
    stage.write(f"on top: {stage.recorded.named or 'nobody'}")
    stage.show("-n", NAMESPACE, "exec", "dovecot", "--", "doveadm", "who")
