"""Protected addresses: limits that would slow down the node itself, its gateway or its neighbours are refused. Pure."""

from __future__ import annotations

import operator
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
        self._entries: tuple[plan.PlanEntry, ...] = ()
        self._judged: tuple[verdict.Trouble | None, ...] = ()  # of each of the entries

    def sift(
        self, entries: tuple[plan.PlanEntry, ...], protected: frozenset[plan.Prefix]
    ) -> tuple[tuple[plan.PlanEntry, ...], dict[str, verdict.Trouble]]:
        """The entries that may be enforced, and for each of the others a trouble."""
        if protected != self._protected:
            self._protected, self._entries, self._judged = protected, (), ()
        if len(entries) == len(self._entries) and all(map(operator.is_, entries, self._entries)):
            judged = self._judged
        else:
            known = dict(zip(map(id, self._entries), self._judged, strict=True))
            ordered = sorted(protected)
            judged = tuple(
                [
                    known[i] if i in known else self._judge(e, ordered)
                    for i, e in zip(map(id, entries), entries, strict=True)
                ]
            )
            self._entries, self._judged = entries, judged
        if not any(judged):
            return entries, {}
        troubles = {e.limit: trouble for e, trouble in zip(entries, judged, strict=True) if trouble is not None}
        return tuple([e for e, trouble in zip(entries, judged, strict=True) if trouble is None]), troubles

    @staticmethod
    def _judge(entry: plan.PlanEntry, protected: Sequence[plan.Prefix]) -> verdict.Trouble | None:
        rejection = compiler.protected(entry, protected)
        return None if rejection is None else verdict.Trouble(rejection.reason, rejection.message, rejection.field)


def prefixes(facts: model.Facts, settings: Settings) -> frozenset[plan.Prefix]:
    """What no limit of this node may touch: its own addresses, its gateways, and what its administrator names."""
    return facts.addresses | facts.gateways | {addresses.parse(text) for text in settings.protected}
