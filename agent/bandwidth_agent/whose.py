"""Whose class is whose: what the comments of the set entries say about class numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bandwidth_agent import classify
from bandwidth_agent.kernel import model
from bandwidth_api import names


def owners(*states: model.State) -> Mapping[int, names.Label]:
    """By class number, the limit (and client) that its entries name; a later state counts more."""
    found: dict[int, names.Label] = {}
    for state in states:
        for ipset in state.sets.values():
            for entry in ipset.entries.values():
                number = classify.number(entry)
                if number is not None:
                    found[number] = names.parse_comment(entry.comment)
    return found


def limits(*states: model.State) -> Mapping[int, str]:
    """By class number, the name of the limit; as `owners`."""
    return {number: label.key.limit for number, label in owners(*states).items()}
