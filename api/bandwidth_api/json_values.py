"""Checks values of JSON that another program wrote: each has the expected type and bounds, or raises.

Pure. Errors are ValueErrors whose message names the value; no value passes that a kernel, a calendar or a file could
not hold.
"""

from __future__ import annotations

import sys
from typing import Any

TIME_MAX = 253_402_300_799  # the last second that a calendar knows
_SHOWN = 60  # characters of a value that a message quotes


def text(value: object, *, least: int = 0, most: int = sys.maxsize) -> str:
    """Return the value if it is text of a bounded length."""
    if type(value) is not str or not least <= len(value) <= most:
        raise ValueError(f"{shown(value)} is no text")
    return value


def whole(value: object) -> int:
    """Return the value if it is a whole number; true and false are none."""
    if type(value) is not int:
        raise ValueError(f"{shown(value)} is no whole number")
    return value


def within(value: object, least: int, most: int) -> int:
    """Return the value if it is a whole number from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{shown(value)} is no whole number from {least} to {most}")
    return value


def seconds(value: Any) -> float:
    """Return the value if it is a time in seconds since the epoch, within the years of a calendar."""
    if type(value) not in (int, float) or not abs(value) <= TIME_MAX:
        raise ValueError(f"{shown(value)} is no time")
    return float(value)


def whole_seconds(value: object) -> float:
    """Return the value if it is such a time without fractions of a second."""
    if type(value) is not int or not -TIME_MAX <= value <= TIME_MAX:
        raise ValueError(f"{shown(value)} is no time in whole seconds")
    return float(value)


def items(value: object) -> list[Any]:
    """Return the value if it is a list."""
    if type(value) is not list:
        raise ValueError(f"{shown(value)} is no list")
    return value


def shown(value: object) -> str:
    """Return any value as text for a message, shortened."""
    try:
        return repr(value)[:_SHOWN]
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
