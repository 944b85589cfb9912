"""What each signal means to a program that runs until it is stopped; the same for both programs.

    signal                 means
    ─────────────────────  ────────────────────────────────────────────────────────────────────────────────
    SIGTERM SIGINT SIGQUIT stop
    SIGHUP                 the terminal was closed, or a reload is asked for: continue, and read everything again
    SIGUSR1 SIGUSR2        nothing; they are logged, because by default they would end the process without a message
    SIGPIPE                nothing: the write that caused it gets an error

These meanings hold even where the program was started with signals ignored (`nohup`, a background job of a shell).
Owns the signal handlers of the process.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
AGAIN = (signal.SIGHUP,)
NOTHING = (signal.SIGUSR1, signal.SIGUSR2)


class Received:
    """The signals that have arrived and were not taken yet, in the order of their arrival."""

    def __init__(self, stop: Callable[[], None], on_signal: Callable[[signal.Signals], None] | None) -> None:
        self._stop = stop
        self._on_signal = on_signal
        self._came: deque[signal.Signals] = deque()

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler: stops on a stop signal, and passes the signal on or keeps it for `take`."""
        came = signal.Signals(number)
        if came in STOP:
            self._stop()
        if self._on_signal is not None:
            self._on_signal(came)
        else:
            self._came.append(came)

    def take(self) -> list[signal.Signals]:
        """Return the signals that arrived since the last call."""
        taken = []
        while self._came:
            taken.append(self._came.popleft())
        return taken


def outlive() -> None:
    """Ignore the signals that do not mean stop, until `received` handles them; by default they end the process."""
    for number in (*AGAIN, *NOTHING):
        signal.signal(number, lambda *_: None)


@contextmanager
def received(
    stop: Callable[[], None], *, on_signal: Callable[[signal.Signals], None] | None = None, ends_process: bool = True
) -> Iterator[Received]:
    """Handle all of these signals inside the `with` block, and call `stop` for those that mean stop.

    `on_signal` is called from the handler, for programs that never call `take`. `ends_process`: the process ends after
    the block, and a second signal does not interrupt that; only SIGINT, from a person at a terminal, still does.
    """
    taken = Received(stop, on_signal)
    before = {number: signal.signal(number, taken.handle) for number in (*STOP, *AGAIN, *NOTHING)}
    try:
        yield taken
    finally:
        for number, handler in before.items():
            last = ends_process and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if last else handler or signal.SIG_DFL)
