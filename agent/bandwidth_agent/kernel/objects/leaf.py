"""The qdisc under a class: the queue of its packets. Put and deleted with its class."""

from __future__ import annotations

from typing import NamedTuple

LEAF_KINDS = frozenset({"fq_codel"})  # kinds that a leaf is made of where the kernel has them, and not otherwise


class Leaf(NamedTuple):
    """The queue under a class.

    kind "tbf": never delays (its rate is far above any class); with `burst_bytes` of one frame it cuts GSO packets
    into frames, with a larger one it lets them pass whole, and either can be changed into the other in place.
    kind "bfifo": where nothing may be dropped by a small queue (Observe).
    """

    kind: str
    burst_bytes: int  # tbf: the largest packet that passes uncut; 0 for bfifo
    limit_bytes: int  # the queue's bound
    inner: str  # tbf: "fq_codel" or "bfifo" inside it; "" for bfifo
