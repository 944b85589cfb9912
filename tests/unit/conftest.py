"""Unit tests are pure: one that reaches for the network, for another program or for real time fails, and says so.

What really needs them is in `tests/machine`. Pipes and pairs of sockets inside one process are allowed, and so are
threads; a wait for a thread with a time-out is not noticed.
"""

from __future__ import annotations

import gc
import logging
import socket
import sys
import time
from collections.abc import Iterator

import inotify_simple
import pytest
import structlog

# As CPython raises them (https://docs.python.org/3/library/audit_events.html), whichever library is used.
REFUSED = frozenset({"socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"})

_guarded = False


class NotPureError(BaseException):
    """Not an Exception, so that what a test is about cannot take it for a failure that it must survive."""


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over what stays until the end anyway, and look less often at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if not _guarded:
        return
    opened = event == "socket.__new__" and arguments[1] not in (socket.AF_UNIX, -1)
    if opened or event in REFUSED:
        raise NotPureError(f"a unit test must not do this: {event} {arguments[1:]}; move it to tests/machine")


def _awake(seconds: float) -> None:
    raise NotPureError(f"a unit test must not do this: sleep {seconds} s; hand in a clock, or move it to tests/machine")


inotify_simple.INotify().close()  # asks other programs for the C library, the first time in a process
sys.addaudithook(_refuse)  # for the life of the process: it cannot be removed


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Leave the logging of the test run as it was: a program sets it up for the outputs that its test has."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:], logging.root.level = handlers, level


@pytest.fixture(autouse=True)
def _pure(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Guard the test and everything that it runs."""
    global _guarded
    monkeypatch.setattr(time, "sleep", _awake)
    _guarded = True
    yield
    _guarded = False
