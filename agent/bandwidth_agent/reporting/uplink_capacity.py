"""What an uplink can carry: what an administrator set, else what its device says, else nobody knows. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple

from bandwidth_agent.kernel import model


class Capacity(NamedTuple):
    bits_per_second: int
    source: str  # "setting" or "link"


def capacity(name: str, uplink: model.Uplink, settings: Sequence[tuple[str, int]]) -> Capacity | None:
    """Return what an interface can carry; None where nobody says. Of `settings`, (glob, bits/s), the first counts."""
    for glob, bits_per_second in settings:
        if fnmatch.fnmatchcase(name, glob):
            return Capacity(bits_per_second, "setting")
    speed = uplink.speed_bits_per_second
    return None if speed is None else Capacity(speed, "link")
