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
RATIO_MIN, RATIO_MAX = 0.95, 1.02  # of the greedy client's wire rate to its limit
SUFFERS_FACTOR = 1.5  # so much longer than alone does reading take at least, while the uplink is eaten
NORMAL_FACTOR = 1.35  # so much longer than alone may reading take, while the greedy client is limited


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


@dataclasses.dataclass
class Recording:
    """All measurements, on one monotonic clock. Events: the greedy client begins, its limit, the limit's end.

    `named`: the client that `top` showed first, and `named_at` when it had.
    """

    uplink_bits_per_second: int
    limit_bits_per_second: int
    started_at: float
    ended_at: float = 0.0
    events: list[Event] = dataclasses.field(default_factory=list)
    greedy: list[Sample] = dataclasses.field(default_factory=list)
    quiet: list[Sample] = dataclasses.field(default_factory=list)
    fetches: list[Fetch] = dataclasses.field(default_factory=list)
    shown: dict[str, str] = dataclasses.field(default_factory=dict)  # what commands printed, by command
    versions: dict[str, str] = dataclasses.field(default_factory=dict)  # of what it was measured with
    load: float = 0.0  # of the machine, in the middle
    kubectl_seconds: float = 0.0  # how long the command took that made the limit, until it said that it is in force
    named: str = ""
    named_at: float = 0.0


TITLES = ("alone", "beside the greedy client", "the greedy client limited", "the limit deleted")


def phases(recorded: Recording) -> list[Phase]:
    """Return what was measured before, between and after the events, without the seconds just after each.

    A limit begins when the command that made it says that it is in force: on a busy machine that takes its time.
    """
    starts = [recorded.started_at, *(_done(recorded, event) + SETTLE_SECONDS for event in recorded.events)]
    ends = [*(event.at for event in recorded.events), recorded.ended_at]
    return [_phase(recorded, *bounds) for bounds in zip(TITLES, starts, ends, strict=True)]


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


def seconds_until_slowed(recorded: Recording) -> float | None:
    """The time from the command that made the limit to the end of the first 0.2 s within it, if that lasts."""
    event = next(event for event in recorded.events if event.limit_bits_per_second is not None)
    later = [sample for sample in recorded.greedy if sample.at >= event.at]
    for number in range(len(later) - SLOWED_STAYS):
        start, end, much_later = later[number], later[number + SLOWED_WINDOW], later[number + SLOWED_STAYS]
        within = SLOWED_FACTOR * recorded.limit_bits_per_second
        if bits_per_second(start, end) <= within and bits_per_second(start, much_later) <= within:
            return end.at - event.at
    return None


def complaints(recorded: Recording) -> list[str]:
    """Return the measurements that are not as expected, as sentences; none when all is well."""
    alone, beside, limited, deleted = phases(recorded)
    ratio = limited.greedy_bits_per_second / recorded.limit_bits_per_second
    found = []
    if recorded.named != GREEDY_ADDRESS:
        found.append(f"top showed {recorded.named or 'nobody'} first, and not {GREEDY_ADDRESS}")
    if not RATIO_MIN <= ratio <= RATIO_MAX:
        found.append(f"the limited client had {ratio:.3f} of its limit, not {RATIO_MIN} to {RATIO_MAX}")
    if beside.median < SUFFERS_FACTOR * alone.median:
        found.append(f"the quiet client did not suffer: {beside.median:.2f} s, alone {alone.median:.2f} s")
    if limited.median > NORMAL_FACTOR * alone.median:
        found.append(f"reading took {limited.median:.2f} s under the limit, alone {alone.median:.2f} s")
    if deleted.median < SUFFERS_FACTOR * alone.median:
        found.append(f"deleting the limit changed nothing: {deleted.median:.2f} s, alone {alone.median:.2f} s")
    found.extend(f"{phase.failures} readings failed: {phase.title}" for phase in (alone, limited) if phase.failures)
    if seconds_until_slowed(recorded) is None:
        found.append("the greedy client was never slowed")
    return found


def sample(line: Mapping[str, Any]) -> Sample:
    """Read a line of the meter. Its packets are frames, so its bytes are those on the wire."""
    return Sample(line["at"], line["bytes"], 0)


def fetch(line: Mapping[str, Any]) -> Fetch:
    """Read a line of the quiet client."""
    return Fetch(line["began"], line["ended"], line.get("bytes", 0), line.get("failure"))
