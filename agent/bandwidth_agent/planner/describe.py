"""Writes changes as aligned lines for people, one per elementary step, in the order in which they are applied.

Owns the columns; each change owns the text of its lines. Never reads the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bandwidth_agent.kernel import objects
from bandwidth_agent.planner.classifier import ownership

_VERB_WIDTH = len("change")
_NOUN_WIDTH = len("filter")


def lines(step: objects.Change, labels: Mapping[int, str]) -> list[str]:
    """Return the lines of one change, aligned among themselves; `labels` has the limit of each class number."""
    rows = list(step.rows(objects.Labels(ownership.number, labels)))
    widths: dict[str, list[int]] = {}
    for _, noun, *cells in rows:
        known = widths.setdefault(noun, [])
        known.extend(0 for _ in cells[len(known) :])
        for column, cell in enumerate(cells):
            known[column] = max(known[column], len(cell))
    return [_line(verb, noun, cells, widths[noun]) for verb, noun, *cells in rows]


def _line(verb: str, noun: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return "  ".join([f"{verb.ljust(_VERB_WIDTH)} {noun.ljust(_NOUN_WIDTH)}", *padded]).rstrip()
