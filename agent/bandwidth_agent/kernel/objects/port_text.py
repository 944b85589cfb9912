"""A range of ports as people read it in a list of changes."""

from __future__ import annotations

from bandwidth_api.plan import PortRange


def of(ports: PortRange) -> str:
    """Return a text such as "TCP port 80-90"."""
    last = f"-{ports.last}" if ports.last != ports.first else ""
    return f"{ports.protocol} port {ports.first}{last}"
