"""What policies of one host know and decided, as one value that any thread may read. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from bandwidth_api.compiler import selector
from bandwidth_api.crds.policy import Policy
from bandwidth_api.policy.books import Book
from bandwidth_api.policy.decision import Decision

Counted = Mapping[tuple[str, ...], int]


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """After one round. What is counted begins with the process, and goes with its policy."""

    book: Book = dataclasses.field(default_factory=Book)
    policies: tuple[Policy, ...] = ()
    nodes: Mapping[str, selector.Labels] = dataclasses.field(default_factory=dict)
    decisions: Counted = dataclasses.field(default_factory=dict)  # by policy, decision and mode
    obstacles: Counted = dataclasses.field(default_factory=dict)  # by policy and obstacle

    def after(self, book: Book, policies: Iterable[Policy], decided: Iterable[Decision]) -> Told:
        """Return the value after another round."""
        kept = tuple(policies)
        names = {policy.name for policy in kept}
        decisions, obstacles = (
            {labels: count for labels, count in counted.items() if labels[0] in names}
            for counted in (self.decisions, self.obstacles)
        )
        for each in decided:
            if each.policy not in names:
                continue
            labels: tuple[str, ...] = (each.policy, each.what.value, "Enforce" if each.enforced else "Observe")
            decisions[labels] = decisions.get(labels, 0) + 1
            if each.block is not None:
                labels = each.policy, each.block.obstacle.value
                obstacles[labels] = obstacles.get(labels, 0) + 1
        return dataclasses.replace(self, book=book, policies=kept, decisions=decisions, obstacles=obstacles)
