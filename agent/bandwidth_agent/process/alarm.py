"""Descriptors that become readable at a signal, and when the wall clock is set.

Owns the wake-up of signals, and a kernel timer that never expires and is cancelled by a step of the clock
(TFD_TIMER_CANCEL_ON_SET). They only wake the loop: by how much the clock moved is found by comparing clocks, which also
works without such a timer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
from collections.abc import Iterator

import structlog

log = structlog.get_logger("loop")

_REALTIME = 0
_ABSOLUTE, _CANCEL_ON_SET = 1, 2
_NEVER_SECONDS = min(9_000_000_000, 2 ** (8 * ctypes.sizeof(ctypes.c_long) - 1) - 1)


class _Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Moment), ("value", _Moment))


class ClockAlarm:
    """Wakes a selector at each step of the wall clock. Raises OSError if the kernel has no such timer."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = self._libc.timerfd_create(_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            self._arm()
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        return int(self._timer)

    def drain(self) -> bool:
        """Return whether the clock was set since the last call, and arm the timer again."""
        try:
            os.read(self._timer, 8)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
        self._arm()
        return True

    def close(self) -> None:
        os.close(self._timer)

    def _arm(self) -> None:
        timer = _Timer(_Moment(0, 0), _Moment(_NEVER_SECONDS, 0))
        flags = _ABSOLUTE | _CANCEL_ON_SET
        # A step between two calls is reported by the call itself (ECANCELED), which has armed the timer all the same.
        if self._libc.timerfd_settime(self._timer, flags, ctypes.byref(timer), None) and ctypes.get_errno() != (
            errno.ECANCELED
        ):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def woken_by_the_clock() -> Iterator[ClockAlarm | None]:
    """Yield a descriptor that a step of the wall clock makes readable; None: a step is noticed at the next turn."""
    try:
        made = ClockAlarm()
    except OSError as error:
        log.debug("no timer reports steps of the clock", error=str(error))
        yield None
        return
    with contextlib.closing(made):
        yield made


@contextlib.contextmanager
def woken_by_signals() -> Iterator[socket.socket]:
    """Yield a socket that every signal makes readable, so that a signal ends every wait."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    wake_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(wake_before)
        ours.close()
        theirs.close()
