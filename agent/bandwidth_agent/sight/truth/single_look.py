"""Looks once, for who asks: the classes whose packets are seen to leave past them.

Owns one capture, from the beginning of the look to its end. What it finds is shown, and nothing follows from it: it
takes two such looks to call a limit bypassed (`judge`).
"""

from __future__ import annotations

from collections.abc import Collection

from bandwidth_agent.kernel import contract, model
from bandwidth_agent.sight.truth import expected_class, judge, look

MOST_PACKETS = 4000


class SingleLook:
    """A look that has begun, with what the kernel held then."""

    def __init__(self, kernel: contract.Kernel, state: model.State, uplinks: Collection[str]) -> None:
        """Begin. Raises OSError: EPERM without CAP_NET_RAW."""
        self._kernel = kernel
        self._state = state
        self._before = kernel.queues(state.trees, uplinks)
        self._capture = kernel.capture(uplinks, MOST_PACKETS)

    def end(self, state: model.State) -> frozenset[int]:
        """Close the capture; return the numbers of the classes that packets left past. `state`: what is there now.

        Whatever waited when the look began counts as older than the class: it accuses no limit. Raises OSError.
        """
        try:
            seen, lost = self._capture.take(), self._capture.lost
        finally:
            self.close()
        after = self._kernel.queues(self._state.trees, ())
        waited = look.stale_bytes(self._before, self._before, 0.0, self._state.trees)
        then = self._state
        if (state.sets, state.chains, state.tables) != (then.sets, then.chains, then.tables):
            return frozenset()  # it is not known which of them a packet met
        number_of = expected_class.Expected(state).number
        passages = look.passages(seen, lost, number_of, self._before, after, waited)
        return frozenset(number for number, passage in passages.items() if _past(passage))

    def close(self) -> None:
        """Close the capture. Idempotent."""
        self._capture.close()


def _past(passage: look.Passage) -> bool:
    left = passage.left_bytes - passage.stale_bytes
    return passage.packets >= judge.PACKETS and 2 * passage.through_bytes < left
