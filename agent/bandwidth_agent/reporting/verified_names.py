"""Chooses which verified limits a report names: a report has room for some, and a node may have verified thousands.

    not named since it was verified     first, the longest wait before all: the operator may wait for it
    named before                        in turn, report by report, for an operator that has not seen an earlier one

Owns what was named. Pure: when something is written is `reporter`'s business.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection

from bandwidth_api.crds import node_state


class VerifiedNames:
    """What one node has named in its reports."""

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._waiting: dict[str, None] = {}  # not named yet, in the order of their coming
        self._last = ""  # the end of the last turn, of those that were named before

    def news(self, state: node_state.NodeState) -> bool:
        """Whether a limit was verified that no report has named, on a node where somebody may wait for that."""
        return bool(state.datapath_sign) and not state.verified <= self._named

    def in_order(self, state: node_state.NodeState) -> list[str]:
        """Return the verified limits, those first that are to be named first."""
        self._waiting = {name: None for name in self._waiting if name in state.verified}
        self._waiting |= dict.fromkeys(sorted(state.verified - self._named - self._waiting.keys()))
        again = sorted(state.verified & self._named)
        turn = bisect.bisect_right(again, self._last)
        return [*self._waiting, *again[turn:], *again[:turn]]

    def written(self, state: node_state.NodeState, names: Collection[str]) -> None:
        """Record that a report was written that named these."""
        again = self._named.intersection(names)
        if again:
            from_the_start = [name for name in again if name <= self._last]
            self._last = max(from_the_start or again)
        # What is not verified any more is news when it is verified again.
        self._named = (self._named & state.verified) | set(names)
        self._waiting = {name: None for name in self._waiting if name not in self._named}
