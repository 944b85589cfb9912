"""Refuses limits that would slow down the node itself, its gateway or other addresses that it needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bandwidth_agent.kernel import model
from bandwidth_agent.planner import changed_entries
from bandwidth_agent.settings import Settings
from bandwidth_api import addresses, plan
from bandwidth_api.compiler import protected_addresses
from bandwidth_api.conditions import Problem


class Protection:
    """Checks which entries touch a protected address; each entry is checked only once."""

    def __init__(self) -> None:
        self._protected = protected_addresses.index(frozenset())
        self._entries: tuple[plan.PlanEntry, ...] = ()
        self._problems: list[Problem | None] = []  # of each of the entries

    def sift(
        self,
        entries: tuple[plan.PlanEntry, ...],
        protected: frozenset[plan.Prefix],
        why: Mapping[plan.Prefix, str] = MappingProxyType({}),
    ) -> tuple[tuple[plan.PlanEntry, ...], dict[str, Problem]]:
        """Return the entries that may be enforced, and by limit the problem of the others; `why`: by address."""
        if protected != self._protected.known:
            self._protected = protected_addresses.index(protected)
            self._entries, self._problems = (), []
        moved = changed_entries.places(entries, self._entries)
        if moved is not None:
            problems = list(self._problems)
            for place in moved:
                problems[place] = protected_addresses.protected(entries[place], self._protected, why)
        else:
            known = dict(zip(map(id, self._entries), self._problems, strict=True))
            problems = [
                known[i] if i in known else protected_addresses.protected(e, self._protected, why)
                for i, e in zip(map(id, entries), entries, strict=True)
            ]
        self._entries, self._problems = entries, problems
        if not any(problems):
            return entries, {}
        found = {e.limit: problem for e, problem in zip(entries, problems, strict=True) if problem is not None}
        return tuple([e for e, problem in zip(entries, problems, strict=True) if problem is None]), found


def prefixes(facts: model.Facts, settings: Settings) -> frozenset[plan.Prefix]:
    """Return what no limit of this node may touch.

    That is: its own addresses, its gateways, the addresses that it depends on, and those its administrator names.
    """
    return (
        facts.addresses | facts.gateways | facts.spared.keys() | {addresses.parse(text) for text in settings.protected}
    )
