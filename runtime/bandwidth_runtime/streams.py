"""Prepares every program at its start: makes sure of descriptors 0 to 2, and resets inherited signal settings."""

from __future__ import annotations

import io
import os
import signal
import sys

_STDERR = 2


def prepare() -> None:
    """Open the standard descriptors that are closed, make stdout accept any text, and unblock and reset signals.

    With a standard descriptor closed (`2>&-`), the next socket would get its number. A file name that is not valid
    text must not stop a report from being printed.

    A shell without job control starts background programs with SIGINT ignored; it means stop to us all the same. With
    SIGCHLD ignored the exit code of a tool would be lost, and a blocked signal never arrives.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr is so by itself
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
