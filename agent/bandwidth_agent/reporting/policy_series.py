"""The metrics of the policies of one host, without addresses: clients, decisions, obstacles, what is wrong.

Owns their names, labels and help texts (docs/reference/metrics.md); those of a cluster are the operator's and have the
same labels. Made at each scrape from what the policies decided by then; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bandwidth_agent.policies.told import Told
from bandwidth_api.conditions import ConditionType, Status
from bandwidth_api.policy import status
from bandwidth_api.policy.reports import Now
from bandwidth_runtime.clock import Clock

PREFIX = "client_bandwidth"
TYPES = (ConditionType.READY, *status.PASSING)


class PolicySeries(Collector):
    """The series of all policies. Thread-safe, since `told` returns values."""

    def __init__(self, told: Callable[[], Told], clock: Clock) -> None:
        self._told, self._clock = told, clock

    def collect(self) -> Iterator[Metric]:
        """Yield what the policies see and decided; of one that is gone nothing."""
        told, now = self._told(), Now(self._clock.monotonic(), self._clock.wall())
        clients = GaugeMetricFamily(
            f"{PREFIX}_policy_clients", "Clients of a policy: watched, hot, limited.", labels=["policy", "state"]
        )
        text = "1 while a condition of a policy holds."
        condition = GaugeMetricFamily(f"{PREFIX}_policy_condition", text, labels=["policy", "type"])
        for policy in told.policies:
            counts = status.counts(told.book, policy, told.nodes, now)
            for state, count in (("watched", counts.watched), ("hot", counts.hot), ("limited", counts.limited)):
                clients.add_metric([policy.name, state], count)
            holds = {each.type for each in status.found(policy, counts) if each.status is Status.TRUE}
            for kind in TYPES:
                condition.add_metric([policy.name, kind.value], float(kind in holds))
        text = "Decisions of a policy; mode is Enforce or Observe."
        decisions = CounterMetricFamily(f"{PREFIX}_policy_decisions", text, labels=["policy", "decision", "mode"])
        for labels, count in sorted(told.decisions.items()):
            decisions.add_metric(labels, count)
        text = "What stood in the way of limiting a client."
        obstacles = CounterMetricFamily(f"{PREFIX}_policy_obstacles", text, labels=["policy", "obstacle"])
        for (policy_name, obstacle), count in sorted(told.obstacles.items()):
            obstacles.add_metric([policy_name, obstacle], count)
        yield from (clients, condition, decisions, obstacles)
