"""What policies must leave alone, from what the operator knows of the cluster. Pure; remembers the last answer.

A limit that cannot be read any more counts by what it was when it was last accepted. A client that a node refused to
slow, because the address is its own, a gateway's or protected there, counts as protected from then on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from bandwidth_api.compiler import protected_addresses
from bandwidth_api.compiler.protected_addresses import Index
from bandwidth_api.conditions import Reason
from bandwidth_api.crds.limit import Limit
from bandwidth_api.plan import PlanEntry, Prefix
from bandwidth_api.policy import made_limit, surroundings
from bandwidth_api.policy.surroundings import Surroundings
from bandwidth_operator.cache import objects

REFUSED_MAX = 1000  # clients that nodes refused; more are forgotten, and found out again


class Neighbours:
    """Reads all limits only when one of them is another, or has ended since."""

    def __init__(self, guarded: frozenset[Prefix] = frozenset()) -> None:
        """`guarded`: the networks that the guard rails protect in the API server."""
        self._guarded = guarded
        self._refused: dict[Prefix, None] = {}
        self._refusals: frozenset[Prefix] = frozenset()  # the same
        self._limits: Mapping[str, object] = {}  # what was read last, by name
        self._entries: Mapping[str, PlanEntry] = {}
        self._unreadable = False  # some of them could not be read
        self._read: Surroundings = surroundings.NOTHING
        self._until = -math.inf  # when one of the limits ends, seconds since the epoch
        self._protected: tuple[frozenset[Prefix], frozenset[Prefix]] | None = None  # what the index was made of
        self._index = surroundings.NOTHING.protected

    def around(
        self, snapshot: objects.Snapshot, protected: Index, entries: Mapping[str, PlanEntry], wall: float
    ) -> Surroundings:
        """Return the surroundings of a round.

        `protected`: what no limit of the plan may touch; `entries`: those of the plan; `wall`: seconds since the epoch.
        """
        parsed: dict[str, object] = {name: limit.parsed for name, limit in snapshot.limits.items()}
        asked = self._unreadable and entries is not self._entries
        if asked or wall >= self._until or not _same(parsed, self._limits):
            self._take(parsed, entries, wall)
        self._note_refusals(snapshot)
        nodes = {name: snapshot.nodes[name].labels for name in snapshot.states if name in snapshot.nodes}
        made, persons, persons_index = self._read.made, self._read.persons, self._read.persons_index
        return Surroundings(made, persons, persons_index, self._protecting(protected), nodes)

    def _take(self, parsed: Mapping[str, object], entries: Mapping[str, PlanEntry], wall: float) -> None:
        limits = [each for each in parsed.values() if isinstance(each, Limit)]
        others = {
            client: name
            for name, each in parsed.items()
            if not isinstance(each, Limit) and name in entries
            for client in entries[name].clients
        }
        self._read = surroundings.read(limits, surroundings.NOTHING.protected, {}, wall, others)
        ends = (each.expires_at(wall if each.created_at is None else each.created_at) for each in limits)
        self._until = min((end for end in ends if end is not None and end > wall), default=math.inf)
        self._limits, self._entries, self._unreadable = parsed, entries, len(limits) < len(parsed)

    def _note_refusals(self, snapshot: objects.Snapshot) -> None:
        """Take what nodes said of the limits that policies made."""
        for name, made in self._read.made.items():
            if made.client not in self._refused and _is_refused(snapshot.limits[name].status):
                self._refused[made.client] = None
                if len(self._refused) > REFUSED_MAX:
                    del self._refused[next(iter(self._refused))]
                self._refusals = frozenset(self._refused)

    def _protecting(self, protected: Index) -> Index:
        made_of = (protected.known, self._refusals)
        if made_of != self._protected:
            self._index = protected_addresses.index(protected.known | self._guarded | self._refusals)
            self._protected = made_of
        return self._index


def _is_refused(status: objects.Object) -> bool:
    conditions = status.get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("reason") == Reason.PROTECTED_ADDRESS for each in conditions)


def _same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return one.keys() == other.keys() and all(other[name] is each for name, each in one.items())


def is_persons(limit: objects.Limit) -> bool:
    """Return whether no policy made a limit, as far as it can be read."""
    return not isinstance(limit.parsed, Limit) or made_limit.read(limit.parsed, 0.0) is None
