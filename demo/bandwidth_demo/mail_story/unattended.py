"""Told with nobody at the keyboard: a policy finds the greedy client, slows it, slows it more, and lets it go.

What is marked as an event is what the policy's status says that was decided, at the time that stands there.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import yaml

from bandwidth_demo.mail_story import recording
from bandwidth_demo.mail_story.recording import GREEDY_ADDRESS, Recording
from bandwidth_demo.mail_story.stage import UPLINK_BITS_PER_SECOND, Stage, StoryError
from bandwidth_demo.recording import Rate
from bandwidth_lab.kind.cluster import Cluster

VALUES = ("policies.enabled=true",)  # of the chart
POLICY_NAME = "fair-use"
MADE_BY = f"clientbandwidth.io/policy={POLICY_NAME}"
THRESHOLD, FIRST_RATE, SECOND_RATE = Rate(20), Rate(5), Rate(2)
LIFT_SECONDS = 30  # the shortest there is
SECOND_TTL_SECONDS = 600
# What somebody types who wants to know.
STATE = ("get", "cbp", POLICY_NAME)
LIMITS = ("get", "cbl")
WHY = ("why", GREEDY_ADDRESS)

PATIENCE_SECONDS = 45.0  # beyond the time after which something is decided: a busy machine reports and writes late
ALL_TOLD = 10  # decisions, which a status holds


class Lengths(NamedTuple):
    """Seconds of each part; `window` and `step` are those of the policy, which ends these parts itself."""

    alone: float
    window: int
    step: int
    second: float
    lifted: float


FULL = Lengths(alone=30, window=30, step=90, second=60, lifted=30)
QUICK = Lengths(alone=12, window=15, step=60, second=20, lifted=15)


def policy(lengths: Lengths) -> str:
    """The policy as a file; all that is unusual of it is that its times are short."""
    return f"""\
apiVersion: clientbandwidth.io/v1alpha1
kind: ClientBandwidthPolicy
metadata:
  name: {POLICY_NAME}
spec:
  when:
    rate: {{above: {THRESHOLD.text}, forSeconds: {lengths.window}}}
    uplink: {{abovePercent: 80, capacity: {UPLINK_BITS_PER_SECOND // 10**6}Mbit, forSeconds: {lengths.window}}}
  then:
    mode: Enforce
    steps:
    - {{rate: {FIRST_RATE.text}, ttlSeconds: {lengths.step}}}
    - {{rate: {SECOND_RATE.text}, ttlSeconds: {SECOND_TTL_SECONDS}}}
    reason: "too much while the uplink is busy; docs/story.md"
  lift: {{forSeconds: {LIFT_SECONDS}}}
"""


def play(cluster: Cluster, lengths: Lengths, write: Callable[[str], None]) -> Recording:
    """Play it in a cluster with the chart and policies enabled; return what was measured."""
    stage = Stage(cluster, Recording(UPLINK_BITS_PER_SECOND, time.monotonic(), recording.UNATTENDED), write)
    try:
        with stage.set():
            _play(stage, lengths)
    finally:
        cluster.kubectl("delete", "cbp", POLICY_NAME, "--ignore-not-found")
    return stage.recorded


def _play(stage: Stage, lengths: Lengths) -> None:
    stage.cluster.apply(yaml.safe_load(policy(lengths)))
    stage.alone(lengths.alone)
    greedy = stage.start_greedy("it begins")

    _await(stage, "Limited", lengths.window, f"the policy: {FIRST_RATE}", FIRST_RATE)
    stage.note_load()
    stage.show(*STATE)
    stage.show(*LIMITS)
    stage.ask(*WHY)
    _await(stage, "Stepped", lengths.step, f"the policy: {SECOND_RATE}", SECOND_RATE)
    stage.watch(lengths.second)
    stage.ask(*WHY)

    greedy.stop()
    stage.event("it stops", SECOND_RATE.bits_per_second)
    _await(stage, "Lifted", LIFT_SECONDS, "the policy lifts it", None)
    stage.ask(*WHY)
    left = stage.cluster.get("cbl")["items"]
    if left:
        raise StoryError(f"limits are left: {[each['metadata']['name'] for each in left]}")
    stage.watch(lengths.lifted)
    _hear(stage)
    stage.ended()


def _await(stage: Stage, what: str, seconds: float, text: str, rate: Rate | None) -> None:
    """Watch until the policy has decided this of the greedy client, and nothing else of anybody; note it as an event.

    Raises StoryError.
    """
    known = len(stage.recorded.decided)
    stage.watch(seconds + PATIENCE_SECONDS, lambda: _hear(stage) > known)
    news = stage.recorded.decided[known:]
    if [(each["decision"], each["client"]) for each in news] != [(what, GREEDY_ADDRESS)]:
        told = [f"{each['decision']} {each['client']}: {each.get('why', '')}" for each in news] or ["nothing"]
        raise StoryError(f"the policy should have decided {what} for {GREEDY_ADDRESS}, and decided {'; '.join(told)}")
    (decision,) = news
    stage.write(f"{what} {GREEDY_ADDRESS}: {decision['why']}")
    limit = rate.bits_per_second if rate is not None else None
    stage.event(text, limit, at=_monotonic(decision["time"]))


def _hear(stage: Stage) -> int:
    """Keep what the status says that was decided; return how much that is."""
    status: Mapping[str, Any] = stage.cluster.get("cbp", POLICY_NAME).get("status", {})
    decided = [*reversed(status.get("decisions", ()))]
    if len(decided) >= ALL_TOLD:
        raise StoryError(f"the policy decided more than there is to tell: {json.dumps(decided)}")
    stage.recorded.decided = decided
    return len(decided)


def _monotonic(text: str) -> float:
    """The time of a decision, which is a whole second of the wall clock, on the clock of the measurements."""
    return time.monotonic() - (time.time() - datetime.datetime.fromisoformat(text).timestamp())
