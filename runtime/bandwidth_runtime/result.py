"""Prints the result of a program, a line at a time: results on stdout, errors on stderr.

Every line is made printable (`printable`). A closed or full stdout is no error: the exit code still has the outcome.
"""

from __future__ import annotations

import contextlib
import os
import sys

from bandwidth_runtime import printable


def show(text: str) -> None:
    """Print one line on stdout."""
    try:
        sys.stdout.write(f"{printable.line(text)}\n")
        sys.stdout.flush()
    except OSError:
        abandon()


def abandon() -> None:
    """Discard what is left in the buffer of stdout, so that the interpreter prints no error when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """Print one line on stderr."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{printable.line(text)}\n")
        sys.stderr.flush()
