"""From what a sampler took to what a history of clients counts. Pure."""

from __future__ import annotations

from bandwidth_agent.kernel import contract, traffic
from bandwidth_sight import history


def add(of: history.History, stretches: contract.Stretches, now: float) -> bool:
    """Take stretches in; return whether there is something new. `now`: where there is no stretch, monotonic seconds."""
    if stretches:
        # Where somebody else looks already, the first stretch began before this history did.
        of.start(min(stretch.began for stretch in stretches.values()))
    for stretch in stretches.values():
        of.add(sampled(stretch))
    return of.turn(max((stretch.ended for stretch in stretches.values()), default=now))


def sampled(stretch: traffic.Stretch) -> history.Sampled:
    """Return a stretch without the link headers that the device counts.

    How many bytes they are of what was not seen is not known; they are taken to have the same share there.
    """
    seen = stretch.seen_bytes
    share = 1.0 - stretch.link_bytes / seen if seen > 0 else 1.0
    return history.Sampled(stretch.clients, stretch.ports, stretch.sent_bytes * share, stretch.lost)
