"""Metrics of policies, without addresses: how many clients, what was decided, what stood in the way, what is wrong.

Series of a policy that is gone go with it. Decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from bandwidth_api.conditions import Condition, ConditionType, Status
from bandwidth_api.policy.decision import Decision
from bandwidth_api.policy.status import PASSING, Counts

TOLD = (ConditionType.READY, *PASSING)


class PolicySeries:
    """The series of all policies. May be used by several threads: that of a term, and that of the one before."""

    def __init__(self, registry: CollectorRegistry, prefix: str) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"{prefix}_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{prefix}_{name}", text, labels, registry=registry)

        self._clients = gauge("policy_clients", "Clients of a policy: watched, hot, limited", "policy", "state")
        self._condition = gauge("policy_condition", "1 while a condition of a policy holds", "policy", "type")
        self._decisions = counter(
            "policy_decisions_total", "Decisions of a policy; mode is Enforce or Observe", "policy", "decision", "mode"
        )
        self._obstacles = counter(
            "policy_obstacles_total", "What stood in the way of limiting a client", "policy", "obstacle"
        )
        self._lock = threading.Lock()
        self._known: set[tuple[Gauge | Counter, tuple[str, ...]]] = set()

    def counted(self, policy: str, counts: Counts, stated: Iterable[Condition]) -> None:
        """Set what a policy sees and what is stated of it."""
        for state, count in (("watched", counts.watched), ("hot", counts.hot), ("limited", counts.limited)):
            self._set(self._clients, count, policy, state)
        holds = {each.type for each in stated if each.status is Status.TRUE}
        for kind in TOLD:
            self._set(self._condition, kind in holds, policy, kind.value)

    def decided(self, decision: Decision) -> None:
        """Count a decision, and what stood in its way."""
        self._count(
            self._decisions, decision.policy, decision.what.value, "Enforce" if decision.enforced else "Observe"
        )
        if decision.block is not None:
            self._count(self._obstacles, decision.policy, decision.block.obstacle.value)

    def keep(self, policies: Collection[str]) -> None:
        """Forget the series of all policies but these."""
        with self._lock:
            self._forget({each for each in self._known if each[1][0] not in policies})

    def clear(self) -> None:
        """Forget what is so only while this replica acts; what is counted goes on."""
        with self._lock:
            self._forget({each for each in self._known if isinstance(each[0], Gauge)})

    def _set(self, gauge: Gauge, value: float, *labels: str) -> None:
        with self._lock:
            gauge.labels(*labels).set(value)
            self._known.add((gauge, labels))

    def _count(self, counter: Counter, *labels: str) -> None:
        with self._lock:
            counter.labels(*labels).inc()
            self._known.add((counter, labels))

    def _forget(self, gone: set[tuple[Gauge | Counter, tuple[str, ...]]]) -> None:
        for metric, labels in gone:
            metric.remove(*labels)
        self._known -= gone
