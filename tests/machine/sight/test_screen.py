"""The screen on a pseudo-terminal: what is written to it, and that it is given back as it was, whatever happens."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping

import pytest

PATIENCE_SECONDS = 30.0
# A source with two clients, one of them at its limit, which does at its third snapshot what the test asks for.
PROGRAM = """
import sys
from bandwidth_api import addresses
from bandwidth_sight import screen
from bandwidth_sight.rows import Hold, Rate, Row, Snapshot
from bandwidth_sight.source import SourceError

rates = (Rate(5e6, 100, 1e10),) * 3
ROWS = (
    Row(addresses.network("192.0.2.7"), rates, 1e6),
    Row(addresses.network("192.0.2.8"), rates, 1e6, holds=(Hold("web", 5_000_000, True, False),)),
)

class Source:
    polled = 0
    closed = False
    def descriptors(self): return ()
    def networks(self): return ()
    def pause(self): pass
    def resume(self): pass
    def close(self): sys.stderr.write("closed\\n")
    def refusal(self, client): return "it is protected"
    def poll(self):
        self.polled += 1
        if self.polled == 3:
            if "ends" in sys.argv: raise SourceError("no more of it")
            if "breaks" in sys.argv: raise ZeroDivisionError("a bug")
        return Snapshot(0.0, 1.0, ROWS, interfaces=("eth0",))

why_not = screen.unusable()
if why_not:
    sys.exit(why_not)
try:
    code = screen.run(Source())
except SourceError as error:
    sys.exit(f"source: {error}")
sys.exit(128 + code if code else 0)
"""


class Running:
    """The program on a terminal of its own."""

    def __init__(self, folder: pathlib.Path, *words: str, environment: Mapping[str, str]) -> None:
        self.terminal, self._slave = pty.openpty()
        termios.tcsetwinsize(self._slave, (24, 80))
        self.before = termios.tcgetattr(self._slave)
        self._errors = folder / "errors"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", PROGRAM, *words],
                stdin=self._slave,
                stdout=self._slave,
                stderr=errors,
                env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, **environment},
                start_new_session=True,
            )
        self.written = b""

    def read(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and select.select([self.terminal], [], [], left)[0]:
            self.written += os.read(self.terminal, 65536)

    def until(self, words: bytes) -> None:
        ends = time.monotonic() + PATIENCE_SECONDS
        while words not in self.written:
            assert time.monotonic() < ends, (words, self.written[-2000:], self._errors.read_text())
            self.read(0.05)

    def type(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def ended(self) -> int:
        ends = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < ends, self.written[-2000:]
            self.read(0.05)
        self.read(0.05)
        return self.process.returncode

    def errors(self) -> str:
        return self._errors.read_text()

    def modes(self) -> list[object]:
        """The terminal's modes now; its speeds are none of ours."""
        return list(termios.tcgetattr(self._slave))

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        for descriptor in (self.terminal, self._slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def hang_up(self) -> None:
        os.close(self._slave)
        os.close(self.terminal)


@contextlib.contextmanager
def running(folder: pathlib.Path, *words: str, **environment: str) -> Iterator[Running]:
    made = Running(folder, *words, environment={"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | environment)
    try:
        yield made
    finally:
        made.close()


def test_the_prompt_comes_to_an_empty_line(tmp_path: pathlib.Path) -> None:
    """A terminal without a second screen keeps what was drawn, and its last line is where the shell goes on."""
    with running(tmp_path, TERM="vt100") as shown:
        shown.until(b"192.0.2.8")
        shown.until(b"q quit")
        drawn = len(shown.written)
        shown.type(b"q")
        assert shown.ended() == 0
        assert b"\x1b[J" in shown.written[drawn:]  # to the end of the screen


@pytest.mark.parametrize(
    ("words", "keys", "number", "code", "says"),
    [
        ((), b"q", 0, 0, "closed"),
        ((), b"\x03", 0, 0, "closed"),
        ((), b"", signal.SIGTERM, 128 + signal.SIGTERM, "closed"),
        ((), b"", signal.SIGHUP, 128 + signal.SIGHUP, "closed"),
        ((), b"", signal.SIGINT, 128 + signal.SIGINT, "closed"),
        (("ends",), b"", 0, 1, "closed\nsource: no more of it"),
        (("breaks",), b"", 0, 1, "ZeroDivisionError: a bug"),
    ],
    ids=["q", "Ctrl-C", "TERM", "HUP", "INT", "the source ends", "a bug"],
)
def test_the_terminal_is_given_back(
    tmp_path: pathlib.Path, words: tuple[str, ...], keys: bytes, number: int, code: int, says: str
) -> None:
    """Its modes are as before, its cursor is seen, the first screen is back, the source is closed."""
    with running(tmp_path, *words) as program:
        program.until(b"192.0.2.7")
        if keys:
            program.type(keys)
        if number:
            program.process.send_signal(number)
        assert program.ended() == code
        assert says in program.errors()
        assert program.modes() == program.before
        assert program.written.rindex(b"\x1b[?1049l") > program.written.rindex(b"\x1b[?1049h")
        assert program.written.rindex(b"\x1b[?25h") > program.written.rindex(b"\x1b[?25l")


def test_a_terminal_that_is_gone_ends_it(tmp_path: pathlib.Path) -> None:
    """Closed without a signal that is handled, as by a lost connection; it does not spin."""
    with running(tmp_path) as program:
        program.until(b"192.0.2.7")
        program.hang_up()
        assert program.process.wait(timeout=PATIENCE_SECONDS) in (1, 128 + signal.SIGHUP)
        assert "closed" in program.errors()


@pytest.mark.parametrize(
    ("environment", "colors"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "vt100"}, False)],
    ids=["colours", "NO_COLOR", "vt100"],
)
def test_colours_only_where_they_are_wanted(tmp_path: pathlib.Path, environment: dict[str, str], colors: bool) -> None:
    """A client at its limit is yellow on a terminal that has it, and bold on others."""
    with running(tmp_path, **environment) as program:
        program.until(b"192.0.2.8")
        assert (b"\x1b[33m" in program.written) is colors
        program.type(b"q")
        assert program.ended() == 0


def test_letters_that_the_terminal_lacks_are_replaced(tmp_path: pathlib.Path) -> None:
    """In a locale without them it goes on, with `-` for a dash."""
    with running(tmp_path, LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0") as program:
        program.until(b"192.0.2.8")
        program.type(b"?")
        program.until(b"relative standard error")
        program.type(b"q")
        program.type(b"q")
        assert program.ended() == 0


def test_a_refusal_is_shown_and_no_form_is_opened(tmp_path: pathlib.Path) -> None:
    """What the source says about a client is what is read."""
    with running(tmp_path) as program:
        program.until(b"192.0.2.7")
        program.type(b"l")
        program.until(b"it is protected")
        assert b"Slow down" not in program.written
        program.type(b"q")
        assert program.ended() == 0


@pytest.mark.parametrize(
    ("term", "says"), [("dumb", "TERM names none"), ("no-such", "does not know the terminal 'no-such'")]
)
def test_a_terminal_that_cannot_be_drawn_on_is_said(tmp_path: pathlib.Path, term: str, says: str) -> None:
    """Before anything is opened."""
    with running(tmp_path, TERM=term) as program:
        assert program.ended() == 1
        assert says in program.errors()
        assert "closed" not in program.errors()


def test_an_xterm_by_another_name_is_one(tmp_path: pathlib.Path) -> None:
    """A name that this system does not know, of a terminal that is an xterm."""
    with running(tmp_path, TERM="xterm-nobody-knows-it") as program:
        program.until(b"192.0.2.7")
        program.type(b"q")
        assert program.ended() == 0


def test_without_a_shell_it_is_not_suspended(tmp_path: pathlib.Path) -> None:
    """Who leads its session could not be brought back: Ctrl-Z says so, and goes on."""
    with running(tmp_path) as program:
        program.until(b"192.0.2.7")
        program.type(b"\x1a")
        program.until(b"no shell to go back to")
        program.type(b"q")
        assert program.ended() == 0


def test_no_terminal_is_said() -> None:
    """Also where only the input is none."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "needs a terminal" in done.stderr
