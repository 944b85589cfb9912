"""The agent's Prometheus metrics, made at each scrape.

Owns the names, labels and help texts (docs/reference/metrics.md), except those of single limits
(`limit_series`), of clients (`client_series`), of uplinks (`uplink_series`) and of policies (`policy_series`).
Reads the kernel's counters through a handle of its own; never writes anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from bandwidth_agent import report
from bandwidth_agent.kernel import contract, model, objects
from bandwidth_agent.reporting import health, limit_series, uplink_series

if TYPE_CHECKING:
    from bandwidth_agent.reporting import (
        api_health,  # and with it a client of the API server, which a host need not load
    )

PREFIX = "client_bandwidth"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Page:
    """The page /metrics. `kernel` opens a handle when it is first needed.

    `believed` returns the kernel state that the last pass left behind, None if it is not known.
    """

    def __init__(
        self,
        vitals: health.Health,
        kernel: Callable[[], contract.Kernel],
        believed: Callable[[], model.State | None],
        *,
        monotonic: Callable[[], float],
        version: str,
        max_limits: int,
        api_status: Callable[[], api_health.ApiStatus] | None = None,
        clients: Collector | None = None,
        uplink_capacity: Sequence[tuple[str, int]] = (),
        policies: Collector | None = None,
    ) -> None:
        """`uplink_capacity`: what interfaces can carry, as `uplink_capacity.capacity` takes it."""
        self._vitals = vitals
        self._kernel = kernel
        self._believed = believed
        self._lock = threading.Lock()  # scrapes may overlap, and the kernel handle serves one at a time
        self._limits = limit_series.LimitSeries(max_limits)
        self._of_kernel = _Kernel()
        self._uplinks = uplink_series.UplinkSeries(uplink_capacity)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Agent(vitals, monotonic, version))
        self._registry.register(self._of_kernel)
        self._registry.register(self._uplinks)
        if api_status is not None:
            self._registry.register(_Cluster(api_status, monotonic))
        for more in (clients, policies):
            if more is not None:
                self._registry.register(more)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return the current metrics, in Prometheus' text format."""
        with self._lock:
            made = self._vitals.vitals().report
            names = [interface.name for interface in made.interfaces] if made is not None else []
            self._uplinks.reading = counters = None
            try:
                kernel = self._kernel()
                self._uplinks.reading = kernel.uplink_counters(names)
                counters = kernel.counters()
            except OSError:
                pass  # what could be read is served, and that the rest could not
            state = self._believed()
            if state is not None:
                self._limits.follow(state)
            self._of_kernel.omitted = self._limits.omitted
            self._of_kernel.counters = counters
            text = generate_latest(self._registry)
            return text if counters is None else text + self._limits.text(counters)


class _Agent(Collector):
    """The metrics of the loop and its passes."""

    def __init__(self, vitals: health.Health, monotonic: Callable[[], float], version: str) -> None:
        self._vitals = vitals
        self._monotonic = monotonic
        self._version = version

    def collect(self) -> Iterator[Metric]:
        now, vitals = self._monotonic(), self._vitals.vitals()
        yield InfoMetricFamily(f"{PREFIX}_agent", "The program that serves this.", {"version": self._version})
        yield _counter("passes", "Passes made over the kernel.", vitals.passes)
        yield _counter("failed_passes", "Passes after which the kernel was not as wanted.", vitals.failed_passes)
        yield _counter("kernel_changes", "Kernel objects added, altered or removed.", vitals.changes)
        repairs = CounterMetricFamily(
            f"{PREFIX}_drift_repairs",
            "Objects of ours that another program changed and we put right.",
            labels=["layer"],
        )
        for layer in objects.LAYERS:
            repairs.add_metric([layer], vitals.repairs.get(layer, 0))
        yield repairs
        yield _durations(vitals)
        if vitals.plan_at is not None:
            yield _gauge("plan_age_seconds", "Time since the limits last changed.", now - vitals.plan_at)
        yield _gauge("loop_silence_seconds", "Time since the loop last came round.", now - vitals.turned_at)
        yield _gauge("ready", "1 after the first pass with all limits read.", float(vitals.complete))
        if vitals.report is not None:
            yield from _of_report(vitals.report)


def _of_report(made: report.Report) -> Iterator[Metric]:
    limits = GaugeMetricFamily(f"{PREFIX}_limits", "Limits of this node by state.", labels=["state"])
    limits.add_metric(["programmed"], made.programmed)
    limits.add_metric(["failed"], made.failed)
    yield limits
    failing = GaugeMetricFamily(f"{PREFIX}_failing_limits", "Limits not in force as written.", labels=["reason"])
    reasons = [item.reason.value for item in made.failing]
    for reason in sorted(set(reasons)):
        failing.add_metric([reason], reasons.count(reason))
    yield failing
    text = "Limits of this node by whether their packets were seen to pass their class."
    checked = GaugeMetricFamily(f"{PREFIX}_checked_limits", text, labels=["result"])
    for result, count in made.checked.items():
        checked.add_metric([result], count)
    yield checked
    text = "1 if something shows that packets may leave this node past netfilter."
    yield _gauge("datapath_sign", text, float(bool(made.datapath_sign)))
    placed = GaugeMetricFamily(
        f"{PREFIX}_interface",
        "1 for each egress interface, with how it is shaped and why.",
        labels=["interface", "root_qdisc", "placement", "reason"],
    )
    for interface_ in made.interfaces:
        placed.add_metric([interface_.name, interface_.root_qdisc, interface_.placement, interface_.reason.value], 1)
    yield placed
    classifier = GaugeMetricFamily(f"{PREFIX}_classifier", "1 for the classifier in use.", labels=["classifier"])
    classifier.add_metric([made.classifier], 1)
    yield classifier
    yield _gauge("conflicts", "Objects of ours that were given up to another program.", len(made.conflicts))


def _durations(vitals: health.Vitals) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"{PREFIX}_apply_duration_seconds", "How long passes took.")
    buckets, total = [], 0
    for bound, count in zip((*map(str, health.DURATION_BUCKETS), "+Inf"), vitals.durations, strict=True):
        total += count
        buckets.append((bound, float(total)))
    family.add_metric([], buckets, vitals.duration_sum_seconds)
    return family


class _Cluster(Collector):
    """The metrics of an agent's requests to the API server."""

    def __init__(self, api_status: Callable[[], api_health.ApiStatus], monotonic: Callable[[], float]) -> None:
        self._api_status = api_status
        self._monotonic = monotonic

    def collect(self) -> Iterator[Metric]:
        now, known = self._monotonic(), self._api_status()
        text = "Time since the API server last brought anything of a collection."
        silence = GaugeMetricFamily(f"{PREFIX}_watch_silence_seconds", text, labels=["collection"])
        for name, heard_at in sorted(known.heard_at.items()):
            silence.add_metric([name], now - heard_at)
        yield silence
        yield _labelled("lists", "Whole lists read from the API server.", "collection", known.lists)
        text = "Lists and watches that failed and were begun again."
        failures = CounterMetricFamily(f"{PREFIX}_read_failures", text, labels=["collection", "reason"])
        for (name, reason), count in sorted(known.troubles.items()):
            failures.add_metric([name, reason], count)
        yield failures
        if known.reported_at is not None:
            text = "Time since this node's state was last written, or found as it should be."
            yield _gauge("last_report_age_seconds", text, now - known.reported_at)
        yield _counter("reports", "Reports of this node's state that succeeded.", known.reports)
        yield _labelled("report_failures", "Reports that failed and were tried again.", "reason", known.report_failures)


class _Kernel(Collector):
    """The metrics of the kernel that belong to no single limit."""

    def __init__(self) -> None:
        self.counters: model.Counters | None = None
        self.omitted = 0

    def collect(self) -> Iterator[Metric]:
        text = "Classes without series of their own, because --metrics-max-limits was reached."
        yield _gauge("limit_series_omitted", text, self.omitted)
        text = "0 when the kernel's counters could not be read."
        yield _gauge("kernel_readable", text, float(self.counters is not None))
        if self.counters is not None:
            text = "Packets that passed in no class."
            yield _labelled("direct_packets", text, "device", self.counters.direct_packets)
            matched = {f"IPv{family}": packets for family, packets in self.counters.rules.items()}
            yield _labelled("matched_packets", "Packets to limited clients.", "family", matched)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
