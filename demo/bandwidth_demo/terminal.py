"""A terminal for a program that fills a screen: keys go in, and what it shows comes out, colours and all.

It is tmux without anybody in front of it. Knows nothing of the program; the terminal ends with the block that made it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from rich.ansi import AnsiDecoder
from rich.text import Text

from bandwidth_lab.namespaces import Namespace

SECONDS = 10.0  # for one command of tmux
LOOK_SECONDS = 0.2
SETTINGS = """
set -g status off
set -g remain-on-exit on
set -gq remain-on-exit-format ""
set -s escape-time 0
"""


class TerminalError(Exception):
    """The program ended, or its screen never showed what was waited for; the message holds the screen."""


class Terminal:
    """One program in a terminal of its own. Made by `opened`."""

    def __init__(self, socket: pathlib.Path) -> None:
        self._socket = socket

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names: `l`, `Enter`, `C-u`."""
        self._tmux("send-keys", *keys)

    def write(self, text: str) -> None:
        """Press the keys of a text."""
        self._tmux("send-keys", "-l", text)

    def lines(self) -> list[Text]:
        """Return what the screen shows, line by line, without what is empty at its end."""
        # Of all lines together: what is alike at the end of one line and the beginning of the next is said once.
        shown = list(AnsiDecoder().decode(self._tmux("capture-pane", "-p", "-e", "-N")))
        while shown and not shown[-1].plain.strip():
            shown.pop()
        return shown

    def until(
        self, what: str, holds: Callable[[Sequence[str]], bool], seconds: float, look: Callable[[list[Text]], None]
    ) -> list[Text]:
        """Wait until the screen is so and return it; `look` is called with each screen meanwhile."""
        patience = time.monotonic() + seconds
        while True:
            ended = self._ended()  # asked first, so that its last words are on the screen that is read now
            shown = self.lines()
            look(shown)
            plain = [line.plain for line in shown] or [""]
            if holds(plain):
                return shown
            if ended or time.monotonic() > patience:
                raise TerminalError(f"the screen does not show {what}:\n" + "\n".join(plain))
            time.sleep(LOOK_SECONDS)

    def _ended(self) -> bool:
        return self._tmux("list-panes", "-F", "#{pane_dead}").strip() == "1"

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *words], capture_output=True, text=True, timeout=SECONDS
        )
        if done.returncode:
            raise TerminalError(f"tmux {words[0]}: {done.stderr.strip()}")
        return done.stdout


@contextlib.contextmanager
def opened(
    where: Namespace, folder: pathlib.Path, command: Sequence[str], *, columns: int, rows: int
) -> Iterator[Terminal]:
    """Run a command in a namespace, in a terminal of so many columns and rows; end both with the block."""
    socket, settings = folder / "terminal", folder / "tmux.conf"
    settings.write_text(SETTINGS)
    words = ["tmux", "-u", "-S", str(socket), "-f", str(settings)]
    size = ["-x", str(columns), "-y", str(rows)]
    where.run(
        [*words, "new-session", "-d", *size, shlex.join(command)],
        env=os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
    )
    try:
        yield Terminal(socket)
    finally:
        subprocess.run(["tmux", "-S", str(socket), "kill-server"], capture_output=True, timeout=SECONDS)
