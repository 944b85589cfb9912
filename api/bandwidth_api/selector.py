"""Node selectors: which nodes enforce a limit. Pure; the meaning is that of Kubernetes label selectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bandwidth_api.limit import NodeSelector
from bandwidth_api.plan import SelectorTerm

Labels = Mapping[str, str]


def terms(selector: NodeSelector | None) -> tuple[SelectorTerm, ...]:
    """The selector as terms that must all hold; none for no selector, which selects every node."""
    if selector is None:
        return ()
    labels = (SelectorTerm(key, "In", (value,)) for key, value in sorted(selector.match_labels.items()))
    expressions = (SelectorTerm(e.key, e.operator, e.values) for e in selector.match_expressions)
    return (*labels, *expressions)


def selects(wanted: Iterable[SelectorTerm], labels: Labels) -> bool:
    """Whether a node with these labels enforces the limit."""
    return all(_holds(term, labels) for term in wanted)


def count(wanted: tuple[SelectorTerm, ...], nodes: int | Sequence[Labels]) -> int:
    """How many of the nodes are selected; all of them where only their number is known."""
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
