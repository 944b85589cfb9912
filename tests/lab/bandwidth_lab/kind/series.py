"""What arrived at a client over time, and how fast that was. Pure: samples in, rates out.

Rates are bits per second; on the wire, headers and Ethernet included, unless they are called payload. Times are of one
monotonic clock, in seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bandwidth_lab.meter import ETHERNET_BYTES, HEADER_BYTES

WINDOW_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """What has arrived since the client exists: bytes on the wire by family, payload and dials by flow.

    It was read at some moment between `at` and `until`.
    """

    at: float
    until: float
    wire: Mapping[int, float]
    payload: Mapping[str, int]
    dials: Mapping[str, int]


def read(line: Mapping[str, Any]) -> Sample:
    """Parse a line of `inside/client.py` into a sample."""
    return Sample(
        line["at"],
        line["until"],
        {family: wire_bytes(family, *line[str(family)]) for family in (4, 6)},
        {name: count for name, (count, _) in line["flows"].items()},
        {name: dials for name, (_, dials) in line["flows"].items()},
    )


def wire_bytes(family: int, packets: int, segments: int, octets: int) -> float:
    """Bytes on the wire of what the IP layer has counted: its packets may be of many segments with one header."""
    header = HEADER_BYTES["tcp", family] - ETHERNET_BYTES
    return octets + (segments - packets) * header + segments * ETHERNET_BYTES


def between(samples: Sequence[Sample], since: float, until: float = math.inf) -> Sequence[Sample]:
    """The samples of a time."""
    return [sample for sample in samples if since <= sample.at <= until]


def rate(samples: Sequence[Sample], family: int) -> float:
    """The mean rate from the first to the last sample; of fewer than two it is not a number."""
    if len(samples) < 2:
        return math.nan
    first, last = samples[0], samples[-1]
    return (last.wire[family] - first.wire[family]) * 8 / (last.at - first.at)


def payload_rate(samples: Sequence[Sample], flow: str) -> float:
    """The mean rate of one flow's payload from the first to the last sample; of fewer than two it is not a number."""
    if len(samples) < 2:
        return math.nan
    first, last = samples[0], samples[-1]
    return (last.payload[flow] - first.payload[flow]) * 8 / (last.at - first.at)


def seconds(samples: Sequence[Sample], family: int) -> list[tuple[float, float]]:
    """(its beginning, mean rate) of every whole second, one beginning at each sample.

    Where a busy machine took its time over a reading, the rate is the least that it can have been.
    """
    found, end = [], 0
    for start in samples:
        while end < len(samples) and samples[end].at < start.at + WINDOW_SECONDS:
            end += 1
        if end == len(samples):
            break
        moved = samples[end].wire[family] - start.wire[family]
        found.append((start.at, moved * 8 / (samples[end].until - start.at)))
    return found
