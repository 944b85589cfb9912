"""Refuses a limit that touches a protected address, or holds too many addresses, when its file is read.

So a bad edit changes nothing: what was accepted before stays in force. Checks only limits that are new or changed;
each pass checks all of them (`planner.admission`), because addresses and gateways change later. Owns no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bandwidth_agent.kernel import model
from bandwidth_agent.planner.admission import protected_addresses
from bandwidth_agent.settings import Settings
from bandwidth_api import plan
from bandwidth_api.compiler import selector, width
from bandwidth_api.compiler.protected_addresses import index, protected
from bandwidth_api.conditions import Problem


class Guard:
    """Checks limits for one node; `facts` returns the newest facts of that node."""

    def __init__(self, facts: Callable[[], model.Facts], settings: Settings, labels: Mapping[str, str]) -> None:
        self._facts = facts
        self._settings = settings
        self._labels = dict(labels)
        self._seen: model.Facts | None = None
        self._protected = index(frozenset())

    def __call__(self, entry: plan.PlanEntry) -> Problem | None:
        """Return why this node may not enforce the limit; None if it may, or if the limit is not for this node."""
        if entry.mode is plan.Mode.DISABLED or not selector.selects(entry.node_selector, self._labels):
            return None
        facts = self._facts()
        if facts is not self._seen:
            self._seen = facts
            self._protected = index(protected_addresses.prefixes(facts, self._settings))
        return protected(entry, self._protected, facts.spared) or width.refused(
            entry, self._settings.widest, "--widest IPV4,IPV6"
        )
