"""What must be true of the traffic that arrives, whatever else the machine has to do."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from bandwidth_lab import WireMeter, bits_per_second

FRAME_BITS = 12_112


def assert_held(meters: Sequence[WireMeter], rate: int, windows: int = 3, seconds: float = 1.0) -> None:
    """Each client's limit is never exceeded, and reached: in the best window, as a busy machine may starve a sender."""
    seen = [[meter.read() for meter in meters]]
    for _ in range(windows):
        meters[0].measure(seconds)
        seen.append([meter.read() for meter in meters])
    slack = 0.03 + 3 * FRAME_BITS / (rate * seconds)  # of a window, a few frames more or less are no error
    for number in range(len(meters)):
        moments = [each[number] for each in seen]
        measured = [bits_per_second(a, b) / rate for a, b in itertools.pairwise(moments)]
        assert statistics.fmean(measured) <= 1 + slack, (number, measured)
        assert max(measured) >= 1 - slack, (number, measured)
