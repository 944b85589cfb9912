"""Protected addresses: limits that would slow down the node itself, its gateway or its neighbours are refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bandwidth_agent import verdict
from bandwidth_agent.kernel import model
from bandwidth_agent.settings import Settings
from bandwidth_api import addresses, plan
from bandwidth_api import compile as compiler


class Protection:
    """Which entries touch a protected address; asked again only for entries not seen before."""

    def __init__(self) -> None:
        self._protected: frozenset[plan.Prefix] = frozenset()
        self._judged: dict[
            int, tuple[plan.PlanEntry, verdict.Trouble | None]
        ] = {}  # by id, which the entry keeps alive

    def sift(
        self, entries: tuple[plan.PlanEntry, ...], protected: frozenset[plan.Prefix]
    ) -> tuple[tuple[plan.PlanEntry, ...], dict[str, verdict.Trouble]]:
        """The entries that may be enforced, and for each of the others a trouble."""
        if protected != self._protected:
            self._protected, self._judged = protected, {}
        judged: dict[int, tuple[plan.PlanEntry, verdict.Trouble | None]] = {}
        troubles: dict[str, verdict.Trouble] = {}
        allowed = []
        ordered = sorted(protected)
        for entry in entries:
            known = self._judged.get(id(entry)) or (entry, self._judge(entry, ordered))
            judged[id(entry)] = known
            if known[1] is None:
                allowed.append(entry)
            else:
                troubles[entry.limit] = known[1]
        self._judged = judged
        return tuple(allowed), troubles

    @staticmethod
    def _judge(entry: plan.PlanEntry, protected: Sequence[plan.Prefix]) -> verdict.Trouble | None:
        rejection = compiler.protected(entry, protected)
        return None if rejection is None else verdict.Trouble(rejection.reason, rejection.message, rejection.field)


def prefixes(facts: model.Facts, settings: Settings) -> frozenset[plan.Prefix]:
    """What no limit of this node may touch: its own addresses, its gateways, and what its administrator names."""
    return facts.addresses | facts.gateways | {addresses.parse(text) for text in settings.protected}
