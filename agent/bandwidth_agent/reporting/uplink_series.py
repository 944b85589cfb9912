"""The metrics of the uplinks: what they have sent, and what they can carry.

Reads nothing itself; which capacity counts is decided in `uplink_capacity`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bandwidth_agent.kernel import model
from bandwidth_agent.reporting import uplink_capacity

PREFIX = "client_bandwidth"


class UplinkSeries(Collector):
    """The series of the uplinks, of the reading that was put into `reading` last; None where there was none."""

    def __init__(self, settings: Sequence[tuple[str, int]]) -> None:
        """`settings` as for `uplink_capacity.capacity`."""
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
            known = uplink_capacity.capacity(name, uplink, self._settings)
            if known is not None:
                carries.add_metric([name, known.source], known.bits_per_second)
        yield sent
        yield carries
