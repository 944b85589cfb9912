"""A terminal of its own, in tmux: a program on it, keys that are really typed, and what is really to be seen.

Each has a server of its own, on a socket in the folder that is handed in, and never touches another one.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.05

Run = Callable[[Sequence[str]], str]


class Terminal:
    """One pane. `run` runs a command where the program is to be, such as a namespace, and returns what it printed."""

    def __init__(self, run: Run, socket: pathlib.Path) -> None:
        self._run, self._socket = run, socket

    def tmux(self, *words: str) -> str:
        return self._run(["tmux", "-S", str(self._socket), "-f", "/dev/null", *words])

    def type(self, *keys: str) -> None:
        """Press keys by tmux's names: `Up`, `PPage`, `Escape`, `Enter`, `C-z`, or a single letter."""
        self.tmux("send-keys", *keys)

    def write(self, text: str) -> None:
        """Type a text letter by letter."""
        self.tmux("send-keys", "-l", text)

    def lines(self) -> list[str]:
        """Return what is to be seen now, one line each."""
        return self.tmux("capture-pane", "-p").split("\n")

    def text(self) -> str:
        return "\n".join(self.lines())

    def until(self, wanted: Callable[[str], bool] | str, patience_seconds: float = PATIENCE_SECONDS) -> str:
        """Wait until a text is to be seen, or what is seen is as wanted; return what is seen then."""
        holds = (lambda seen: wanted in seen) if isinstance(wanted, str) else wanted
        ends = time.monotonic() + patience_seconds
        while not holds(seen := self.text()):
            assert time.monotonic() < ends, f"{wanted!r} was not to be seen:\n{seen}"
            time.sleep(_POLL_SECONDS)
        return seen

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", str(width), "-y", str(height))


@contextlib.contextmanager
def terminal(
    run: Run,
    folder: pathlib.Path,
    *,
    width: int = 80,
    height: int = 24,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """A terminal with a plain shell on it."""
    made = Terminal(run, folder / "tmux")
    variables = [word for name, value in (environment or {}).items() for word in ("-e", f"{name}={value}")]
    made.tmux("new-session", "-d", "-x", str(width), "-y", str(height), *variables, "env PS1='$ ' sh")
    try:
        yield made
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            made.tmux("kill-server")
