"""Kubernetes Events about what policies decided: on the policy, and on the limit that was made or changed.

Bounded like those about limits (`status.events`); what finds no room now waits, and the oldest is dropped first.
"""

from __future__ import annotations

import collections
from typing import NamedTuple

from bandwidth_api import addresses, names, units
from bandwidth_api.policy.decision import Decision, Obstacle, What
from bandwidth_operator.cache import objects
from bandwidth_operator.election.writer import Writer
from bandwidth_operator.policies.policy_objects import Seen
from bandwidth_operator.status import events
from bandwidth_operator.status.events import Correlator, Occurrence, Subject

WAITING_MAX = 200
AT_ONCE = 20  # of one turn
_MADE = (What.LIMITED, What.STEPPED, What.ADJUSTED)


class _Waiting(NamedTuple):
    about: Subject
    occurrence: Occurrence
    at: float  # seconds since the epoch


class DecisionEvents:
    """The Events of one term. One thread."""

    def __init__(self, writer: Writer, correlator: Correlator) -> None:
        self._writer = writer
        self._correlator = correlator
        self._waiting: collections.deque[_Waiting] = collections.deque(maxlen=WAITING_MAX)

    def __len__(self) -> int:
        return len(self._waiting)

    def decided(self, decision: Decision, policy: Seen | None) -> None:
        """Have it told on the policy; one that is gone has no Events any more."""
        if policy is not None:
            about = Subject(names.POLICY_KIND, policy.name, policy.uid, policy.version)
            self._waiting.append(_Waiting(about, occurrence(decision), decision.at))

    def written(self, decision: Decision, limit: objects.Limit | None) -> None:
        """Have it told on the limit, as it is after that; None: it was deleted."""
        if limit is not None and decision.what in _MADE:
            self._waiting.append(_Waiting(events.about(limit), occurrence(decision), decision.at))

    def turn(self) -> None:
        """Write those that there is room for. Raises LeadershipLostError."""
        for _ in range(min(AT_ONCE, len(self._waiting))):
            about, what, at = self._waiting[0]
            if not events.post(self._writer, self._correlator, about, what, at):
                return
            self._waiting.popleft()


def occurrence(decision: Decision) -> Occurrence:
    """Return what an Event says of a decision. A maximum that is reached, and a write that failed, are warnings."""
    obstacle = decision.block.obstacle if decision.block is not None else None
    warning = decision.what is What.FAILED or (
        decision.what is What.BLOCKED and obstacle in (Obstacle.MAXIMUM, Obstacle.REFUSED)
    )
    return Occurrence(warning, decision.what.value, text(decision))


def text(decision: Decision) -> str:
    """Return a decision in one line."""
    client = addresses.write(decision.client)
    words = client
    if decision.what in _MADE:
        words = f"{client} to {units.show_rate(decision.rate_bits_per_second)}, step {decision.step}"
    if decision.block is not None and decision.block.message != decision.why:
        words = f"{words}: {decision.block.message}; {decision.why}"
    else:
        words = f"{words}: {decision.why}"
    return words if decision.enforced else f"only observed: {words}"
