"""The metrics of the uplinks: what they have sent, and what they can carry.

Owns which capacity counts: what an administrator set, else what the device says, else none. Reads nothing itself.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bandwidth_agent.kernel import model

PREFIX = "client_bandwidth"


class Capacity(NamedTuple):
    bits_per_second: int
    source: str  # "setting" or "link"


def capacity(name: str, uplink: model.Uplink, settings: Sequence[tuple[str, int]]) -> Capacity | None:
    """Return what an interface can carry; None where nobody says. Of `settings`, (glob, bits/s), the first counts."""
    for glob, bits_per_second in settings:
        if fnmatch.fnmatchcase(name, glob):
            return Capacity(bits_per_second, "setting")
    speed = uplink.speed_bits_per_second
    return None if speed is None else Capacity(speed, "link")


class UplinkSeries(Collector):
    """The series of the uplinks, of the reading that was put into `reading` last; None where there was none."""

    def __init__(self, settings: Sequence[tuple[str, int]]) -> None:
        """`settings` as for `capacity`."""
        self._settings = settings
        self.reading: Mapping[str, model.Uplink] | None = None

    def collect(self) -> Iterator[Metric]:
        if self.reading is None:
            return
        text = "Bytes that an uplink has sent, to whomever."
        sent = CounterMetricFamily(f"{PREFIX}_uplink_bytes", text, labels=["interface"])
        text = "What an uplink can carry: as set, or as its device says. Missing where that is not known."
        carries = GaugeMetricFamily(f"{PREFIX}_uplink_capacity_bits_per_second", text, labels=["interface", "source"])
        for name, uplink in sorted(self.reading.items()):
            sent.add_metric([name], uplink.sent_bytes)
            known = capacity(name, uplink, self._settings)
            if known is not None:
                carries.add_metric([name, known.source], known.bits_per_second)
        yield sent
        yield carries
