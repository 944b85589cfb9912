"""The agent's Prometheus metrics, read when they are asked for.

Owns the names, labels and help texts (docs/reference/metrics.md), and the bound on how many limits get series of their
own. Reads the kernel's counters through a handle of its own; never writes anything.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from bandwidth_agent import health, report, whose
from bandwidth_agent.kernel import interface, model
from bandwidth_api import names

PREFIX = "client_bandwidth"

# Per limit: name, kind of metric, help, and the value in a class's counters.
_PER_LIMIT: tuple[tuple[str, type[CounterMetricFamily] | type[GaugeMetricFamily], str, str], ...] = (
    ("bytes", CounterMetricFamily, "Bytes sent to the clients of a limit.", "bytes"),
    ("packets", CounterMetricFamily, "Packets sent to the clients of a limit, GSO segments counted.", "packets"),
    ("drops", CounterMetricFamily, "Packets dropped because a limit's queue was full.", "drops"),
    ("over_limit", CounterMetricFamily, "How often a limit made a packet wait.", "overlimits"),
    ("backlog_bytes", GaugeMetricFamily, "Bytes that wait in a limit's queue.", "backlog_bytes"),
)


def registry(
    vitals: health.Health,
    kernel: interface.Kernel,
    believed: Callable[[], model.State | None],
    *,
    monotonic: Callable[[], float],
    version: str,
    max_limits: int,
) -> CollectorRegistry:
    """Everything that /metrics serves. `believed` is the kernel state that the last pass left behind, if known."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_Agent(vitals, monotonic, version))
    made.register(_Limits(kernel, believed, max_limits))
    ProcessCollector(registry=made)
    return made


class _Agent(Collector):
    """What the loop said last."""

    def __init__(self, vitals: health.Health, monotonic: Callable[[], float], version: str) -> None:
        self._vitals = vitals
        self._monotonic = monotonic
        self._version = version

    def collect(self) -> Iterator[Metric]:
        now, said = self._monotonic(), self._vitals.vitals()
        yield InfoMetricFamily(f"{PREFIX}_agent", "The program that serves this.", {"version": self._version})
        yield _counter("passes", "Passes made over the kernel.", said.passes)
        yield _counter("failed_passes", "Passes after which the kernel was not as wanted.", said.failed_passes)
        yield _counter("kernel_changes", "Kernel objects added, altered or removed.", said.changes)
        repairs = CounterMetricFamily(
            f"{PREFIX}_drift_repairs",
            "Objects of ours that another program changed and we put right.",
            labels=["layer"],
        )
        for layer in sorted({"ifb", "tree", "hook", "set", "chain"} | set(said.repairs)):
            repairs.add_metric([layer], said.repairs.get(layer, 0))
        yield repairs
        yield _durations(said)
        if said.plan_at is not None:
            yield _gauge("plan_age_seconds", "Time since the limits last changed.", now - said.plan_at)
        yield _gauge("loop_silence_seconds", "Time since the loop last came round.", now - said.turned_at)
        yield _gauge("ready", "1 after the first pass with all limits read.", float(said.complete))
        if said.report is not None:
            yield from _of_report(said.report)


def _of_report(made: report.Report) -> Iterator[Metric]:
    limits = GaugeMetricFamily(f"{PREFIX}_limits", "Limits of this node by state.", labels=["state"])
    limits.add_metric(["programmed"], made.programmed)
    limits.add_metric(["failed"], made.failed)
    yield limits
    failing = GaugeMetricFamily(f"{PREFIX}_failing_limits", "Limits not in force as written.", labels=["reason"])
    reasons = [item.reason for item in made.failing]
    for reason in sorted(set(reasons)):
        failing.add_metric([reason], reasons.count(reason))
    yield failing
    placed = GaugeMetricFamily(
        f"{PREFIX}_interface",
        "1 for each egress interface, with how it is shaped and why.",
        labels=["interface", "root_qdisc", "placement", "reason"],
    )
    for interface_ in made.interfaces:
        placed.add_metric([interface_.name, interface_.root_qdisc, interface_.placement, interface_.reason], 1)
    yield placed
    classifier = GaugeMetricFamily(f"{PREFIX}_classifier", "1 for the classifier in use.", labels=["classifier"])
    classifier.add_metric([made.classifier], 1)
    yield classifier
    yield _gauge("conflicts", "Objects of ours that were given up to another program.", len(made.conflicts))


def _durations(said: health.Vitals) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"{PREFIX}_apply_duration_seconds", "How long passes took.")
    buckets, total = [], 0
    for bound, count in zip((*map(str, health.DURATION_BUCKETS), "+Inf"), said.durations, strict=True):
        total += count
        buckets.append((bound, float(total)))
    family.add_metric([], buckets, said.duration_sum_seconds)
    return family


class _Limits(Collector):
    """What the kernel counts, by limit."""

    def __init__(self, kernel: interface.Kernel, believed: Callable[[], model.State | None], max_limits: int) -> None:
        self._kernel = kernel
        self._believed = believed
        self._max_limits = max_limits
        self._lock = threading.Lock()  # scrapes may overlap, the kernel handle is for one at a time
        self._state: model.State | None = None
        self._owners: Mapping[int, names.Label] = {}

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            yield from self._collected()

    def _collected(self) -> Iterable[Metric]:
        try:
            counters = self._kernel.counters()
        except OSError:
            return [_gauge("kernel_readable", "0 when the kernel's counters could not be read.", 0)]
        state = self._believed()
        if state is not None and state is not self._state:
            self._state, self._owners = state, whose.owners(state)
        return [
            _gauge("kernel_readable", "0 when the kernel's counters could not be read.", 1),
            *self._by_limit(counters),
            _labelled(
                "direct_packets", "Packets that passed a tree of ours in no class.", "device", counters.direct_packets
            ),
            _labelled(
                "looked_up_packets",
                "Packets whose destination was looked up.",
                "family",
                {f"IPv{family}": packets for family, packets in counters.rules.items()},
            ),
        ]

    def _by_limit(self, counters: model.Counters) -> Iterable[Metric]:
        labels = ["limit", "client"]
        families = [kind(f"{PREFIX}_limit_{name}", text, labels=labels) for name, kind, text, _ in _PER_LIMIT]
        values = [operator.attrgetter(field) for _, _, _, field in _PER_LIMIT]
        rates = GaugeMetricFamily(f"{PREFIX}_limit_rate_bits_per_second", "The rate of a limit.", labels=labels)
        omitted = 0
        trees = self._state.trees if self._state is not None else {}
        shown = 0
        for number, owner in sorted(self._owners.items()):
            devices = [device for device, tree in trees.items() if number in tree.classes]
            if not devices:
                continue
            if shown >= self._max_limits:
                omitted += 1
                continue
            shown += 1
            found = [c for d in devices if (c := counters.classes.get(d, {}).get(number)) is not None]
            who = [owner.key.limit, owner.key.client]
            for family, value in zip(families, values, strict=True):
                family.add_metric(who, sum(map(value, found)))
            rates.add_metric(who, trees[devices[0]].classes[number].rate * 8)
        text = "Classes without series of their own, because --metrics-max-limits was reached."
        return [*families, rates, _gauge("limit_series_omitted", text, omitted)]


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
