"""The demonstration, stopped in the middle. Run to its end it is `make demo`."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from rich.style import Style

from bandwidth_demo import terminal
from bandwidth_lab.namespaces import NETNS, Lab, Namespace

pytestmark = pytest.mark.root

# As a shell starts it in front or, without job control, in the background; whatever these tests were started with.
STARTED = """
import os, signal, sys
signal.signal(int(sys.argv[1]), getattr(signal, sys.argv[2]))
os.execv(sys.executable, [sys.executable, "-m", "bandwidth_demo"])
"""
ROOT = pathlib.Path(__file__).resolve().parents[3]
PATHS = f"{ROOT}/tests/lab:{ROOT}/demo"


@pytest.mark.parametrize(
    ("number", "inherited", "moment"),
    [
        (signal.SIGINT, "SIG_DFL", "greedy IPv4"),  # traffic flows
        (signal.SIGINT, "SIG_IGN", "greedy IPv4"),
        (signal.SIGTERM, "SIG_DFL", "greedy IPv4"),
        (signal.SIGHUP, "SIG_DFL", "greedy IPv4"),
        (signal.SIGINT, "SIG_DFL", "Who is it?"),  # a terminal is open
    ],
    ids=["SIGINT", "SIGINT-in-the-background", "SIGTERM", "SIGHUP", "SIGINT-beside-top"],
)
def test_a_demonstration_stopped_in_the_middle_leaves_nothing(
    number: int, inherited: str, moment: str, tmp_path: pathlib.Path
) -> None:
    """Ctrl-C ends it with 130, and no namespace, process or temporary folder of it is left."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTED, str(int(number)), inherited],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": PATHS, "TMPDIR": str(tmp_path)},
    ) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        assert any(moment in line for line in lines)
        demo.send_signal(number)
        _, complaints = demo.communicate(timeout=30)
    assert (demo.returncode, complaints) == (130, "")
    assert not list(NETNS.glob(f"lab-demo-{demo.pid}-*"))
    assert not list(tmp_path.iterdir())


def test_a_demonstration_says_how_the_picture_must_be_called() -> None:
    """A name that is not an SVG's is refused before anything is made."""
    done = subprocess.run(
        [sys.executable, "-m", "bandwidth_demo", "--plot", "demo.png"],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": PATHS},
    )
    assert done.returncode == 2
    assert "ends in .svg" in done.stderr


def pids(where: Namespace) -> str:
    """What runs in a namespace."""
    return subprocess.run(["ip", "netns", "pids", where.name], capture_output=True, text=True, check=True).stdout


def test_a_terminal_takes_keys_and_shows_what_a_program_draws(tmp_path: pathlib.Path) -> None:
    """What is typed arrives, what is drawn is read with its attributes, and nothing runs on after the block."""
    program = 'stty -echo; printf "\\033[7mname?\\033[0m "; read -r name; printf "hello %s\\n" "$name"; exec sleep 600'
    with Lab("lab-terminal-") as lab:
        where = lab.namespace("one")
        with terminal.opened(where, tmp_path, ["sh", "-c", program], columns=40, rows=6) as shown:
            (line,) = shown.until("the question", lambda screen: "name?" in screen[0], 20, lambda _: None)
            shown.write("C-u; Enter")
            shown.press("Enter")
            lines = shown.until("the answer", lambda screen: "hello C-u; Enter" in screen[0], 20, lambda _: None)
        patience = time.monotonic() + 20
        while (left := pids(where)) and time.monotonic() < patience:
            time.sleep(0.1)
        assert left == ""
    assert len(lines) == 1
    assert any(isinstance(span.style, Style) and span.style.reverse for span in line.spans)


def test_a_terminal_whose_program_ended_says_what_it_showed(tmp_path: pathlib.Path) -> None:
    """Waiting for a screen that will never come ends with the words of the program."""
    with Lab("lab-terminal-") as lab:
        where = lab.namespace("one")
        command = ["sh", "-c", "echo out of order; exit 1"]
        with (
            terminal.opened(where, tmp_path, command, columns=40, rows=6) as shown,
            pytest.raises(terminal.TerminalError, match="out of order"),
        ):
            shown.until("anything", lambda _: False, 20, lambda _: None)
