"""Durations: the text that people write, such as `1h30m`, ↔ whole seconds. Pure.

Errors are ValueErrors whose message names the right form.
"""

from __future__ import annotations

import re

# Of `ttlSeconds` of a limit.
LEAST_SECONDS = 60
MOST_SECONDS = 365 * 86400

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PARTS = re.compile(r"(?:([0-9]{1,8})d)?(?:([0-9]{1,8})h)?(?:([0-9]{1,8})m)?(?:([0-9]{1,8})s)?")


def parse(text: str) -> int:
    """Parse a duration such as `1h`, `90m` or `1d12h`; return seconds, within what a limit may last."""
    match = _PARTS.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is no duration; write a number with s, m, h or d, such as 30m or 1d12h")
    seconds = sum(int(number or 0) * unit for number, unit in zip(match.groups(), _UNITS.values(), strict=True))
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise ValueError(f"{text} is out of range; write a duration between 1m and 365d")
    return seconds


def write(seconds: int) -> str:
    """Return the shortest text that `parse` reads back as this number, such as `1h30m`."""
    parts: list[str] = []
    for name, unit in _UNITS.items():
        count, seconds = divmod(seconds, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"
