"""Node selectors: which nodes enforce a limit. Pure; the meaning is that of Kubernetes label selectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bandwidth_api.plan import SelectorTerm

Labels = Mapping[str, str]


def selects(wanted: Iterable[SelectorTerm], labels: Labels) -> bool:
    """Return whether a node with these labels enforces the limit."""
    return all(_holds(term, labels) for term in wanted)


def count(wanted: tuple[SelectorTerm, ...], nodes: int | Sequence[Labels]) -> int:
    """Return how many of the nodes are selected; all of them if only their number is known."""
    if isinstance(nodes, int):
        return nodes
    return sum(selects(wanted, labels) for labels in nodes)


def _holds(term: SelectorTerm, labels: Labels) -> bool:
    match term.operator:
        case "In":
            return labels.get(term.key) in term.values
        case "NotIn":  # a node without the label is not in
            return labels.get(term.key) not in term.values
        case "Exists":
            return term.key in labels
        case "DoesNotExist":
            return term.key not in labels
    raise ValueError(f"unknown selector operator {term.operator}")
