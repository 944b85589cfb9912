"""Bounds the number of port ranges of all limits on a node, so that no author can exhaust the node.

Rules for ports are found by halving, so a packet passes few of them however many there are; but each costs memory in
the kernel, a set of its own where no other limit is for the same ports, and time when all are written. Their number
is bounded by the *edges*: the ports at which a range begins, and those behind its end. Limits for the same ports have
the same edges, so a whole installation that limits mail needs a dozen.

Owns the budget and which limits are left out of it: the newest. Pure.
"""

from __future__ import annotations

import operator

from bandwidth_api.conditions import Problem, Reason
from bandwidth_api.plan import PlanEntry

EDGES_MAX = 20_480
_BEYOND = Problem(
    Reason.CAPACITY_EXCEEDED,
    f"the port ranges of older limits begin and end at as many ports as one node keeps rules for ({EDGES_MAX:,}):"
    " use ports that other limits use, or remove limits that have ports",
    "spec.egress.ports",
)
_PORTS = operator.attrgetter("ports")


def sift(
    entries: tuple[PlanEntry, ...], edges_max: int = EDGES_MAX
) -> tuple[tuple[PlanEntry, ...], dict[str, Problem]]:
    """Return the entries that fit, in their order, and the problems of the others; entries without ports always fit.

    From the oldest to the newest, each that fits is taken: one that is left out takes no room from those behind it.
    """
    if 2 * sum(map(len, map(_PORTS, entries))) <= edges_max:
        return entries, {}
    edges: set[tuple[str, int]] = set()
    left_out: dict[str, Problem] = {}
    for entry in sorted((e for e in entries if e.ports), key=lambda e: (e.created_at, e.limit)):
        added = {(r.protocol, edge) for r in entry.ports for edge in (r.first, r.last + 1)} - edges
        if len(edges) + len(added) > edges_max:
            left_out[entry.limit] = _BEYOND
        else:
            edges |= added
    return tuple(entry for entry in entries if entry.limit not in left_out) if left_out else entries, left_out
