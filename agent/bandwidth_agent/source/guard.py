"""Refuses a limit that would touch a protected address already when it is read, so that what was accepted before stays.

The pass asks again (`protection`), because addresses and gateways change after a limit was read; here it is asked for
limits that are new or changed. Owns no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bandwidth_agent import protection
from bandwidth_agent.kernel import model
from bandwidth_agent.settings import Settings
from bandwidth_api import compile as compiler
from bandwidth_api import plan, selector
from bandwidth_api.conditions import Rejection


class Guard:
    """For one node: `facts` gives what is known of it, the newest there is."""

    def __init__(self, facts: Callable[[], model.Facts], settings: Settings, labels: Mapping[str, str]) -> None:
        self._facts = facts
        self._settings = settings
        self._labels = dict(labels)
        self._seen: model.Facts | None = None
        self._protected: frozenset[plan.Prefix] = frozenset()

    def __call__(self, entry: plan.PlanEntry) -> Rejection | None:
        """Why this node may not enforce the limit; None where it may, or is not asked to."""
        if entry.mode is plan.Mode.DISABLED or not selector.selects(entry.node_selector, self._labels):
            return None
        facts = self._facts()
        if facts is not self._seen:
            self._seen, self._protected = facts, protection.prefixes(facts, self._settings)
        return compiler.protected(entry, self._protected)
