"""Rates, sizes, shares and errors as short texts for a column. Pure."""

from __future__ import annotations

from bandwidth_api import units
from bandwidth_api.plan import PortRange

NONE = "–"
_RATES = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def rate(bits_per_second: float) -> str:
    """Return a rate in bits per second for a column, its digits below those of other rates: `119.2M`, `64.0k`, `0`."""
    for factor, unit in _RATES:
        if bits_per_second >= factor * 0.99995:
            return f"{bits_per_second / factor:.1f}{unit}"
    return f"{bits_per_second:.0f}"


def rate_in_words(bits_per_second: float) -> str:
    """Return a rate for a sentence: `119.2 Mbit/s`."""
    return f"{units.show_rate(bits_per_second)}/s"


def size(number_bytes: float) -> str:
    """Return a size for a column: `70.8MiB`."""
    return units.show_bytes(number_bytes).replace(" ", "")


def share(part: float) -> str:
    """Return a share of 0 to 1 in per cent: `55.6%`, `<0.1%` for a little, `0%`."""
    if part <= 0:
        return "0%"
    return "<0.1%" if part < 0.0005 else f"{part:.1%}"


def error(relative: float | None) -> str:
    """Return a relative error in per cent, rounded up from nothing: `3%`, `<1%`, `–` where there is none."""
    if relative is None:
        return NONE
    return "<1%" if relative < 0.005 else f"{min(relative, 9.99):.0%}"


def port_range(ports: PortRange) -> str:
    """Return a range of ports as people write it: `993/tcp`, `80-90/udp`."""
    last = f"-{ports.last}" if ports.last != ports.first else ""
    return f"{ports.first}{last}/{ports.protocol.lower()}"


def limit_rate(bits_per_second: int | None) -> str:
    """Return the rate of a limit as a limit is written: `60Mbit`; `?` where it is not known."""
    if bits_per_second is None:
        return "?"
    try:
        return units.write_rate(bits_per_second)
    except ValueError:  # the kernel keeps bytes: eight bits that no text names
        return units.show_rate(bits_per_second).replace(" ", "")
