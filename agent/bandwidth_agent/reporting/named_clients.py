"""What is seen of the clients that a question names, however little each gets. Pure.

A history keeps the largest of each second, so a small client may fall out of it; each of these has one of its own.
"""

from __future__ import annotations

import bisect
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
        taken = [estimates.sampled(stretch).clients for stretch in stretches.values()]
        ordered = (
            [_ordered(clients) for clients in taken] if any(not _is_address(each) for each in self._histories) else []
        )
        for client, known in self._histories.items():
            history = self._histories[client] = known or History(began)
            if _is_address(client):
                key = _key(client.family, client.network)
                found = [{key: clients[key]} for clients in taken if key in clients]
            else:
                found = [_inside(client, each, clients) for each, clients in zip(ordered, taken, strict=True)]
            for clients in found:
                history.add(Sampled(clients, {}, None, 0))
            history.turn(ended)

    def snapshots(self) -> Mapping[Prefix, Snapshot]:
        """Return what was seen of each client that has been looked for long enough."""
        return {
            client: history.snapshot(0.0)
            for client, history in self._histories.items()
            if history is not None and history.ended > history.began
        }


def _ordered(clients: Mapping[bytes, T]) -> Mapping[int, list[bytes]]:
    """Return the addresses of each family in order, in which a network is a row of neighbours."""
    return {
        family: sorted(key for key in clients if len(key) * 8 == bits) for family, bits in address_text.BITS.items()
    }


def _inside(client: Prefix, ordered: Mapping[int, list[bytes]], clients: Mapping[bytes, T]) -> dict[bytes, T]:
    """Return what is of the addresses of a network."""
    size = 1 << (address_text.BITS[client.family] - client.length)
    keys = ordered[client.family]
    first = bisect.bisect_left(keys, _key(client.family, client.network))
    behind = bisect.bisect_right(keys, _key(client.family, client.network + size - 1))
    return {key: clients[key] for key in keys[first:behind]}


def _key(family: int, number: int) -> bytes:
    return number.to_bytes(address_text.BITS[family] // 8)


def _is_address(client: Prefix) -> bool:
    return client.length == address_text.BITS[client.family]


def _parsed(text: str) -> Prefix | None:
    try:
        return addresses.network(text)
    except ValueError:
        return None
