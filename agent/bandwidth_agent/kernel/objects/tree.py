"""Everything that stands on one device: the HTB root, its classes with their leaves, and the mark filter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bandwidth_agent.kernel.objects.htb_class import HtbClass
from bandwidth_agent.kernel.objects.mark_filter import MarkFilter


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    """Our HTB, root of one device: an ifb of ours, or an egress interface under placement `interface`."""

    default_minor: int  # 0: what is in no class passes unshaped
    classes: Mapping[int, HtbClass]  # by minor
    filter: MarkFilter | None  # None with the classifier `priority`
