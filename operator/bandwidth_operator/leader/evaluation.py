"""Works out the state of each limit from what the nodes report now. Pure.

At the start of a term a node may be at a plan that this leader has never seen, or may not have reported yet: until
that is over, no limit that was in force before is reported as failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bandwidth_api.compiler.overlap import resolve
from bandwidth_api.plan import PlanEntry
from bandwidth_operator.cache import objects
from bandwidth_operator.cache.history import History
from bandwidth_operator.publish import planning
from bandwidth_operator.status import limit_status, rollup
from bandwidth_operator.status.rollup import NodeView, Outcome


class Evaluated(NamedTuple):
    outcomes: list[tuple[Outcome, objects.Limit]]
    nodes: Mapping[str, int]  # how many are current, behind, troubled
    silent_at: float | None  # monotonic: when the next node will count as silent
    settling: bool  # nodes have yet to take up a plan of this leader


class Evaluation:
    """Evaluates again and again in one term; remembers who wins over whom, which costs more than all the rest."""

    def __init__(self) -> None:
        self._winners: Mapping[str, tuple[str, ...]] = {}
        self._winners_of: tuple[object, ...] = ()
        self._overlaps = resolve.Memo()

    def evaluate(
        self,
        snapshot: objects.Snapshot,
        planned: planning.Planned,
        published: Mapping[str, PlanEntry],
        plans: History,
        now: float,
        *,
        settled: bool,
    ) -> Evaluated:
        """Work out the state of each limit that the plan was made from.

        `published`: the entries that the slices hold; `now`: monotonic.
        """
        nodes = rollup.views(snapshot, plans, now)
        self._learn_winners(planned, nodes)
        answers = rollup.Rollup(nodes, plans)
        settling = not settled and any(node.step is None and node.problem is None for node in nodes)
        outcomes = []
        for name, limit in snapshot.limits.items():
            entry = published.get(name)
            if not planned.covers(limit) or (entry is not None and entry is not planned.plan.entries.get(name)):
                continue  # newer than the slices, and on its way to them
            outcome = planning.outcome(name, planned, answers, self._winners, limit_status.held(limit))
            if plans.changed_at(name) == 0 and _was_programmed(limit):
                missing = not settled and outcome.desired < _nodes_written(limit)
                if settling or missing:
                    continue
            outcomes.append((outcome, limit))
        silent_at = min((at for s in snapshot.states.values() if (at := objects.silent_at(s)) > now), default=None)
        return Evaluated(outcomes, rollup.census(nodes, plans.step_of(plans.digest)), silent_at, settling)

    def _learn_winners(self, planned: planning.Planned, nodes: Sequence[NodeView]) -> None:
        of = (planned.plan, frozenset((n.name, tuple(sorted(n.labels.items()))) for n in nodes))
        if self._winners_of != of:
            self._winners = planning.winners(planned.plan, nodes, self._overlaps)
            self._winners_of = of


def _was_programmed(limit: objects.Limit) -> bool:
    written = limit.status.get("conditions") or ()
    return any(c.get("type") == "Programmed" and c.get("status") == "True" for c in written)


def _nodes_written(limit: objects.Limit) -> int:
    nodes = limit.status.get("nodes")
    desired = nodes.get("desired") if isinstance(nodes, dict) else None
    return desired if type(desired) is int else 0
