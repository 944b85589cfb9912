"""The measurements of the story and their evaluation. Pure: measures nothing and prints nothing."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bandwidth_demo.recording import Event
from bandwidth_lab.meter import Sample, bits_per_second

GREEDY_ADDRESS = "203.0.113.7"
SETTLE_SECONDS = 4.0  # after a change, until what was under way before it has arrived
SLOWED_FACTOR = 1.05  # of the limit: no faster than this is slowed
SLOWED_WINDOW, SLOWED_STAYS = 2, 20  # samples of 0.1 s: a rate is measured over the first, must hold for the second
SECOND = 10  # samples

# The parts of each telling, between its events.
BY_HAND = ("alone", "beside the greedy client", "the greedy client limited", "the limit deleted")
UNATTENDED = ("alone", "beside the greedy client", "first step", "second step", "the greedy client stops", "lifted")


class Fetch(NamedTuple):
    """One reading of mail: connect, log in, open the mailbox, fetch, log out."""

    began: float
    ended: float
    bytes: int
    failure: str | None

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Phase(NamedTuple):
    """What was measured between two events."""

    title: str
    fetch_seconds: tuple[float, ...]  # sorted
    failures: int
    greedy_bits_per_second: float
    quiet_bits_per_second: float

    @property
    def median(self) -> float:
        return statistics.median(self.fetch_seconds) if self.fetch_seconds else math.inf

    @property
    def p95(self) -> float:
        """The 95th percentile by nearest rank, so one of the measured values."""
        if not self.fetch_seconds:
            return math.inf
        return self.fetch_seconds[math.ceil(0.95 * len(self.fetch_seconds)) - 1]


class Shown(NamedTuple):
    """What a command printed, and when."""

    at: float
    command: str
    printed: str


@dataclasses.dataclass
class Recording:
    """All measurements, on one monotonic clock, and the names of the parts between the events.

    `named`: the client that `top` showed first, and `named_at` when it had. `decided`: what a policy decided, the first
    first, as its status has it.
    """

    uplink_bits_per_second: int
    started_at: float
    titles: tuple[str, ...] = BY_HAND
    ended_at: float = 0.0
    events: list[Event] = dataclasses.field(default_factory=list)
    greedy: list[Sample] = dataclasses.field(default_factory=list)
    quiet: list[Sample] = dataclasses.field(default_factory=list)
    fetches: list[Fetch] = dataclasses.field(default_factory=list)
    shown: list[Shown] = dataclasses.field(default_factory=list)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)  # of what it was measured with
    load: float = 0.0  # of the machine, in the middle
    kubectl_seconds: float = 0.0  # how long the command took that made the limit, until it said that it is in force
    named: str = ""
    named_at: float = 0.0
    decided: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)


def phases(recorded: Recording) -> list[Phase]:
    """Return what was measured before, between and after the events, without the seconds just after each.

    A limit begins when the command that made it says that it is in force: on a busy machine that takes its time.
    """
    starts = [recorded.started_at, *(_done(recorded, event) + SETTLE_SECONDS for event in recorded.events)]
    ends = [*(event.at for event in recorded.events), recorded.ended_at]
    return [_phase(recorded, *bounds) for bounds in zip(recorded.titles, starts, ends, strict=True)]


def _done(recorded: Recording, event: Event) -> float:
    return event.at + (recorded.kubectl_seconds if event.limit_bits_per_second is not None else 0.0)


def _phase(recorded: Recording, title: str, start: float, end: float) -> Phase:
    within = [fetch for fetch in recorded.fetches if fetch.began >= start and fetch.ended <= end]
    return Phase(
        title,
        tuple(sorted(fetch.seconds for fetch in within if fetch.failure is None)),
        sum(fetch.failure is not None for fetch in within),
        _rate(recorded.greedy, start, end),
        _rate(recorded.quiet, start, end),
    )


def _rate(samples: Sequence[Sample], start: float, end: float) -> float:
    within = [sample for sample in samples if start <= sample.at <= end]
    return bits_per_second(within[0], within[-1]) if len(within) > 1 else 0.0


def seconds_until_slowed(recorded: Recording, event: Event, limit_bits_per_second: int) -> float | None:
    """The time from an event to the end of the first 0.2 s within a limit, if that lasts."""
    later = [sample for sample in recorded.greedy if sample.at >= event.at]
    within = SLOWED_FACTOR * limit_bits_per_second
    for number in range(len(later) - SLOWED_STAYS):
        start, end, much_later = later[number], later[number + SLOWED_WINDOW], later[number + SLOWED_STAYS]
        if bits_per_second(start, end) <= within and bits_per_second(start, much_later) <= within:
            return end.at - event.at
    return None


def fastest_second(recorded: Recording, start: float, end: float) -> float:
    """The greedy client's rate in its fastest second between two times, in bits per second."""
    within = [sample for sample in recorded.greedy if start <= sample.at <= end]
    return max((bits_per_second(*pair) for pair in zip(within, within[SECOND:], strict=False)), default=0.0)


def sample(line: Mapping[str, Any]) -> Sample:
    """Read a line of the meter. Its packets are frames, so its bytes are those on the wire."""
    return Sample(line["at"], line["bytes"], 0)


def fetch(line: Mapping[str, Any]) -> Fetch:
    """Read a line of the quiet client."""
    return Fetch(line["began"], line["ended"], line.get("bytes", 0), line.get("failure"))
