"""Reads single fields of an object that anybody may have written: one of the wrong type counts as left out. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

NUMBER_MAX = 1 << 53  # every JSON reader holds it exactly


def mapping(value: object) -> Mapping[str, Any]:
    """Return the value if it is an object; else an empty one."""
    return value if isinstance(value, Mapping) else {}


def text(value: object, most: int) -> str:
    """Return the first `most` characters of the value if it is text; else nothing."""
    return value[:most] if isinstance(value, str) else ""


def texts(value: object, most: int, longest: int) -> tuple[str, ...]:
    """Return the texts of a list, at most `most` of them; one that is too long is left out."""
    found = value if isinstance(value, list) else []
    return tuple(each for each in found[:most] if isinstance(each, str) and 0 < len(each) <= longest)


def number(value: object, otherwise: int, least: int, most: int) -> int:
    """Return the value if it is a whole number, brought into its bounds."""
    return min(max(value, least), most) if type(value) is int else otherwise


def numbers(value: object, places: int) -> tuple[int, ...]:
    """Return a whole number for each of so many places; what is none is 0."""
    found = value if isinstance(value, list) else []
    made = [number(each, 0, 0, NUMBER_MAX) for each in found[:places]]
    return tuple(made + [0] * (places - len(made)))


def floats(value: object, places: int) -> tuple[float, ...]:
    """Return a number for each of so many places; what is none is 0."""
    found = value if isinstance(value, list) else []
    made = [
        min(max(float(each), 0.0), 1e6) if type(each) in (int, float) and each == each else 0.0
        for each in found[:places]
    ]
    return tuple(made + [0.0] * (places - len(made)))


def seconds(value: object) -> float:
    """Return the seconds since the epoch of a time; 0 for anything else."""
    try:
        return datetime.datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
