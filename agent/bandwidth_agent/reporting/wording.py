"""How ports, times and what is left of a time are written, for `show` and `who`. Pure."""

from __future__ import annotations

import datetime

from bandwidth_api import plan


def port(ports: plan.PortRange) -> str:
    """Return a range of ports as people write it: `993/tcp`, `80-90/udp`."""
    last = f"-{ports.last}" if ports.last != ports.first else ""
    return f"{ports.first}{last}/{ports.protocol.lower()}"


def left(seconds: float) -> str:
    """Return a duration in its two largest units: `in 3d 4h`, `in 59s`."""
    if seconds < 1:
        return "now"
    rest = int(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return "in " + " ".join(parts[:2])


def rfc3339(seconds: int) -> str:
    """Return a time, in seconds since the epoch, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
