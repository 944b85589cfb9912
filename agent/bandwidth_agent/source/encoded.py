"""Plan entries as plain lists for JSON, and back, for what a directory source remembers.

The layout is that of this program alone: `LAYOUT` changes with it, and what another layout wrote is not decoded.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from bandwidth_api.plan import Mode, PlanEntry, PortRange, Prefix, SelectorTerm, Sharing

_NAMES = [field.name for field in dataclasses.fields(PlanEntry)]
_SHAPES = (Prefix._fields, PortRange._fields, SelectorTerm._fields)
LAYOUT = hashlib.sha256(repr((1, _NAMES, _SHAPES)).encode()).hexdigest()[:12]

_MODES = {mode.value: mode for mode in Mode}
_SHARINGS = {sharing.value: sharing for sharing in Sharing}


def encode(entry: PlanEntry) -> list[object]:
    """The fields in their order; what JSON makes of them `decode` understands."""
    return [getattr(entry, name) for name in _NAMES]


def decode(fields: list[Any]) -> PlanEntry:
    """What `encode` gave, after JSON; raises ValueError, TypeError or KeyError for anything else."""
    limit, uid, generation, clients, excepted, ports, rate, burst, *rest = fields
    mode, sharing, priority, created_at, expires_at, selector = rest
    return PlanEntry(
        limit=limit,
        uid=uid,
        generation=generation,
        clients=tuple([Prefix(*prefix) for prefix in clients]),
        excepted=tuple([Prefix(*prefix) for prefix in excepted]) if excepted else (),
        ports=tuple([PortRange(*ports_) for ports_ in ports]) if ports else (),
        rate_bits_per_second=rate,
        burst_bytes=burst,
        mode=_MODES[mode],
        sharing=_SHARINGS[sharing],
        priority=priority,
        created_at=created_at,
        expires_at=expires_at,
        node_selector=tuple([SelectorTerm(k, o, tuple(v)) for k, o, v in selector]) if selector else (),
    )
