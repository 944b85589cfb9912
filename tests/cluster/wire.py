"""What must be true of the traffic that arrives, whatever else the machine has to do."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from bandwidth_lab import UdpFlow, WireMeter, bits_per_second

FRAME_BITS = 12_112
WINDOW_SECONDS = 1.0
WINDOWS_MAX = 30
UNLIMITED_BITS_PER_SECOND = 60_000_000


def assert_held(meters: Sequence[WireMeter], rate: int, windows: int = 3) -> None:
    """Each client's limit is never exceeded, and is reached: a busy machine may starve a sender, but not for ever."""
    slack = 0.03 + 3 * FRAME_BITS / (rate * WINDOW_SECONDS)  # of a window, a few frames more or less are no error
    seen = [[meter.read() for meter in meters]]
    measured: list[list[float]] = [[] for _ in meters]
    while len(seen) <= windows or (min(map(max, measured)) < 1 - slack and len(seen) <= WINDOWS_MAX):
        meters[0].measure(WINDOW_SECONDS)
        seen.append([meter.read() for meter in meters])
        measured = [
            [bits_per_second(a, b) / rate for a, b in itertools.pairwise(moments)]
            for moments in zip(*seen, strict=True)
        ]
    assert all(statistics.fmean(each) <= 1 + slack for each in measured), measured
    assert all(max(each) >= 1 - slack for each in measured), measured


def assert_unlimited(meter: WireMeter) -> None:
    """So much arrives as no limit of these tests lets through."""
    measured = []
    while not measured or (measured[-1] < UNLIMITED_BITS_PER_SECOND and len(measured) < WINDOWS_MAX):
        measured.append(meter.measure(WINDOW_SECONDS / 2))
    assert measured[-1] >= UNLIMITED_BITS_PER_SECOND, measured


def assert_whole(stream: UdpFlow) -> None:
    """Nothing of what was sent got lost, and little is still on its way."""
    assert stream.lost_packets == 0
    assert stream.received_packets > stream.sent_packets / 2 > 0
