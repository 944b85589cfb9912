"""Results on stdout, whatever it is: a pipe, a full disk, or closed.

Owns the writing of results and the standard descriptors that are missing. What goes to stderr is `logs`' and `host`'s.
"""

from __future__ import annotations

import io
import os
import sys

_STDERR = 2


class UnwritableError(Exception):
    """A result could not be written; the message says why."""


def prepare() -> None:
    """Give the process what it may have been started without, and make all text printable.

    Where a standard descriptor was closed (`2>&-`), the next socket would get its number, and there is no stream.
    A file's name that is no text must not keep a report from being printed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def abandon() -> None:
    """What is still in the buffer goes nowhere: the interpreter must not complain while flushing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write(text: str) -> None:
    """Print a result, whole. Raises UnwritableError, and BrokenPipeError where nobody reads any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwritableError(f"the output could not be written: {(error.strerror or str(error)).lower()}") from None
