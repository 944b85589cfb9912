"""Limits as entries of a plan, for tests of the agent."""

from __future__ import annotations

from bandwidth_api import addresses
from bandwidth_api.plan import Mode, PlanEntry, PortRange, Sharing

MBIT = 1_000_000


def entry(
    limit: str,
    *clients: str,
    rate: int = 5 * MBIT,
    mode: Mode = Mode.ENFORCE,
    sharing: Sharing = Sharing.SHARED,
    ports: tuple[PortRange, ...] = (),
    expires_at: float | None = None,
    priority: int = 0,
) -> PlanEntry:
    """A limit for these clients, with what most tests say nothing about."""
    return PlanEntry(
        limit=limit,
        uid="",
        generation=1,
        clients=tuple(addresses.parse(text) for text in clients),
        excepted=(),
        ports=ports,
        rate_bits_per_second=rate,
        burst_bytes=None,
        mode=mode,
        sharing=sharing,
        priority=priority,
        created_at=0.0,
        expires_at=expires_at,
        node_selector=(),
    )
