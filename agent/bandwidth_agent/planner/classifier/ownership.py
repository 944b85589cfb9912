"""Finds which limit owns which class id, from observed or desired state, whichever classifier wrote it.

So an agent that restarts with other settings adopts the class ids that are there. A classifier that keeps ids or
owners elsewhere than in the entries of sets adds its reading here. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bandwidth_agent.kernel import model, objects
from bandwidth_agent.planner.classifier import mark, priority
from bandwidth_api import names
from bandwidth_api.plan import Prefix

_READ = (mark.number, priority.number)


class Match(NamedTuple):
    """Addresses that lead to a class."""

    number: int
    label: str  # the owner, as `names.parse_comment` reads it
    set_name: str
    prefix: Prefix


def number(entry: objects.SetEntry) -> int | None:
    """Return the class id in an entry, whichever classifier and mask wrote it; None if it has none."""
    if entry.hole:
        return None
    for read in _READ:
        found = read(entry)
        if found is not None:
            return found
    return None


def matches(state: model.State) -> Iterator[Match]:
    """Yield all addresses that lead to a class, in the order of the sets."""
    for name, ipset in state.sets.items():
        for prefix, entry in ipset.entries.items():
            found = number(entry)
            if found is not None:
                yield Match(found, entry.comment, name, prefix)


def owners(*states: model.State) -> Mapping[int, names.Label]:
    """Return by class id the limit (and client) that owns it; of several states the last one counts."""
    labels = {found: label for state in states for found, label, _, _ in matches(state)}
    return {found: names.parse_comment(label) for found, label in labels.items()}


def limits(*states: model.State) -> Mapping[int, str]:
    """Return by class id the name of the limit; like `owners`."""
    return {found: label.key.limit for found, label in owners(*states).items()}
