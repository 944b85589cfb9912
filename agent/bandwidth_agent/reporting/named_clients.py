"""What is seen of the clients that a question names, however little each gets. Pure.

A history keeps the largest of each second, so a small client may fall out of it; each of these has one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from bandwidth_agent.kernel import contract
from bandwidth_agent.sight import estimates
from bandwidth_api import address_text, addresses
from bandwidth_api.plan import Prefix
from bandwidth_sight.history import History, Sampled
from bandwidth_sight.rows import Snapshot

T = TypeVar("T")


class NamedClients:
    """Histories by client. One thread at a time; times are monotonic seconds."""

    def __init__(self) -> None:
        self._histories: dict[Prefix, History | None] = {}  # None: nothing has come since it is looked for

    def want(self, texts: Sequence[str]) -> None:
        """Look for these clients from now on, and for no others; those that are known go on."""
        wanted = {client for text in texts if (client := _parsed(text)) is not None}
        self._histories = {client: self._histories.get(client) for client in sorted(wanted)}

    def add(self, stretches: contract.Stretches, now: float) -> None:
        """Take stretches in. `now`: where there is no stretch."""
        if not self._histories:
            return
        began = min((stretch.began for stretch in stretches.values()), default=now)
        ended = max((stretch.ended for stretch in stretches.values()), default=now)
        taken = [estimates.sampled(stretch) for stretch in stretches.values()]
        for client, known in self._histories.items():
            history = self._histories[client] = known or History(began)
            for sampled in taken:
                history.add(Sampled(_inside(client, sampled.clients), {}, None, 0))
            history.turn(ended)

    def snapshots(self) -> Mapping[Prefix, Snapshot]:
        """Return what was seen of each client that has been looked for long enough."""
        return {
            client: history.snapshot(0.0)
            for client, history in self._histories.items()
            if history is not None and history.ended > history.began
        }


def _inside(client: Prefix, found: Mapping[bytes, T]) -> Mapping[bytes, T]:
    """Return what is of the addresses of a client or network."""
    bits = address_text.BITS[client.family]
    if client.length == bits:
        key = client.network.to_bytes(bits // 8)
        return {key: found[key]} if key in found else {}
    shift = bits - client.length
    return {
        key: value
        for key, value in found.items()
        if len(key) * 8 == bits and int.from_bytes(key) >> shift == client.network >> shift
    }


def _parsed(text: str) -> Prefix | None:
    try:
        return addresses.network(text)
    except ValueError:
        return None
