"""The screen on a terminal: waits for keys and for snapshots, draws, and has done what keys ask for.

Owns the terminal while it runs, and gives it back as it was, whatever happens: a signal, an error, Ctrl-Z. Decides
nothing: what a key does is in `keys`, what is to be seen in `drawing`.
"""

from __future__ import annotations

import contextlib
import curses
import locale
import os
import select
import signal
import sys
from collections.abc import Iterator

from bandwidth_sight import drawing, effects, keys, view
from bandwidth_sight.source import Source

WAKE_SECONDS = 1.0  # the longest time until the source is asked again
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_DEAF_MAX = 3  # so often in a row the terminal may have something to read and no key: it is gone
_DISTINCT_COLORS = 8

_NAMED = {
    curses.KEY_UP: "UP",
    curses.KEY_DOWN: "DOWN",
    curses.KEY_LEFT: "LEFT",
    curses.KEY_RIGHT: "RIGHT",
    curses.KEY_PPAGE: "PAGE-UP",
    curses.KEY_NPAGE: "PAGE-DOWN",
    curses.KEY_HOME: "HOME",
    curses.KEY_END: "END",
    curses.KEY_ENTER: "ENTER",
    curses.KEY_BACKSPACE: "BACKSPACE",
    curses.KEY_DC: "DELETE",
    curses.KEY_BTAB: "BACK-TAB",
}
_CONTROL = {"\n": "ENTER", "\r": "ENTER", "\t": "TAB", "\x1b": "ESC", "\x7f": "BACKSPACE", "\b": "BACKSPACE"}
# For a terminal that has no such letters; each takes one cell too.
_PLAIN_LETTERS = str.maketrans({"…": "~", "–": "-", "±": "+", "↑": "^", "↓": "v"})


def unusable() -> str:
    """Return why there can be no screen here; "" if there can."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "the screen needs a terminal, and this is none"
    if os.environ.get("TERM", "dumb") == "dumb":
        return "the screen needs a terminal that can be drawn on, and TERM names none"
    named = os.environ["TERM"]
    if not _known(named):
        # Many terminals are an xterm with a name of their own, which small images do not know.
        if not (named.startswith("xterm-") and _known("xterm")):
            return f"this system does not know the terminal {named!r} (TERM=xterm may do)"
        os.environ["TERM"] = "xterm"
    return "" if curses.tigetstr("cup") else f"the terminal {named!r} cannot place its cursor"


def _known(name: str) -> bool:
    try:
        curses.setupterm(name)
    except curses.error:
        return False
    return True


def run(source: Source, begun: view.View | None = None) -> int:
    """Show a source until a key or a signal ends it; return the signal, 0 for a key. Closes the source.

    `begun`: the view to begin with. Raises SourceError when the source has no more.
    """
    with contextlib.closing(source), _signals() as noticed, _terminal() as window:
        return _Screen(source, window, noticed, begun or view.View()).run()


class _Noticed:
    """Signals that came, and a descriptor that becomes readable when one does."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.numbers: list[int] = []

    def take(self) -> list[int]:
        with contextlib.suppress(BlockingIOError):
            while os.read(self.descriptor, 512):
                pass
        taken, self.numbers = self.numbers, []
        return taken


@contextlib.contextmanager
def _signals() -> Iterator[_Noticed]:
    """Notice signals instead of being ended or stopped by them, so that the terminal is given back first."""
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    noticed = _Noticed(read)
    numbers = (*_ENDING, signal.SIGWINCH, signal.SIGTSTP)
    before = {number: signal.signal(number, lambda came, _: noticed.numbers.append(came)) for number in numbers}
    woken = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield noticed
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


@contextlib.contextmanager
def _terminal() -> Iterator[curses.window]:
    """Take the terminal, and give it back as it was."""
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "")
    with contextlib.suppress(curses.error):
        curses.set_escdelay(50)  # Esc alone counts after so many milliseconds
    window = curses.initscr()
    try:
        curses.noecho()
        curses.raw()  # Ctrl-C and Ctrl-Z are keys, so that no signal comes in the middle of a drawing
        window.keypad(True)
        window.nodelay(True)
        yield window
    finally:
        # Not every terminal has a second screen to leave: on others the prompt comes to the last line.
        with contextlib.suppress(curses.error):
            window.move(window.getmaxyx()[0] - 1, 0)
            window.clrtoeol()
            window.refresh()
        window.keypad(False)
        with contextlib.suppress(curses.error):
            curses.curs_set(1)
        with contextlib.suppress(curses.error):
            curses.noraw()
            curses.echo()
            curses.endwin()


class _Screen:
    def __init__(self, source: Source, window: curses.window, noticed: _Noticed, begun: view.View) -> None:
        self._source = source
        self._window = window
        self._noticed = noticed
        self._looked = begun
        self._styles = _styles()
        self._deaf = 0
        self._ended_by: int | None = None

    def run(self) -> int:
        self._resize()  # curses believes LINES and COLUMNS in the environment, which may be of another terminal
        while self._ended_by is None:
            snapshot = self._source.poll()
            if snapshot is not None:
                self._looked = view.took(self._looked, snapshot, tuple(self._source.networks()))
            self._draw()
            readable = self._wait()
            for number in self._noticed.take():
                self._notice(number)
            if sys.stdin.fileno() in readable and self._ended_by is None:
                self._read_keys()
        return self._ended_by

    def _wait(self) -> set[int]:
        """Wait for a key, a signal, the source or the time; return what is readable."""
        waiting = select.poll()
        for descriptor in (sys.stdin.fileno(), self._noticed.descriptor, *self._source.descriptors()):
            waiting.register(descriptor, select.POLLIN)
        return {descriptor for descriptor, _ in waiting.poll(WAKE_SECONDS * 1000)}

    def _notice(self, number: int) -> None:
        if number in _ENDING:
            self._ended_by = number
        elif number == signal.SIGTSTP:
            self._suspend()
        elif number == signal.SIGWINCH:
            self._resize()

    def _resize(self) -> None:
        with contextlib.suppress(OSError, curses.error):
            size = os.get_terminal_size(sys.stdout.fileno())
            if size.lines and size.columns:
                curses.resizeterm(size.lines, size.columns)
            self._window.clear()  # what was there may have moved: all of it is drawn again

    # ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_keys(self) -> None:
        """Take all keys that were pressed, drawing only after the last."""
        found = False
        while self._ended_by is None:
            try:
                pressed = self._window.get_wch()
            except curses.error:
                break
            found = True
            if pressed == curses.KEY_RESIZE:
                continue  # it says that `_resize` was called
            name = _NAMED.get(pressed, "") if isinstance(pressed, int) else _name(pressed)
            if name:
                self._looked, effect = keys.press(self._looked, name)
                if effect is not None:
                    self._do(effect)
        self._deaf = 0 if found else self._deaf + 1
        if self._deaf >= _DEAF_MAX:
            self._ended_by = signal.SIGHUP

    def _do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Quit():
                self._ended_by = 0
            case effects.Suspend():
                self._suspend()
            case _:
                words = effects.waiting(effect)
                self._looked = keys.said(self._looked, words)
                self._draw()
                self._looked = keys.answered(self._looked, effect, effects.perform(effect, self._source))

    def _suspend(self) -> None:
        """Give the terminal back, stop as the shell wants it, and go on where it was when it is in front again."""
        if os.getsid(0) == os.getpid():  # as with `kubectl exec`: there is no shell that could bring it back
            self._looked = keys.said(self._looked, "there is no shell to go back to; q quits", failed=True)
            return
        self._source.pause()
        curses.def_prog_mode()
        curses.endwin()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(0, signal.SIGTSTP)  # the whole job, as the terminal itself does it
        signal.signal(signal.SIGTSTP, handler)
        curses.reset_prog_mode()
        self._resize()
        self._source.resume()

    # ── drawing ────────────────────────────────────────────────────────────────────────────────────────────────

    def _draw(self) -> None:
        window = self._window
        height, width = window.getmaxyx()
        self._looked = view.settled(self._looked, drawing.row_lines(self._looked, height), width)
        drawn = drawing.draw(self._looked, width, height)
        window.erase()
        for number, line in enumerate(drawn.lines):
            with contextlib.suppress(curses.error):  # the last cell of the last line cannot be passed
                window.addstr(number, 0, _encodable(line.text, window.encoding), self._styles[line.style])
        with contextlib.suppress(curses.error):
            curses.curs_set(1 if drawn.cursor is not None else 0)
            if drawn.cursor is not None:
                window.move(*drawn.cursor)
        window.refresh()


def _name(letter: str) -> str:
    """Return the name of a key that came as a letter; "" for one that has none."""
    if letter in _CONTROL:
        return _CONTROL[letter]
    if letter < " ":
        return f"CTRL-{chr(ord(letter) + 64)}"
    return letter if letter.isprintable() else ""


def _encodable(text: str, encoding: str) -> str:
    """Return the text in letters that the terminal has."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN_LETTERS).encode(encoding, "replace").decode(encoding)
    return text


def _styles() -> dict[str, int]:
    """Return how each style looks here: by brightness alone where there are no colours or none are wanted."""
    yellow, red = curses.A_BOLD, curses.A_BOLD
    if "NO_COLOR" not in os.environ and curses.has_colors():
        with contextlib.suppress(curses.error):
            curses.start_color()
            curses.use_default_colors()
            if curses.COLORS >= _DISTINCT_COLORS:
                curses.init_pair(1, curses.COLOR_YELLOW, -1)
                curses.init_pair(2, curses.COLOR_RED, -1)
                yellow, red = curses.color_pair(1), curses.color_pair(2)
    return {
        drawing.PLAIN: curses.A_NORMAL,
        drawing.TITLE: curses.A_BOLD,
        drawing.HEAD: curses.A_REVERSE,
        drawing.SELECTED: curses.A_REVERSE | curses.A_BOLD,
        drawing.LIMITED: yellow,
        drawing.DIM: curses.A_DIM,
        drawing.ERROR: red,
    }
