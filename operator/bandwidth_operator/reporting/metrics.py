"""The operator's Prometheus metrics. Owns the registry; decides nothing."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bandwidth_operator.reporting.policy_series import PolicySeries

PREFIX = "bandwidth_operator"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", text, buckets=SECONDS, registry=self.registry)

        self.leading = gauge("leading", "1 while this replica acts, 0 while it stands by")
        self.term = gauge("term", "The term of this replica's last leadership")
        self.objects = gauge("objects", "Objects known, by kind", "kind")
        self.limits = gauge("limits", "Limits by the reason of their condition Ready", "reason")
        self.nodes = gauge("nodes", "Nodes that run an agent: current, behind, or troubled", "state")
        self.plan_entries = gauge("plan_entries", "Limits in the plan")
        self.plan_slices = gauge("plan_slices", "Slices of the plan")
        self.statuses_waiting = gauge("statuses_waiting", "Statuses that wait to be written")
        self.watch_silence = gauge("watch_silence_seconds", "Since when a watch owes what happened", "kind")
        self.guard_rails = gauge("guard_rail_in_force", "1 if the API server was seen to refuse by this rule", "rule")
        self.statuses_refused = counter("statuses_refused_total", "Statuses that the API server refused for good")
        self.writes = counter("writes_total", "Writes to the API server, by object and outcome", "object", "outcome")
        self.events_dropped = counter("events_dropped_total", "Events not written, to leave room for what matters")
        self.corrected = counter("corrected_total", "Objects that a list had to correct after the watch", "kind")
        self.policies = PolicySeries(self.registry, PREFIX)
        self.compile_seconds = histogram("compile_seconds", "From all limits to the slices to write")
        self.publish_seconds = histogram("publish_seconds", "Writing the slices of one plan")
        self.rollup_seconds = histogram("rollup_seconds", "From all node states to what became of each limit")

    def guard_rail(self, rule: str, holds: bool | None) -> None:
        """Set whether a rule is in force; None: unknown, so that it has no value."""
        if holds is None:
            with contextlib.suppress(KeyError):
                self.guard_rails.remove(rule)
        else:
            self.guard_rails.labels(rule).set(holds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
