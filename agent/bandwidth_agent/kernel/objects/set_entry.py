"""An entry of a set: what it puts on the packets to its addresses. Owns the type only."""

from __future__ import annotations

from typing import NamedTuple


class SetEntry(NamedTuple):
    """What a set entry puts on a packet. A hole has only `hole` set."""

    mark: int
    mask: int
    priority: int  # skb priority (tc classid), 0: leave it
    comment: str
    hole: bool = False  # ipset: nomatch
