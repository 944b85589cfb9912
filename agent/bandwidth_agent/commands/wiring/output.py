"""Writes results to stdout, and reports it when that is not possible: a broken pipe, a full disk.

Owns the writing of results. Never writes to stderr: `logs` and `host` do.
"""

from __future__ import annotations

import sys


class UnwritableError(Exception):
    """A result could not be written; the message says why."""


def write(text: str) -> None:
    """Print a whole result. Raises UnwritableError, and BrokenPipeError if the reader of stdout has ended."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwritableError(f"the output could not be written: {(error.strerror or str(error)).lower()}") from None
