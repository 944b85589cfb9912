"""The burst of a limit that names none. Pure."""

from __future__ import annotations

MILLISECONDS = 4
BASE_BYTES = 1600  # one frame


def computed(rate_bits_per_second: int) -> int:
    """Bytes that pass at line speed before the rate applies: 4 ms of the rate, and one frame."""
    return rate_bits_per_second // 8 * MILLISECONDS // 1000 + BASE_BYTES
