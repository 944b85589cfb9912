"""How a call ends: the exit codes, and the failure that ends a verb with one line on stderr."""

from __future__ import annotations

DONE = 0
FAILED = 1
NOT_RIGHT = 2  # it is done, and something is not as it should be
USAGE_ERROR = 64
INTERRUPTED = 130


class FailedError(Exception):
    """The verb cannot do what it was asked for; the message says why and what to do."""


class WrongCallError(Exception):
    """Something that was not typed is needed; the message says what."""
